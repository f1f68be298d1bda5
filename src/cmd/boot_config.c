/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/bdf.h"
#include "base/fd.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "host/boot/apply.h"
#include "host/boot/boot.h"
#include "host/device/address.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: penstock boot-config [OPTION]... ADDRESS...\n"
	"       penstock boot-config --undo [--dry-run] [--json]\n"
	"Have PCI devices bound to vfio-pci when the host boots, before its own drivers load: for\n"
	"graphics cards, whose drivers do not let go of them well. Binding is by address, by a hook in\n"
	"the initramfs (initramfs-tools, dracut or mkinitcpio). Shows what is to be written where, why,\n"
	"and what to run next; changes nothing without --write.\n"
	"\n"
	"The devices given are all that will be bound at boot, with those of their IOMMU groups: a\n"
	"second --write replaces the first. To boot once without it, add penstock.bind=off to the\n"
	"kernel's command line.\n"
	"\n"
	"      --write    write it\n"
	"      --undo     put all files back as they were. Of a file that was changed in between, only\n"
	"                 penstock's words are taken out, or it is left as it is: exit status 1 then\n"
	"      --force    also devices that the host is using now\n"
	"      --dry-run  change nothing, with --write or --undo\n"
	"      --json     show it as JSON; docs/json.md describes it\n"
	"      --help     show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage.\n";

enum { OPTION_WRITE = 256, OPTION_UNDO, OPTION_FORCE, OPTION_DRY_RUN, OPTION_JSON, OPTION_HELP };

static const struct option long_options[] = {
	{ "write", no_argument, NULL, OPTION_WRITE },
	{ "undo", no_argument, NULL, OPTION_UNDO },
	{ "force", no_argument, NULL, OPTION_FORCE },
	{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

struct arguments {
	bool write, undo, force, dry_run, json;
	int count;
	char **words;
};

static int check_boot_arguments(const struct arguments *arguments)
{
	if (arguments->undo && (arguments->count || arguments->write || arguments->force))
		return cmd_wrong_usage(
			"boot-config", "--undo takes no addresses, no --write and no --force");
	if (!arguments->undo && !arguments->count)
		return cmd_wrong_usage("boot-config", "no address of a device is given");
	return -1;
}

/* -1: go on. Else the exit status. */
static int parse_boot(struct arguments *arguments, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_WRITE:
			arguments->write = true;
			break;
		case OPTION_UNDO:
			arguments->undo = true;
			break;
		case OPTION_FORCE:
			arguments->force = true;
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
			return cmd_wrong_usage("boot-config", NULL);
		}
	}
	arguments->count = argc - optind;
	arguments->words = argv + optind;
	return check_boot_arguments(arguments);
}

static const char *action(const struct boot_change *change)
{
	if (change->left)
		return "leave";
	if (boot_bytes_equal(&change->now, &change->wanted))
		return "keep";
	if (!change->now.data)
		return "create";
	return change->wanted.data ? "change" : "remove";
}

/* JSON. */

static struct json_object *list_json(const struct boot_list *list)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < list->count; i++)
		json_object_array_add(array, json_object_new_string(list->items[i]));
	return array;
}

static struct json_object *device_json(const struct boot_device *device)
{
	struct json_object *json = json_object_new_object();
	char text[BDF_TEXT];

	bdf_format(&device->device.bdf, text);
	json_object_object_add(json, "address", json_object_new_string(text));
	snprintf(text, sizeof(text), "%04x", device->device.vendor);
	json_object_object_add(json, "vendor", json_object_new_string(text));
	snprintf(text, sizeof(text), "%04x", device->device.device);
	json_object_object_add(json, "device", json_object_new_string(text));
	json_object_object_add(json, "companion", json_object_new_boolean(device->companion));
	return json;
}

static struct json_object *change_json(const struct boot_change *change)
{
	struct json_object *json = json_object_new_object();
	const struct boot_bytes *text = &change->wanted;

	json_object_object_add(json, "path", json_object_new_string(change->path));
	json_object_object_add(json, "action", json_object_new_string(action(change)));
	json_object_object_add(
		json, "why", change->why ? json_object_new_string(change->why) : NULL);
	json_object_object_add(json, "text",
		text->data ? json_object_new_string_len(text->data, text->size) : NULL);
	return json;
}

static void print_boot_json(const struct boot_plan *plan, const struct boot_result *result)
{
	struct json_object *json = output_new();
	struct json_object *devices = json_object_new_array(), *files = json_object_new_array();

	for (size_t i = 0; i < plan->device_count; i++)
		json_object_array_add(devices, device_json(&plan->devices[i]));
	for (size_t i = 0; i < result->count; i++)
		json_object_array_add(files, change_json(&result->changes[i]));
	json_object_object_add(json, "devices", devices);
	json_object_object_add(json, "kernel_words", json_object_new_string(plan->words));
	json_object_object_add(json, "files", files);
	json_object_object_add(json, "notes", list_json(&plan->notes));
	json_object_object_add(json, "next", list_json(&result->next));
	output_json(json);
}

/* For people. */

/* What is said of an action: before it, and after it. */
static const char *const tenses[][3] = {
	{ "leave", "is left as it is", "was left as it is" },
	{ "keep", "is so already", "is so already" },
	{ "create", "would be made", "made" },
	{ "change", "would be changed", "changed" },
	{ "remove", "would be removed", "removed" },
};

static const char *describe_change(const struct boot_change *change, bool done)
{
	size_t i = 0;

	while (strcmp(tenses[i][0], action(change)))
		i++;
	return tenses[i][1 + done];
}

/* Text of a file may be anything; a terminal is to get no escape sequences from it. */
static void print_lines(const char *mark, const char *start, const char *end)
{
	while (start < end) {
		const char *stop = memchr(start, '\n', end - start);

		fputs(mark, stdout);
		for (stop = stop ? stop : end; start < stop; start++)
			putchar((unsigned char)*start < ' ' && *start != '\t' ? '?' : *start);
		putchar('\n');
		start = stop + 1;
	}
}

static size_t count_common_lines(const struct boot_bytes *a, const struct boot_bytes *b, size_t *at)
{
	size_t lines = 0;

	*at = 0;
	for (size_t i = 0; i < a->size && i < b->size && a->data[i] == b->data[i]; i++) {
		if (a->data[i] != '\n')
			continue;
		*at = i + 1;
		lines++;
	}
	return lines;
}

/* Does a line start here, where size bytes are left behind it? */
static bool is_line_start(const struct boot_bytes *bytes, size_t start, size_t left)
{
	return bytes->size - left == start || bytes->data[bytes->size - left - 1] == '\n';
}

/* The size of the whole lines that both end with, behind start. */
static size_t common_end(const struct boot_bytes *a, const struct boot_bytes *b, size_t start)
{
	size_t common = 0, whole = 0;

	while (common < a->size - start && common < b->size - start &&
		a->data[a->size - 1 - common] == b->data[b->size - 1 - common]) {
		common++;
		if (is_line_start(a, start, common) && is_line_start(b, start, common))
			whole = common;
	}
	return whole;
}

/* Of a new file all lines, unless it is there to be read by now. */
static void print_difference(const struct boot_change *change, bool done)
{
	const struct boot_bytes *now = &change->now, *wanted = &change->wanted;
	size_t start, end, line;

	if (!now->data || !wanted->data) {
		if (wanted->data && !done)
			print_lines("  | ", wanted->data, wanted->data + wanted->size);
		return;
	}
	line = count_common_lines(now, wanted, &start);
	end = common_end(now, wanted, start);
	printf("  line %zu:\n", line + 1);
	print_lines("  - ", now->data + start, now->data + now->size - end);
	print_lines("  + ", wanted->data + start, wanted->data + wanted->size - end);
}

static void print_change(const struct boot_change *change, bool done)
{
	printf("%s: %s\n", change->path, describe_change(change, done));
	if (change->why)
		printf("  why: %s\n", change->why);
	if (change->left)
		printf("  it was changed after penstock wrote it: remove it yourself if nothing in it "
		       "is needed\n");
	else if (change->edited)
		printf("  it was changed after penstock wrote it; that is kept, and only '%s' %s\n",
			change->words, done ? "was taken out" : "would be taken out");
	if (!change->left && !boot_bytes_equal(&change->now, &change->wanted))
		print_difference(change, done);
}

static void print_devices(const struct boot_plan *plan)
{
	for (size_t i = 0; i < plan->device_count; i++) {
		const struct host_device *device = &plan->devices[i].device;
		char name[BDF_TEXT];

		printf("%s [%04x:%04x]: %s -> vfio-pci at boot%s\n", bdf_format(&device->bdf, name),
			device->vendor, device->device,
			device->driver[0] ? device->driver : "no driver",
			plan->devices[i].companion ? " (shares the IOMMU group)" : "");
	}
}

static void print_list(const char *title, const char *mark, const struct boot_list *list)
{
	if (list->count)
		printf("\n%s\n", title);
	for (size_t i = 0; i < list->count; i++)
		printf("%s%s\n", mark, list->items[i]);
}

static void print_boot_text(const struct arguments *arguments, const struct boot_plan *plan,
	const struct boot_result *result)
{
	bool done = !arguments->dry_run && (arguments->write || arguments->undo);

	print_devices(plan);
	for (size_t i = 0; i < result->count; i++) {
		if (i || plan->device_count)
			putchar('\n');
		print_change(&result->changes[i], done);
	}
	if (arguments->undo && !result->count) {
		puts("nothing to undo");
		return;
	}
	print_list("Notes:", "- ", &plan->notes);
	print_list(done ? "Run next, as root, then reboot:"
			: "To run afterwards, as root, then reboot:",
		"  ", &result->next);
	if (!done && !arguments->undo)
		puts("\nNothing was changed; --write does it.");
}

static bool any_left(const struct boot_result *result)
{
	for (size_t i = 0; i < result->count; i++)
		if (result->changes[i].left)
			return true;
	return false;
}

static int make_plan(const struct host *host, const struct arguments *arguments,
	struct boot_plan *plan, struct error *err)
{
	cleanup_free struct bdf *devices = NULL;
	ssize_t count;

	if (arguments->undo)
		return 0;
	count = host_address_find_all(host, arguments->words, arguments->count, &devices, err);
	return count < 0 ? (int)count
			 : boot_make_plan(plan, host, devices, count, arguments->force, err);
}

static int configure_boot(const struct arguments *arguments)
{
	bool dry_run = arguments->dry_run || (!arguments->write && !arguments->undo);
	struct boot_result result = { 0 };
	struct boot_plan plan = { 0 };
	struct error err = { 0 };
	struct host host;
	int status = 1;

	if (host_init(&host, NULL, NULL, &err) || make_plan(&host, arguments, &plan, &err) ||
		boot_apply(&host, arguments->undo ? NULL : &plan, dry_run, &result, &err)) {
		error_print(&err);
	} else {
		(arguments->json ? print_boot_json(&plan, &result)
				 : print_boot_text(arguments, &plan, &result));
		status = any_left(&result);
	}
	boot_result_free(&result);
	boot_plan_free(&plan);
	return status;
}

int cmd_boot_config(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	int status = parse_boot(&arguments, argc, argv);

	return status < 0 ? configure_boot(&arguments) : status;
}
