/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/cmd.h"
#include "cmd/machine.h"
#include "control/member.h"
#include "host/device/address.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char attach_usage[] =
	"Usage: penstock attach NAME ADDRESS\n"
	"Give a running machine one more PCI device: it is taken from its driver, with those that share\n"
	"its IOMMU group, and appears in the guest. All functions of a device appear at once, in one slot.\n"
	"\n"
	"      --help   show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"The machine needs an empty port ('penstock run --ports').\n"
	"Exit status: 0 the guest has it, 1 failed, and the device is where it was, 2 wrong usage.\n";

static const char detach_usage[] =
	"Usage: penstock detach [--force] NAME ADDRESS\n"
	"Take a PCI device back from a running machine: the guest is asked to let go of it, then it goes\n"
	"to its driver on the host. What is in one slot of the guest leaves together, as functions of one\n"
	"device are.\n"
	"\n"
	"      --force  take it without asking the guest, whose driver may lose data\n"
	"      --help   show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"Exit status: 0 it is back, 1 failed, or the guest has not let go within a minute, 2 wrong usage.\n";

enum { OPTION_FORCE = 256, OPTION_HELP };

static const struct option long_options[] = {
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "force", no_argument, NULL, OPTION_FORCE },
	{ 0 },
};

struct arguments {
	bool force;
	const char *name, *address;
};

/* -1: go on. Else the exit status. */
static int parse_device_arguments(struct arguments *arguments, int argc, char **argv,
	const char *command, const char *usage, bool may_force)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option == OPTION_HELP) {
			fputs(usage, stdout);
			return 0;
		}
		if (option != OPTION_FORCE || !may_force)
			return cmd_wrong_usage(
				command, option == OPTION_FORCE ? "there is no --force" : NULL);
		arguments->force = true;
	}
	if (argc - optind != 2)
		return cmd_wrong_usage(command, "give the name of a machine and a device");
	arguments->name = argv[optind];
	arguments->address = argv[optind + 1];
	return -1;
}

/* One device, or all functions that the host has of one. */
struct devices {
	struct bdf functions[HOST_ADDRESS_MAX];
	int count;
};

static void add_text(json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, json_object_new_string(text));
}

static int attach_devices(struct control_client *client, const struct host *host,
	const struct devices *devices, struct error *err)
{
	const struct machine_wait wait = {
		.host = host,
		.doing = "the device to leave its driver",
		.hint = "'dmesg | tail' may tell what the kernel waits for",
	};
	json_object *arguments = json_object_new_object();
	char name[BDF_TEXT];

	bdf_format(&devices->functions[0], name);
	if (devices->count > 1)
		*strrchr(name, '.') = '\0';
	add_text(arguments, "driver", "vfio-pci");
	add_text(arguments, "host", name);
	return cmd_machine_run(client, &wait, "device_add", arguments, NULL, err);
}

/* Those that query-pci tells of, with what is behind them. */
static void collect_functions(json_object *functions, json_object *devices)
{
	size_t count = json_object_is_type(devices, json_type_array)
			       ? json_object_array_length(devices)
			       : 0;

	for (size_t i = 0; i < count; i++) {
		json_object *device = json_object_array_get_idx(devices, i);

		json_object_array_add(functions, json_object_get(device));
		collect_functions(functions,
			json_object_object_get(
				json_object_object_get(device, "pci_bridge"), "devices"));
	}
}

static json_object *list_functions(json_object *buses)
{
	json_object *functions = json_object_new_array();
	size_t count =
		json_object_is_type(buses, json_type_array) ? json_object_array_length(buses) : 0;

	for (size_t i = 0; i < count; i++)
		collect_functions(functions,
			json_object_object_get(json_object_array_get_idx(buses, i), "devices"));
	return functions;
}

/* NULL: the guest does not have it. */
static json_object *find_function(json_object *functions, const char *host)
{
	for (size_t i = 0; i < json_object_array_length(functions); i++) {
		json_object *function = json_object_array_get_idx(functions, i);

		if (strcmp(member_text(function, "host", ""), host) == 0)
			return function;
	}
	return NULL;
}

static bool is_in(json_object *ids, const char *id)
{
	for (size_t i = 0; i < json_object_array_length(ids); i++)
		if (strcmp(json_object_get_string(json_object_array_get_idx(ids, i)), id) == 0)
			return true;
	return false;
}

/* Those that leave with a function, itself among them. */
static void add_slot(json_object *ids, json_object *functions, json_object *leaving)
{
	for (size_t i = 0; i < json_object_array_length(functions); i++) {
		json_object *function = json_object_array_get_idx(functions, i);

		if (member_number(function, "bus") == member_number(leaving, "bus") &&
			member_number(function, "slot") == member_number(leaving, "slot"))
			json_object_array_add(
				ids, json_object_new_string(member_text(function, "qdev_id", "")));
	}
}

static int ask_for_it(struct control_client *client, const struct machine_wait *wait,
	const char *id, bool force, struct error *err)
{
	json_object *arguments = json_object_new_object();

	add_text(arguments, "id", id);
	if (force)
		json_object_object_add(arguments, "force", json_object_new_boolean(true));
	return cmd_machine_run(client, wait, "device_del", arguments, NULL, err);
}

/* Each slot once. leaving: the ids of all that go. */
static int ask_for_all(struct control_client *client, const struct machine_wait *wait,
	const struct devices *devices, bool force, json_object *leaving, struct error *err)
{
	json_object *buses, *functions;
	char name[BDF_TEXT];

	if (cmd_machine_run(client, wait, "query-pci", NULL, &buses, err))
		return err->code;
	functions = list_functions(buses);
	for (int i = 0; i < devices->count && !err->code; i++) {
		json_object *function;

		bdf_format(&devices->functions[i], name);
		function = find_function(functions, name);
		if (!function || is_in(leaving, member_text(function, "qdev_id", "")))
			continue;
		add_slot(leaving, functions, function);
		ask_for_it(client, wait, name, force, err);
	}
	/* The machine says why not. */
	if (!json_object_array_length(leaving))
		ask_for_it(client, wait, name, force, err);
	json_object_put(functions);
	json_object_put(buses);
	return err->code;
}

static int detach_devices(struct control_client *client, const struct host *host,
	const struct devices *devices, bool force, struct error *err)
{
	const struct machine_wait wait = {
		.host = host,
		.doing = force ? "the machine to close the device" : "the guest to let go of it",
		.hint = "the guest's log may tell what uses it; 'penstock detach --force' takes it away",
	};
	json_object *leaving = json_object_new_array();

	if (ask_for_all(client, &wait, devices, force, leaving, err) == 0)
		cmd_machine_await(client, &wait, "DEVICE_DELETED", leaving, err);
	json_object_put(leaving);
	return err->code;
}

/* detach: or attach. */
static int change_device(const struct arguments *arguments, bool detach)
{
	struct error err = { 0 };
	struct control_client client;
	struct devices devices;
	struct host host;

	if (cmd_machine_connect(&client, &host, arguments->name, &err) == 0) {
		devices.count =
			host_address_find(&host, arguments->address, devices.functions, &err);
		if (devices.count > 0 && detach)
			detach_devices(&client, &host, &devices, arguments->force, &err);
		else if (devices.count > 0)
			attach_devices(&client, &host, &devices, &err);
	}
	control_client_close(&client);
	if (!err.code)
		return 0;
	error_print(&err);
	return err.code == -EINVAL ? EXIT_USAGE : 1;
}

int cmd_attach(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	int status = parse_device_arguments(&arguments, argc, argv, "attach", attach_usage, false);

	return status < 0 ? change_device(&arguments, false) : status;
}

int cmd_detach(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	int status = parse_device_arguments(&arguments, argc, argv, "detach", detach_usage, true);

	return status < 0 ? change_device(&arguments, true) : status;
}
