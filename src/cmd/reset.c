/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/reset/reset.h"
#include "base/fd.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "host/device/address.h"
#include "host/reset/way.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

static const char usage[] =
	"Usage: penstock reset [OPTION]... ADDRESS...\n"
	"Reset PCI devices that are at vfio-pci or have no driver, and check that they come back.\n"
	"\n"
	"The kernel's methods for each device are shown in the order in which they are tried: flr, pm\n"
	"and others reset one function alone; bus resets every device behind the same bridge, which\n"
	"are named, and is refused while one of them is in use.\n"
	"\n"
	"      --method NAME  by this method only\n"
	"      --dry-run      show the methods and check, but change nothing\n"
	"      --json         the result as JSON; docs/json.md describes it\n"
	"      --help         show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage.\n";

enum { OPTION_METHOD = 256, OPTION_DRY_RUN, OPTION_JSON, OPTION_HELP };

static const struct option long_options[] = {
	{ "method", required_argument, NULL, OPTION_METHOD },
	{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

struct arguments {
	const char *method;
	bool dry_run, json;
};

/* -1: go on. Else the exit status. */
static int parse_reset(struct arguments *arguments, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_METHOD:
			arguments->method = optarg;
			break;
		case OPTION_DRY_RUN:
			arguments->dry_run = true;
			break;
		case OPTION_JSON:
			arguments->json = true;
			break;
		case OPTION_HELP:
			fputs(usage, stdout);
			return 0;
		default:
			return cmd_wrong_usage("reset", NULL);
		}
	}
	if (optind < argc)
		return -1;
	return cmd_wrong_usage("reset", "no device is given");
}

static void print_before(const struct host_reset *reset)
{
	char name[BDF_TEXT];

	printf("%s: reset methods:", bdf_format(&reset->device.bdf, name));
	for (unsigned i = 0; i < reset->method_count; i++)
		printf(" %s", reset->methods[i]);
	printf("%s\n", reset->method_count ? "" : " none of its own");
	if (reset->hit_count > 1) {
		printf("  a bus reset hits all of:");
		for (unsigned i = 0; i < reset->hit_count; i++)
			printf(" %s", bdf_format(&reset->hits[i], name));
		putchar('\n');
	}
	fflush(stdout);
}

static void print_ways_out(const struct host_device *lost)
{
	struct reset_way way;

	for (unsigned n = 0; reset_way_out(lost, n, &way); n++)
		fprintf(stderr, "  or: %s:\n      %s\n", way.what, way.command);
}

static json_object *list_ways_out(const struct host_device *lost)
{
	json_object *list = json_object_new_array();
	struct reset_way way;

	for (unsigned n = 0; lost && reset_way_out(lost, n, &way); n++) {
		json_object *one = json_object_new_object();

		output_add_text(one, "what", way.what);
		output_add_text(one, "command", way.command);
		json_object_array_add(list, one);
	}
	return list;
}

static json_object *describe_reset(const struct host_reset *reset, const struct error *err)
{
	const struct host_device *lost = err->code == -ENODEV ? &reset->lost : NULL;
	json_object *object = json_object_new_object(), *methods = json_object_new_array(),
		    *hits = json_object_new_array();
	char name[BDF_TEXT];

	for (unsigned i = 0; i < reset->method_count; i++)
		json_object_array_add(methods, json_object_new_string(reset->methods[i]));
	for (unsigned i = 0; i < reset->hit_count; i++)
		json_object_array_add(
			hits, json_object_new_string(bdf_format(&reset->hits[i], name)));
	output_add_text(object, "address", bdf_format(&reset->device.bdf, name));
	json_object_object_add(object, "methods", methods);
	json_object_object_add(object, "bus_reset", hits);
	output_add_text(object, "used", reset->used);
	output_add_text(object, "lost", lost ? bdf_format(&lost->bdf, name) : "");
	json_object_object_add(object, "ways_out", list_ways_out(lost));
	output_add_text(object, "error", err->what);
	return object;
}

/* The device itself is missing, which needs no ways out. */
static int fail_early(const struct error *err)
{
	error_print(err);
	return 1;
}

static int reset_one(const struct host *host, const struct bdf *bdf,
	const struct arguments *arguments, json_object *list)
{
	struct error err = { 0 };
	struct host_reset reset;
	char name[BDF_TEXT];
	int code;

	if (host_reset_read(host, bdf, &reset, &err))
		return fail_early(&err);
	if (!arguments->json)
		print_before(&reset);
	code = host_reset_run(host, &reset, arguments->method, arguments->dry_run, &err);
	if (code)
		error_print(&err);
	if (code == -ENODEV)
		print_ways_out(&reset.lost);
	if (arguments->json)
		json_object_array_add(list, describe_reset(&reset, &err));
	else if (!code && reset.used[0])
		printf("%s: reset by %s; it has come back\n", bdf_format(bdf, name), reset.used);
	return code ? 1 : 0;
}

static int reset_all(const struct arguments *arguments, char **words, int count)
{
	json_object *object = output_new(), *list = json_object_new_array();
	cleanup_free struct bdf *devices = NULL;
	struct error err = { 0 };
	struct host host;
	int code = host_init(&host, NULL, NULL, &err), status = 0;
	ssize_t found = code ? code : host_address_find_all(&host, words, count, &devices, &err);

	if (found < 0) {
		error_print(&err);
		status = found == -EINVAL ? EXIT_USAGE : 1;
	}
	json_object_object_add(object, "devices", list);
	for (ssize_t i = 0; i < found; i++)
		status |= reset_one(&host, &devices[i], arguments, list);
	if (arguments->json && found >= 0)
		output_json(object);
	else
		json_object_put(object);
	return status;
}

int cmd_reset(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	int status = parse_reset(&arguments, argc, argv);

	return status < 0 ? reset_all(&arguments, argv + optind, argc - optind) : status;
}
