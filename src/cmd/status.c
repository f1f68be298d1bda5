/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/cmd.h"
#include "cmd/named.h"
#include "cmd/output.h"
#include "control/member.h"
#include "host/journal/names.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXIT_OFF 3 /* as of systemctl(1) */

static const char usage[] =
	"Usage: penstock status [--json] NAME\n"
	"Show what a machine is about: whether it runs, the file that describes it, its devices, and the\n"
	"programs that serve it.\n"
	"\n"
	"      --json   the result as JSON; docs/json.md describes it\n"
	"      --help   show this text\n"
	"\n"
	"Exit status: 0 it runs, 1 failed, or there is none of this name, 2 wrong usage, 3 it does not\n"
	"run.\n";

static void show_backend(json_object *backend)
{
	const char *pid = member_text(backend, "pid", NULL), *end = member_text(backend, "end", "");
	char text[NAMED_BACKEND];

	named_tell_backend(backend, text, sizeof(text));
	printf("  %-9s %s", member_text(backend, "serves", "-"), text);
	if (pid)
		printf(", process %s\n", pid);
	else
		printf(" has ended%s%s\n", end[0] ? ": " : "", end);
}

static void print_status(const struct host *host, json_object *machine)
{
	json_object *devices = json_object_object_get(machine, "devices"),
		    *backends = json_object_object_get(machine, "backends");
	const char *name = member_text(machine, "name", "");
	char messages[PATH_MAX];

	named_messages(host, name, messages);
	printf("%s: %s\n", name, member_text(machine, "status", "it does not answer"));
	printf("  process   %s\n", member_text(machine, "pid", "-"));
	printf("  file      %s\n", member_text(machine, "file", "-"));
	printf("  messages  %s\n", access(messages, F_OK) == 0 ? messages : "-");
	printf("  devices  %s", json_object_array_length(devices) ? "" : " -");
	for (size_t i = 0; i < json_object_array_length(devices); i++)
		printf(" %s", json_object_get_string(json_object_array_get_idx(devices, i)));
	putchar('\n');
	for (size_t i = 0; i < json_object_array_length(backends); i++)
		show_backend(json_object_array_get_idx(backends, i));
}

static int show(const char *name, bool json, struct error *err)
{
	json_object *machine, *object;
	struct host host;
	int code;

	if (host_init(&host, NULL, NULL, err) || host_name_check(name, err))
		return err->code == -EINVAL ? EXIT_USAGE : 1;
	machine = named_machine(&host, name);
	if (!machine) {
		error_set(err, -ENOENT, name, "no machine of this name runs or is described");
		error_hint(err, "'penstock list' shows those that are");
		return 1;
	}
	code = strcmp(member_text(machine, "status", ""), NAMED_OFF) == 0 ? EXIT_OFF : 0;
	if (!json) {
		print_status(&host, machine);
		json_object_put(machine);
		return code;
	}
	object = output_new();
	json_object_object_add(object, "machine", machine);
	output_json(object);
	return code;
}

int cmd_status(int argc, char **argv)
{
	struct error err = { 0 };
	bool json = false;
	int status = output_parse_options(argc, argv, "status", usage, &json);

	if (status >= 0)
		return status;
	if (argc - optind != 1)
		return cmd_wrong_usage("status", "give the name of one machine");
	status = show(argv[optind], json, &err);
	if (err.code)
		error_print(&err);
	return status;
}
