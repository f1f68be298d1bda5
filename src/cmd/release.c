/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/binding/release.h"
#include "base/fd.h"
#include "cmd/cmd.h"
#include "host/device/address.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

static const char usage[] =
	"Usage: penstock release [--dry-run] ADDRESS...\n"
	"       penstock release [--dry-run] --stale | --all\n"
	"Give PCI devices back to the drivers that they had before 'penstock bind' or 'penstock run'.\n"
	"\n"
	"With a device go those of its IOMMU group that were bound only on its account.\n"
	"\n"
	"      --stale    all devices of machines that have ended without giving them back\n"
	"      --all      these, and all devices that 'penstock bind' has bound\n"
	"      --dry-run  say what would be done, but change nothing\n"
	"      --help     show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"A device of a running machine is refused. When nothing is left to do, that is a success.\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage.\n";

enum { OPTION_STALE = 256, OPTION_ALL, OPTION_DRY_RUN, OPTION_HELP };

static const struct option long_options[] = {
	{ "stale", no_argument, NULL, OPTION_STALE },
	{ "all", no_argument, NULL, OPTION_ALL },
	{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

struct arguments {
	bool stale, all, dry_run;
	int count;
	char **addresses;
};

static int check_release_arguments(const struct arguments *arguments)
{
	if (arguments->stale + arguments->all + (arguments->count > 0) == 1)
		return -1;
	return cmd_wrong_usage("release", "give either devices, or --stale, or --all");
}

/* -1: go on. Else the exit status. */
static int parse_release(struct arguments *arguments, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_STALE:
			arguments->stale = true;
			break;
		case OPTION_ALL:
			arguments->all = true;
			break;
		case OPTION_DRY_RUN:
			arguments->dry_run = true;
			break;
		case OPTION_HELP:
			fputs(usage, stdout);
			return 0;
		default:
			return cmd_wrong_usage("release", NULL);
		}
	}
	arguments->count = argc - optind;
	arguments->addresses = argv + optind;
	return check_release_arguments(arguments);
}

/* One that fails does not keep the others bound. */
static int release_addresses(const struct host *host, const struct arguments *arguments)
{
	cleanup_free struct bdf *devices = NULL;
	struct error err = { 0 };
	ssize_t count =
		host_address_find_all(host, arguments->addresses, arguments->count, &devices, &err);
	int status = 0;

	if (count < 0)
		error_print(&err);
	for (ssize_t i = 0; i < count; i++) {
		struct error why = { 0 };

		if (host_release(host, &devices[i], arguments->dry_run, &why)) {
			error_print(&why);
			status = 1;
		}
	}
	return count >= 0 ? status : count == -EINVAL ? EXIT_USAGE : 1;
}

static int release_asked(const struct arguments *arguments)
{
	struct error err = { 0 };
	struct host host;
	int code = host_init(&host, NULL, NULL, &err);

	if (code == 0 && arguments->count)
		return release_addresses(&host, arguments);
	if (code == 0)
		code = (arguments->stale ? host_release_stale : host_release_all)(
			&host, arguments->dry_run, &err);
	if (code)
		error_print(&err);
	return code ? 1 : 0;
}

int cmd_release(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	int status = parse_release(&arguments, argc, argv);

	return status < 0 ? release_asked(&arguments) : status;
}
