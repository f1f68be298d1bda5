/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "host/device/address.h"
#include "host/inventory/inventory.h"

#include <errno.h>
#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
	"Usage: penstock ls [OPTION]... [PATTERN]\n"
	"Show the IOMMU groups of this host and the PCI devices in them, with what matters to one who\n"
	"wants to pass them to a virtual machine. A group is passed as a whole or not at all. Groups\n"
	"that hold nothing but bridges and other parts of the machine itself are only counted.\n"
	"\n"
	"With a PATTERN only groups with a matching device: an ADDRESS, or a part of its class, name or\n"
	"driver, as in 'penstock ls nvme'.\n"
	"\n"
	"      --all    all groups and devices\n"
	"      --plain  the classic list: a line a group, a line a device\n"
	"      --json   as JSON; docs/json.md describes it\n"
	"      --help   show this text\n"
	"\n" HOST_ADDRESS_FORMS "\n"
	"Exit status: 0 done, 1 failed or nothing matches, 2 wrong usage.\n";

enum { OPTION_ALL = 256, OPTION_PLAIN, OPTION_JSON, OPTION_HELP };

static const struct option long_options[] = {
	{ "all", no_argument, NULL, OPTION_ALL },
	{ "plain", no_argument, NULL, OPTION_PLAIN },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

#define INDENT 3

struct listing {
	bool all, plain, json;
	const char *pattern; /* NULL: everything */
	struct bdf addresses[HOST_ADDRESS_MAX];
	int address_count; /* that the pattern names; 0: it is a part of a name */
	struct inventory inventory;
	bool color, unicode;
	unsigned column; /* of the line that put_mark() is filling */
};

/* What is shown. */

static bool matches(const struct listing *listing, const struct inventory_device *device)
{
	const char *const texts[] = { device->vendor_name, device->device_name, device->class_name,
		device->device.driver };

	if (!listing->pattern)
		return true;
	for (int i = 0; i < listing->address_count; i++)
		if (bdf_equal(&listing->addresses[i], &device->device.bdf))
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(texts) && !listing->address_count; i++)
		if (strcasestr(texts[i], listing->pattern))
			return true;
	return false;
}

static int group_of(const struct listing *listing, size_t i)
{
	return listing->inventory.devices[i].device.group;
}

/* One past the last device of the group that begins at first. Those without a group are one. */
static size_t end_of_group(const struct listing *listing, size_t first)
{
	size_t end = first;

	while (end < listing->inventory.count && group_of(listing, end) == group_of(listing, first))
		end++;
	return end;
}

static bool group_matches(const struct listing *listing, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		if (matches(listing, &listing->inventory.devices[i]))
			return true;
	return false;
}

/* Somebody could want to pass a device of it. */
static bool group_is_of_use(const struct listing *listing, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		if (!inventory_is_platform(&listing->inventory.devices[i]))
			return true;
	return false;
}

static bool group_is_shown(const struct listing *listing, size_t first, size_t end)
{
	bool whole = listing->all || listing->plain || listing->json || listing->pattern;

	return group_matches(listing, first, end) &&
	       (whole || group_is_of_use(listing, first, end));
}

/* The classic list, as lspci -nn writes its lines. */

static bool has_domains(const struct listing *listing)
{
	for (size_t i = 0; i < listing->inventory.count; i++)
		if (listing->inventory.devices[i].device.bdf.domain)
			return true;
	return false;
}

static void print_plain_device(const struct inventory_device *device, bool domains)
{
	char name[BDF_TEXT];

	bdf_format(&device->device.bdf, name);
	printf("\t%s %s [%04x]: ", domains ? name : strchr(name, ':') + 1,
		device->class_name[0] ? device->class_name : "Class",
		device->device.class_code >> 8);
	if (device->vendor_name[0])
		printf("%s ", device->vendor_name);
	printf("%s [%04x:%04x]", device->device_name[0] ? device->device_name : "Device",
		device->device.vendor, device->device.device);
	if (device->revision)
		printf(" (rev %02x)", device->revision);
	putchar('\n');
}

static void print_plain_group(const struct listing *listing, size_t first, size_t end)
{
	bool domains = has_domains(listing);

	if (group_of(listing, first) < 0)
		printf("No IOMMU Group:\n");
	else
		printf("IOMMU Group %d:\n", group_of(listing, first));
	for (size_t i = first; i < end; i++)
		print_plain_device(&listing->inventory.devices[i], domains);
}

/* The tree. */

static void begin_color(const struct listing *listing, enum output_color color)
{
	if (listing->color)
		printf("\033[%dm", color);
}

static void end_color(const struct listing *listing)
{
	if (listing->color)
		printf("\033[0m");
}

static void indent(struct listing *listing, bool last)
{
	printf("%s  ", last ? " " : listing->unicode ? "│" : "|");
	listing->column = INDENT;
}

/* A remark on the device, on this line if it fits and else on the next. */
static void put_mark(struct listing *listing, bool last, enum output_color color, const char *text)
{
	unsigned size = output_width(text);

	if (listing->column > INDENT && listing->column + 2 + size > OUTPUT_COLUMNS) {
		putchar('\n');
		indent(listing, last);
	}
	if (listing->column > INDENT)
		listing->column += printf(", ");
	if (color)
		begin_color(listing, color);
	fputs(text, stdout);
	if (color)
		end_color(listing);
	listing->column += size;
}

/* "16 GiB + 256 MiB, 256 ports" */
static void describe_bars(const struct inventory_device *device, char *text, size_t room)
{
	size_t used = 0;
	char size[24];

	text[0] = '\0';
	for (unsigned i = 0; i < HOST_BARS && used < room; i++) {
		const struct host_bar *bar = &device->bars[i];

		if (!bar->size)
			continue;
		used += snprintf(text + used, room - used, "%s", used ? " + " : "BARs ");
		if (used < room && bar->kind == HOST_BAR_IO)
			used += snprintf(text + used, room - used, "%llu ports",
				(unsigned long long)bar->size);
		else if (used < room)
			used += snprintf(
				text + used, room - used, "%s", size_format(bar->size, size));
	}
}

static void put_sriov(struct listing *listing, bool last, const struct inventory_device *device)
{
	char text[64], name[BDF_TEXT];

	if (device->vfs_max) {
		snprintf(text, sizeof(text), "SR-IOV: %u of %u VFs", device->vfs, device->vfs_max);
		put_mark(listing, last, 0, text);
	}
	if (device->is_vf) {
		snprintf(text, sizeof(text), "VF of %s", bdf_format(&device->pf, name));
		put_mark(listing, last, 0, text);
	}
}

static void put_marks(struct listing *listing, bool last, const struct inventory_device *device)
{
	char text[256], name[BDF_TEXT];

	indent(listing, last);
	if (device->used) {
		snprintf(text, sizeof(text), "IN USE: %s", device->use.reason);
		put_mark(listing, last, RED, text);
	}
	if (device->holder[0]) {
		snprintf(text, sizeof(text), "held by %s", device->holder);
		put_mark(listing, last, GREEN, text);
	}
	if (device->device.boot_display)
		put_mark(listing, last, YELLOW, "boot display");
	if (device->reset[0]) {
		snprintf(text, sizeof(text), "reset: %s", device->reset);
		put_mark(listing, last, 0, text);
	} else {
		put_mark(listing, last, YELLOW, "no reset");
	}
	describe_bars(device, text, sizeof(text));
	if (text[0])
		put_mark(listing, last, 0, text);
	if (device->device.numa_node >= 0) {
		snprintf(text, sizeof(text), "NUMA node %d", device->device.numa_node);
		put_mark(listing, last, 0, text);
	}
	put_sriov(listing, last, device);
	if (device->has_twin) {
		snprintf(text, sizeof(text), "same ID as %s", bdf_format(&device->twin, name));
		put_mark(listing, last, YELLOW, text);
	}
	putchar('\n');
}

/* As much of text as fits into room characters. */
static void print_cut(const char *text, unsigned room)
{
	for (; *text && (room || (*text & 0xc0) == 0x80); text++) {
		room -= (*text & 0xc0) != 0x80;
		putchar(*text);
	}
}

/* The class on the left, the driver on the right. */
static void print_head(struct listing *listing, bool last, const struct inventory_device *device)
{
	const char *branch = listing->unicode ? last ? "└─" : "├─" : last ? "`-" : "|-";
	const char *driver = device->device.driver[0] ? device->device.driver : "no driver";
	const char *class_name = device->class_name[0] ? device->class_name : "unknown class";
	unsigned room = OUTPUT_COLUMNS - INDENT - (BDF_TEXT - 1) - 2;
	char name[BDF_TEXT];

	room -= room < output_width(driver) + 2 ? room : output_width(driver) + 1;
	printf("%s ", branch);
	begin_color(listing, BOLD);
	fputs(bdf_format(&device->device.bdf, name), stdout);
	end_color(listing);
	printf("  ");
	print_cut(class_name, room);
	printf("%*s %s\n",
		room > output_width(class_name) ? (int)(room - output_width(class_name)) : 0, "",
		driver);
}

static void print_name(struct listing *listing, bool last, const struct inventory_device *device)
{
	char ids[16], name[2 * PCI_IDS_TEXT + 2];

	snprintf(ids, sizeof(ids), "[%04x:%04x]", device->device.vendor, device->device.device);
	snprintf(name, sizeof(name), "%s%s%s",
		device->vendor_name[0] ? device->vendor_name : "unknown vendor",
		device->device_name[0] ? " " : "", device->device_name);
	indent(listing, last);
	print_cut(name, OUTPUT_COLUMNS - INDENT - 12);
	printf(" %s\n", ids);
}

static void print_device(struct listing *listing, bool last, const struct inventory_device *device)
{
	/* A bridge stays with the host; it is there to be seen as one of the group. */
	if (inventory_is_platform(device))
		begin_color(listing, DIM);
	print_head(listing, last, device);
	print_name(listing, last, device);
	end_color(listing);
	if (!inventory_is_platform(device) || device->used || device->holder[0])
		put_marks(listing, last, device);
}

static void print_tree_group(struct listing *listing, size_t first, size_t end)
{
	if (group_of(listing, first) < 0)
		printf("No IOMMU group\n");
	else
		printf("IOMMU group %d\n", group_of(listing, first));
	for (size_t i = first; i < end; i++)
		print_device(listing, i + 1 == end, &listing->inventory.devices[i]);
}

static void print_rest(size_t groups)
{
	if (groups)
		printf("%zu more group%s hold%s only bridges and other parts of the machine (--all "
		       "shows them)\n",
			groups, groups == 1 ? "" : "s", groups == 1 ? "s" : "");
}

/* JSON: docs/json.md. */

static json_object *bars_of(const struct inventory_device *device)
{
	static const char *const kinds[] = { "io", "mem32", "mem64" };
	json_object *list = json_object_new_array();

	for (unsigned i = 0; i < HOST_BARS; i++) {
		json_object *bar;

		if (!device->bars[i].size)
			continue;
		bar = json_object_new_object();
		json_object_object_add(bar, "index", json_object_new_int(i));
		json_object_object_add(
			bar, "kind", json_object_new_string(kinds[device->bars[i].kind]));
		json_object_object_add(
			bar, "prefetchable", json_object_new_boolean(device->bars[i].prefetchable));
		json_object_object_add(bar, "size", json_object_new_uint64(device->bars[i].size));
		json_object_array_add(list, bar);
	}
	return list;
}

static json_object *words_of(const char *text)
{
	json_object *list = json_object_new_array();
	char copy[HOST_NAME], *save;

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
		json_object_array_add(list, json_object_new_string(word));
	return list;
}

static void add_hex(json_object *object, const char *key, unsigned digits, uint32_t value)
{
	char text[12];

	snprintf(text, sizeof(text), "%0*x", digits, value);
	json_object_object_add(object, key, json_object_new_string(text));
}

static json_object *sriov_of(const struct inventory_device *device)
{
	json_object *object;

	if (!device->vfs_max)
		return NULL;
	object = json_object_new_object();
	json_object_object_add(object, "vfs", json_object_new_int(device->vfs));
	json_object_object_add(object, "max", json_object_new_int(device->vfs_max));
	return object;
}

static json_object *number_or_null(int number)
{
	return number < 0 ? NULL : json_object_new_int(number);
}

static void add_ids(json_object *object, const struct inventory_device *device)
{
	add_hex(object, "vendor", 4, device->device.vendor);
	add_hex(object, "device", 4, device->device.device);
	add_hex(object, "subsystem_vendor", 4, device->device.subsystem_vendor);
	add_hex(object, "subsystem_device", 4, device->device.subsystem_device);
	add_hex(object, "class", 6, device->device.class_code);
	add_hex(object, "revision", 2, device->revision);
	output_add_text(object, "vendor_name", device->vendor_name);
	output_add_text(object, "device_name", device->device_name);
	output_add_text(object, "class_name", device->class_name);
}

static json_object *json_of(const struct inventory_device *device)
{
	json_object *object = json_object_new_object();
	char name[BDF_TEXT];

	output_add_text(object, "address", bdf_format(&device->device.bdf, name));
	json_object_object_add(object, "group", number_or_null(device->device.group));
	add_ids(object, device);
	output_add_text(object, "driver", device->device.driver);
	output_add_text(object, "driver_override", device->device.override);
	json_object_object_add(
		object, "bridge", json_object_new_boolean(host_device_is_bridge(&device->device)));
	json_object_object_add(
		object, "boot_display", json_object_new_boolean(device->device.boot_display));
	json_object_object_add(object, "numa_node", number_or_null(device->device.numa_node));
	json_object_object_add(object, "reset", words_of(device->reset));
	json_object_object_add(object, "bars", bars_of(device));
	output_add_text(object, "in_use", device->use.reason);
	output_add_text(object, "holder", device->holder);
	json_object_object_add(object, "sriov", sriov_of(device));
	output_add_text(
		object, "physical_function", device->is_vf ? bdf_format(&device->pf, name) : "");
	output_add_text(
		object, "same_id_as", device->has_twin ? bdf_format(&device->twin, name) : "");
	return object;
}

static void print_list_json(struct listing *listing)
{
	json_object *root = output_new(), *list = json_object_new_array();

	for (size_t first = 0, end; first < listing->inventory.count; first = end) {
		end = end_of_group(listing, first);
		for (size_t i = first; group_is_shown(listing, first, end) && i < end; i++)
			json_object_array_add(list, json_of(&listing->inventory.devices[i]));
	}
	json_object_object_add(root, "devices", list);
	output_json(root);
}

/* Groups shown. */
static size_t print_groups(struct listing *listing)
{
	size_t shown = 0, hidden = 0;

	for (size_t first = 0, end; first < listing->inventory.count; first = end) {
		end = end_of_group(listing, first);
		if (!group_is_shown(listing, first, end)) {
			hidden += !listing->pattern;
			continue;
		}
		shown++;
		if (listing->plain)
			print_plain_group(listing, first, end);
		else if (!listing->json)
			print_tree_group(listing, first, end);
	}
	print_rest(hidden);
	return shown;
}

static void warn_of_no_groups(const struct listing *listing)
{
	if (listing->inventory.count && group_of(listing, 0) < 0)
		fputs("penstock: this host has no IOMMU groups, so no device can be passed; "
		      "'penstock doctor' says why\n",
			stderr);
}

static int list(struct listing *listing, const struct host *host, struct error *err)
{
	struct error no_address = { 0 };

	if (inventory_read(host, &listing->inventory, err))
		return 1;
	if (listing->pattern) {
		listing->address_count =
			host_address_find(host, listing->pattern, listing->addresses, &no_address);
		if (listing->address_count < 0)
			listing->address_count = 0;
	}
	warn_of_no_groups(listing);
	if (listing->json)
		print_list_json(listing);
	if (print_groups(listing) || !listing->pattern)
		return 0;
	error_set(err, -ENODEV, listing->pattern, "no device's address, class, name or driver");
	error_hint(err, "'penstock ls --all' shows all devices");
	return 1;
}

/* -1: go on. Else the exit status. */
static int parse_ls(struct listing *listing, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_ALL:
			listing->all = true;
			break;
		case OPTION_PLAIN:
			listing->plain = true;
			break;
		case OPTION_JSON:
			listing->json = true;
			break;
		case OPTION_HELP:
			fputs(usage, stdout);
			return 0;
		default:
			return cmd_wrong_usage("ls", NULL);
		}
	}
	listing->pattern = argv[optind];
	if (argc - optind <= 1 && !(listing->plain && listing->json))
		return -1;
	return cmd_wrong_usage("ls", argc - optind > 1 ? "one pattern is enough"
						       : "--plain and --json exclude each other");
}

int cmd_ls(int argc, char **argv)
{
	struct listing listing = { 0 };
	struct error err = { 0 };
	struct host host;
	int status = parse_ls(&listing, argc, argv);

	if (status >= 0)
		return status;
	setlocale(LC_CTYPE, "");
	listing.unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	listing.color = output_wants_color();
	status = host_init(&host, NULL, NULL, &err) ? 1 : list(&listing, &host, &err);
	if (err.code)
		error_print(&err);
	inventory_free(&listing.inventory);
	return status;
}
