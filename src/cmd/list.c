/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "cmd/cmd.h"
#include "cmd/machine.h"
#include "cmd/output.h"
#include "control/member.h"
#include "host/journal/journal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SILENT_MS 2000 /* one that does not answer must not keep others from being listed */

static const char usage[] =
	"Usage: penstock list [--json]\n"
	"Show the machines that run, with the devices of the host that they have: root's for root, and a\n"
	"user's own for others.\n"
	"\n"
	"      --json   the result as JSON; docs/json.md describes it\n"
	"      --help   show this text\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage.\n";

/* "" where there is none. */
static void read_status(struct control_client *client, char *status, size_t size)
{
	struct error ignored = { 0 };
	json_object *result = control_client_run(client, "query-status", NULL, SILENT_MS, &ignored);

	snprintf(status, size, "%s", member_text(result, "status", ""));
	json_object_put(result);
}

/* The devices that a process holds. */
static json_object *list_devices(const struct host *host, pid_t pid)
{
	cleanup_free struct bdf *devices = NULL;
	json_object *list = json_object_new_array();
	struct error ignored = { 0 };
	ssize_t count = host_journal_list(host, &devices, &ignored);

	if (count > 0)
		qsort(devices, count, sizeof(*devices), bdf_compare);
	for (ssize_t i = 0; i < count; i++) {
		struct host_record record;
		char name[BDF_TEXT];

		if (host_journal_read(host, &devices[i], &record, &ignored) == 0 &&
			record.holder.pid == pid)
			json_object_array_add(
				list, json_object_new_string(bdf_format(&devices[i], name)));
	}
	return list;
}

/* NULL: nobody listens there any more. */
static json_object *describe_machine(const struct host *host, const char *name)
{
	char path[sizeof(host->run) + NAME_MAX + 2], status[64] = "";
	struct error ignored = { 0 };
	struct control_client client;
	json_object *machine = NULL;
	pid_t pid;
	int code;

	snprintf(path, sizeof(path), "%s/%s" MACHINE_SOCKET, host->run, name);
	code = control_client_open(&client, path, name, SILENT_MS, &ignored);
	if (code != -ENOENT) {
		if (!code)
			read_status(&client, status, sizeof(status));
		pid = client.fd < 0 ? 0 : control_client_peer(&client);
		machine = json_object_new_object();
		output_add_text(machine, "name", name);
		json_object_object_add(machine, "pid", pid ? json_object_new_int(pid) : NULL);
		output_add_text(machine, "status", status);
		json_object_object_add(machine, "devices", list_devices(host, pid));
	}
	control_client_close(&client);
	return machine;
}

static int is_socket(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name), end = strlen(MACHINE_SOCKET);

	return entry->d_name[0] != '.' && length > end &&
	       strcmp(entry->d_name + length - end, MACHINE_SOCKET) == 0;
}

static json_object *list_machines(const struct host *host)
{
	json_object *list = json_object_new_array();
	struct dirent **entries;
	int count = scandir(host->run, &entries, is_socket, alphasort);

	for (int i = 0; i < count; i++) {
		char *name = entries[i]->d_name;
		json_object *machine;

		name[strlen(name) - strlen(MACHINE_SOCKET)] = '\0';
		machine = describe_machine(host, name);
		if (machine)
			json_object_array_add(list, machine);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	return list;
}

static void print_machine(json_object *machine)
{
	json_object *devices = json_object_object_get(machine, "devices");

	printf("%-16s %8s  %-10s", member_text(machine, "name", "-"),
		member_text(machine, "pid", "-"), member_text(machine, "status", "-"));
	for (size_t i = 0; i < json_object_array_length(devices); i++)
		printf(" %s", json_object_get_string(json_object_array_get_idx(devices, i)));
	putchar('\n');
}

static void print_machines(json_object *machines)
{
	if (json_object_array_length(machines))
		printf("%-16s %8s  %-10s %s\n", "NAME", "PID", "STATUS", "DEVICES");
	for (size_t i = 0; i < json_object_array_length(machines); i++)
		print_machine(json_object_array_get_idx(machines, i));
}

static int run_list(bool json)
{
	json_object *object, *machines;
	struct error err = { 0 };
	struct host host;

	if (host_init(&host, NULL, NULL, &err)) {
		error_print(&err);
		return 1;
	}
	machines = list_machines(&host);
	if (!json) {
		print_machines(machines);
		json_object_put(machines);
		return 0;
	}
	object = output_new();
	json_object_object_add(object, "machines", machines);
	output_json(object);
	return 0;
}

int cmd_list(int argc, char **argv)
{
	bool json = false;
	int status = output_parse_options(argc, argv, "list", usage, &json);

	if (status >= 0)
		return status;
	if (optind < argc)
		return cmd_wrong_usage("list", "'%s' is no option", argv[optind]);
	return run_list(json);
}
