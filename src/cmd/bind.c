/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/binding/bind.h"
#include "cmd/cmd.h"
#include "host/binding/node.h"
#include "host/device/address.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
	"Usage: penstock bind [OPTION]... ADDRESS...\n"
	"Give PCI devices to vfio-pci, for programs that pass them to virtual machines. They stay\n"
	"there until 'penstock release' or the next boot.\n"
	"\n"
	"A device that shares its IOMMU group with others can be passed only when no host driver has\n"
	"any of the group, so those others are bound as well. Either all of it succeeds, or all\n"
	"devices keep their drivers. A device that the host is using is refused: a disk that is\n"
	"mounted, swap, or open in a program, a network card with the default route, the boot display,\n"
	"a graphics card that a program has open.\n"
	"\n"
	"      --user NAME  let this user open the devices, to run machines without root; until\n"
	"                   'penstock release'\n"
	"      --group      first show the IOMMU groups of the devices\n"
	"      --force      take devices that the host is using\n"
	"      --dry-run    check everything and say what would be done, but change nothing\n"
	"      --help       show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage.\n";

enum { OPTION_USER = 256, OPTION_GROUP, OPTION_FORCE, OPTION_DRY_RUN, OPTION_HELP };

static const struct option long_options[] = {
	{ "user", required_argument, NULL, OPTION_USER },
	{ "group", no_argument, NULL, OPTION_GROUP },
	{ "force", no_argument, NULL, OPTION_FORCE },
	{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

struct arguments {
	struct bind_options options;
	const char *user;
	bool group;
	char **words;
	size_t count;
	struct bdf *devices;
};

/* -1: go on. Else the exit status. */
static int parse_bind(struct arguments *arguments, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_USER:
			arguments->user = optarg;
			break;
		case OPTION_GROUP:
			arguments->group = true;
			break;
		case OPTION_FORCE:
			arguments->options.force = true;
			break;
		case OPTION_DRY_RUN:
			arguments->options.dry_run = true;
			break;
		case OPTION_HELP:
			fputs(usage, stdout);
			return 0;
		default:
			return cmd_wrong_usage("bind", NULL);
		}
	}
	arguments->words = argv + optind;
	arguments->count = argc - optind;
	if (arguments->count)
		return -1;
	return cmd_wrong_usage("bind", "no device is given");
}

static int print_group(const struct host *host, int group, struct error *err)
{
	struct bdf members[HOST_GROUP_MAX];
	int count = host_group_devices(host, group, members, err);

	if (count < 0)
		return count;
	printf("IOMMU group %d:\n", group);
	for (int i = 0; i < count; i++) {
		struct host_device device;
		char name[BDF_TEXT];

		if (host_device_read(host, &members[i], &device, err))
			return err->code;
		printf("  %s [%04x:%04x] %s%s\n", bdf_format(&device.bdf, name), device.vendor,
			device.device, device.driver[0] ? device.driver : "no driver",
			host_device_is_bridge(&device) ? " (bridge, stays)" : "");
	}
	return 0;
}

static bool group_was_printed(
	const struct host *host, const struct bdf *devices, size_t count, int group)
{
	for (size_t i = 0; i < count; i++) {
		struct host_device device;
		struct error ignored = { 0 };

		if (host_device_read(host, &devices[i], &device, &ignored) == 0 &&
			device.group == group)
			return true;
	}
	return false;
}

static int print_groups_of(
	const struct host *host, const struct arguments *arguments, struct error *err)
{
	for (size_t i = 0; i < arguments->count; i++) {
		struct host_device device;
		int code = host_device_read(host, &arguments->devices[i], &device, err);

		if (code)
			return code;
		if (device.group < 0 ||
			group_was_printed(host, arguments->devices, i, device.group))
			continue;
		code = print_group(host, device.group, err);
		if (code)
			return code;
	}
	fflush(stdout);
	return 0;
}

/* 0 done, or a negative errno. */
static int bind_devices(
	const struct host *host, const struct arguments *arguments, struct error *err)
{
	uid_t user = 0;
	int code = 0;

	if (arguments->user)
		code = host_node_find_user(arguments->user, &user, err);
	if (code == 0 && arguments->group)
		code = print_groups_of(host, arguments, err);
	if (code == 0)
		code = host_bind(
			host, arguments->devices, arguments->count, &arguments->options, err);
	if (code == 0 && user && !arguments->options.dry_run)
		code = host_node_give(host, arguments->devices, arguments->count, user, err);
	return code;
}

static int bind_words(struct arguments *arguments)
{
	struct error err = { 0 };
	struct host host;
	int code = host_init(&host, NULL, NULL, &err), status = 1;
	ssize_t found = code ? code
			     : host_address_find_all(&host, arguments->words, arguments->count,
				       &arguments->devices, &err);

	if (found == -EINVAL)
		status = EXIT_USAGE;
	if (found >= 0) {
		arguments->count = found;
		code = bind_devices(&host, arguments, &err);
	}
	if (err.code)
		error_print(&err);
	return found >= 0 && code == 0 ? 0 : status;
}

int cmd_bind(int argc, char **argv)
{
	struct arguments arguments = { .options = { .owner = "bind", .persist = true } };
	int status = parse_bind(&arguments, argc, argv);

	if (status < 0)
		status = bind_words(&arguments);
	free(arguments.devices);
	return status;
}
