/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/cmd.h"
#include "cmd/named.h"
#include "cmd/output.h"
#include "control/member.h"

#include <getopt.h>
#include <stdio.h>

static const char usage[] =
	"Usage: penstock list [--json]\n"
	"Show the machines that run, with the devices of the host that they have and the programs that\n"
	"serve them, and those that a file describes by name: root's for root, and a user's own for\n"
	"others.\n"
	"\n"
	"      --json   the result as JSON; docs/json.md describes it\n"
	"      --help   show this text\n"
	"\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage.\n";

static void list_backend(json_object *backend)
{
	const char *pid = member_text(backend, "pid", NULL), *end = member_text(backend, "end", "");
	char text[NAMED_BACKEND];

	named_tell_backend(backend, text, sizeof(text));
	printf("  %-14s %8s  %-10s %s%s%s\n", member_text(backend, "serves", "-"), pid ? pid : "-",
		pid ? "running" : "ended", text, end[0] ? ": " : "", end);
}

static void print_machine(json_object *machine)
{
	json_object *devices = json_object_object_get(machine, "devices"),
		    *backends = json_object_object_get(machine, "backends");

	printf("%-16s %8s  %-10s", member_text(machine, "name", "-"),
		member_text(machine, "pid", "-"), member_text(machine, "status", "-"));
	for (size_t i = 0; i < json_object_array_length(devices); i++)
		printf(" %s", json_object_get_string(json_object_array_get_idx(devices, i)));
	putchar('\n');
	for (size_t i = 0; i < json_object_array_length(backends); i++)
		list_backend(json_object_array_get_idx(backends, i));
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
	machines = named_machines(&host);
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
