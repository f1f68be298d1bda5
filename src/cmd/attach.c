/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/cmd.h"
#include "cmd/machine.h"
#include "host/device/address.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

static const char attach_usage[] =
	"Usage: penstock attach NAME ADDRESS\n"
	"Give a running machine one more PCI device: it is taken from its driver, with those that share\n"
	"its IOMMU group, and appears in the guest.\n"
	"\n"
	"      --help   show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"The machine needs an empty port ('penstock run --ports').\n"
	"Exit status: 0 the guest has it, 1 failed, and the device is where it was, 2 wrong usage.\n";

static const char detach_usage[] =
	"Usage: penstock detach [--force] NAME ADDRESS\n"
	"Take a PCI device back from a running machine: the guest is asked to let go of it, then it goes\n"
	"to its driver on the host.\n"
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

static void add_text(json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, json_object_new_string(text));
}

static int attach_by_name(struct control_client *client, const struct host *host,
	const char *device, struct error *err)
{
	const struct machine_wait wait = {
		.host = host,
		.doing = "the device to leave its driver",
		.hint = "'dmesg | tail' may tell what the kernel waits for",
	};
	json_object *arguments = json_object_new_object();

	add_text(arguments, "driver", "vfio-pci");
	add_text(arguments, "host", device);
	add_text(arguments, "id", device);
	return cmd_machine_run(client, &wait, "device_add", arguments, err);
}

static int detach_device(struct control_client *client, const struct host *host, const char *device,
	bool force, struct error *err)
{
	const struct machine_wait wait = {
		.host = host,
		.doing = force ? "the machine to close the device" : "the guest to let go of it",
		.hint = "the guest's log may tell what uses it; 'penstock detach --force' takes it away",
	};
	json_object *arguments = json_object_new_object();

	add_text(arguments, "id", device);
	if (force)
		json_object_object_add(arguments, "force", json_object_new_boolean(true));
	if (cmd_machine_run(client, &wait, "device_del", arguments, err))
		return err->code;
	return cmd_machine_await(client, &wait, "DEVICE_DELETED", device, err);
}

/* detach: or attach. */
static int change_device(const struct arguments *arguments, bool detach)
{
	struct error err = { 0 };
	struct control_client client;
	char device[BDF_TEXT];
	struct host host;
	struct bdf bdf;

	if (cmd_machine_connect(&client, &host, arguments->name, &err) == 0 &&
		host_address_find_one(&host, arguments->address, &bdf, &err) == 0) {
		bdf_format(&bdf, device);
		if (detach)
			detach_device(&client, &host, device, arguments->force, &err);
		else
			attach_by_name(&client, &host, device, &err);
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
