/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "cmd/cmd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{ "doctor", cmd_doctor,
		"find out what keeps devices from being passed, and what mends it" },
	{ "ls", cmd_ls, "show IOMMU groups and their devices" },
	{ "run", cmd_run, "run a virtual machine, with devices of this host" },
	{ "new", cmd_new, "describe a machine, with devices that this host can pass" },
	{ "config", cmd_config, "write and check files that describe virtual machines" },
	{ "start", cmd_start, "run a machine by its name, in the background" },
	{ "disk", cmd_disk, "make, copy and change images of disks" },
	{ "list", cmd_list, "show the machines that run, and those that files describe" },
	{ "status", cmd_status, "show whether a machine runs, and with which devices" },
	{ "stop", cmd_stop, "have a machine end" },
	{ "attach", cmd_attach, "give a running machine one more device" },
	{ "detach", cmd_detach, "take a device back from a running machine" },
	{ "console", cmd_console, "use the serial console of a running machine" },
	{ "screenshot", cmd_screenshot, "take a picture of a machine's display" },
	{ "bind", cmd_bind, "take devices from their drivers, for a machine" },
	{ "release", cmd_release, "give devices back to their drivers" },
	{ "boot-config", cmd_boot_config, "bind devices when the host boots, before its drivers" },
	{ "reset", cmd_reset, "reset devices, and see that they come back" },
	{ "rom", cmd_rom, "read and check option ROMs" },
	{ "vf", cmd_vf, "make, set and remove virtual functions (SR-IOV)" },
};

static void print_usage(FILE *to)
{
	fprintf(to, "usage: penstock COMMAND [ARGUMENTS]\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fprintf(to, "\npenstock COMMAND --help tells more of one.\n");
}

/* getopt(3) begins its messages with argv[0]: let it say "penstock: run". */
static int run_subcommand(size_t command, int argc, char **argv)
{
	char name[32];

	snprintf(name, sizeof(name), "penstock: %s", commands[command].name);
	argv[0] = name;
	return commands[command].run(argc, argv);
}

/* Closed ones would become some file that is opened later, and messages would go into it. */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int main(int argc, char **argv)
{
	fill_standard_descriptors();
	if (argc < 2) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return run_subcommand(i, argc - 1, argv + 1);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
		strcmp(argv[1], "help") == 0) {
		print_usage(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("penstock " PENSTOCK_VERSION "\n");
		return 0;
	}
	fprintf(stderr, "penstock: there is no command '%s'\n", argv[1]);
	print_usage(stderr);
	return EXIT_USAGE;
}
