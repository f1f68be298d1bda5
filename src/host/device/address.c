/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/device/address.h"
#include "base/text.h"

#include "base/fd.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEVICES         "/sys/bus/pci/devices"
#define CONTROLLERS_MAX 16 /* of one NVMe subsystem */

/* Those that a name fits. More than fit into the array are as good as that many: too many. */
struct found {
	struct bdf devices[HOST_ADDRESS_MAX];
	int count;
};

static void add_found(struct found *found, const struct bdf *bdf)
{
	for (int i = 0; i < found->count; i++)
		if (bdf_equal(&found->devices[i], bdf))
			return;
	if (found->count < HOST_ADDRESS_MAX)
		found->devices[found->count++] = *bdf;
}

/* Does text have the form of the pattern, in which 'x' is a hexadecimal digit? */
static bool has_form(const char *text, const char *pattern)
{
	for (; *pattern; text++, pattern++)
		if (*pattern == 'x' ? !isxdigit((unsigned char)*text) : *text != *pattern)
			return false;
	return !*text;
}

/* "pci_0000_01_00_0" */
static int parse_libvirt(const char *text, struct bdf *bdf)
{
	char address[BDF_TEXT];
	size_t length = strlen(text);

	if (strncmp(text, "pci_", 4) || length - 4 >= sizeof(address) || strpbrk(text, ":."))
		return -EINVAL;
	strcpy(address, text + 4);
	for (char *at = address; (at = strchr(at, '_'));)
		*at = strchr(at + 1, '_') ? ':' : '.';
	return bdf_parse(address, bdf);
}

/* "01:00", with or without a domain: the first function stands for the device. */
static int parse_slot(const char *text, struct bdf *bdf)
{
	char address[BDF_TEXT + 2];

	if (strchr(text, '.') || strlen(text) >= BDF_TEXT || has_form(text, "xxxx:xxxx"))
		return -EINVAL;
	snprintf(address, sizeof(address), "%s.0", text);
	return bdf_parse(address, bdf);
}

static void find_functions(const struct host *host, struct bdf bdf, struct found *found)
{
	for (bdf.function = 0; bdf.function < HOST_ADDRESS_MAX; bdf.function++)
		if (host_device_exists(host, &bdf))
			add_found(found, &bdf);
}

static void find_ids(const struct host *host, long vendor, long device, struct found *found)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	DIR *directory = host_path(host, path, DEVICES) ? NULL : opendir(path);

	while (directory && (entry = readdir(directory))) {
		struct bdf bdf;

		if (bdf_parse(entry->d_name, &bdf) == 0 &&
			host_read_number(host, -1, DEVICES "/%s/vendor", entry->d_name) == vendor &&
			host_read_number(host, -1, DEVICES "/%s/device", entry->d_name) == device)
			add_found(found, &bdf);
	}
	if (directory)
		closedir(directory);
}

/* The device that a path without symbolic links is in: the last component that is an address. */
static bool find_in_path(const struct host *host, const char *path, struct found *found)
{
	char copy[PATH_MAX], *component, *save;
	struct bdf bdf, last;
	bool any = false;

	snprintf(copy, sizeof(copy), "%s", path);
	for (component = strtok_r(copy, "/", &save); component;
		component = strtok_r(NULL, "/", &save)) {
		if (bdf_parse(component, &bdf) || !host_device_exists(host, &bdf))
			continue;
		last = bdf;
		any = true;
	}
	if (any)
		add_found(found, &last);
	return any;
}

/*
 * A namespace of an NVMe subsystem is below no PCI device, as several controllers may lead to it:
 * .../nvme-subsystem/nvme-subsys0/nvme0n1, with links to the controllers beside it.
 */
static void find_controllers(const struct host *host, char path[PATH_MAX], struct found *found)
{
	char *subsystem = strstr(path, "/nvme-subsys"), *end;
	unsigned budget = CONTROLLERS_MAX;
	const struct dirent *entry;
	DIR *directory;

	subsystem = subsystem ? strstr(subsystem + 1, "/nvme-subsys") : NULL;
	end = subsystem ? strchr(subsystem + 1, '/') : NULL;
	if (!end)
		return;
	*end = '\0';
	directory = opendir(path);
	while (directory && budget && (entry = readdir(directory))) {
		char link[2 * PATH_MAX], real[PATH_MAX];

		if (strncmp(entry->d_name, "nvme", 4))
			continue;
		budget--;
		snprintf(link, sizeof(link), "%s/%s", path, entry->d_name);
		if (realpath(link, real) && host_inside(host, real))
			find_in_path(host, host_inside(host, real), found);
	}
	if (directory)
		closedir(directory);
}

/* 0 where there is such a file, though it may be of no PCI device. */
static int find_path(const struct host *host, const char *path, struct found *found)
{
	char real[PATH_MAX];

	if (!realpath(path, real) || !host_inside(host, real))
		return -ENOENT;
	if (!find_in_path(host, host_inside(host, real), found))
		find_controllers(host, real, found);
	return 0;
}

static int find_name(const struct host *host, const char *name, struct found *found)
{
	static const char *const classes[] = { "class/net", "class/block", "block" };
	int code = -ENOENT;

	if (!name[0] || name[0] == '.' || strchr(name, '/') || strlen(name) >= HOST_NAME)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		char path[PATH_MAX];

		if (host_path(host, path, "/sys/%s/%s", classes[i], name) == 0 &&
			find_path(host, path, found) == 0)
			code = 0;
	}
	return code;
}

/* A path of sysfs, or a node of /dev, perhaps through a link as in /dev/disk/by-id. */
static int find_by_file(const struct host *host, const char *text, struct found *found)
{
	char path[PATH_MAX], real[PATH_MAX];
	const char *in_host;

	if (host_path(host, path, "%s", text))
		return -EINVAL;
	if (!realpath(text[0] == '/' ? path : text, real))
		return -ENOENT;
	in_host = host_inside(host, real);
	if (!in_host)
		return -EINVAL;
	if (strncmp(in_host, "/dev/", 5) == 0)
		return find_name(host, strrchr(in_host, '/') + 1, found);
	return strncmp(in_host, "/sys/", 5) ? -EINVAL : find_path(host, real, found);
}

static int refuse_form(const char *text, struct error *err)
{
	error_set(err, -EINVAL, text, "this does not name a PCI device");
	error_hint(err,
		"an address is like 0000:01:00.0 or 01:00.0; other forms: 01:00 (all functions), "
		"8086:10d3 (vendor and device), pci_0000_01_00_0, a path in /sys, the name of a network "
		"interface or disk");
	return -EINVAL;
}

static int refuse_none(const char *text, int code, struct error *err)
{
	char shown[64];

	text_format(shown, sizeof(shown), "%s", text);
	if (code == -EINVAL)
		return refuse_form(shown, err);
	if (code == 0)
		error_set(err, -ENODEV, shown, "it is there, but not on a PCI device");
	else
		error_set(err, -ENODEV, shown, "the host has no such device");
	error_hint(err, "the PCI devices of this host: penstock ls");
	return -ENODEV;
}

static int refuse_several(const char *text, const struct found *found, struct error *err)
{
	char list[HOST_ADDRESS_MAX * (BDF_TEXT + 1)] = "", name[BDF_TEXT];

	for (int i = 0; i < found->count; i++)
		sprintf(list + strlen(list), "%s%s", i ? " " : "",
			bdf_format(&found->devices[i], name));
	error_set(err, -ENOTUNIQ, text, "%s%d devices are meant by this: %s",
		found->count == HOST_ADDRESS_MAX ? "at least " : "", found->count, list);
	error_hint(err, "give the address of one");
	return -ENOTUNIQ;
}

int host_address_find(const struct host *host, const char *text,
	struct bdf devices[static HOST_ADDRESS_MAX], struct error *err)
{
	struct found found = { 0 };
	unsigned vendor, device;
	bool many = false;
	struct bdf bdf;
	int code = -ENOENT;

	if (bdf_parse(text, &bdf) == 0 || parse_libvirt(text, &bdf) == 0) {
		add_found(&found, &bdf);
	} else if (parse_slot(text, &bdf) == 0) {
		many = true;
		find_functions(host, bdf, &found);
	} else if (has_form(text, "xxxx:xxxx") && sscanf(text, "%x:%x", &vendor, &device) == 2) {
		find_ids(host, vendor, device, &found);
	} else {
		code = (strchr(text, '/') ? find_by_file : find_name)(host, text, &found);
		if (code == -ENOENT && strchr(text, ':'))
			code = -EINVAL;
	}
	if (!found.count)
		return refuse_none(text, code, err);
	if (found.count > 1 && !many)
		return refuse_several(text, &found, err);
	memcpy(devices, found.devices, found.count * sizeof(devices[0]));
	return found.count;
}

int host_address_find_one(
	const struct host *host, const char *text, struct bdf *device, struct error *err)
{
	struct found found;

	found.count = host_address_find(host, text, found.devices, err);
	if (found.count < 0)
		return found.count;
	if (found.count > 1)
		return refuse_several(text, &found, err);
	*device = found.devices[0];
	return 0;
}

static bool is_in_list(const struct bdf *list, size_t count, const struct bdf *bdf)
{
	while (count--)
		if (bdf_equal(&list[count], bdf))
			return true;
	return false;
}

ssize_t host_address_find_all(const struct host *host, char *const *words, size_t count,
	struct bdf **devices, struct error *err)
{
	cleanup_free struct bdf *list = calloc(count, HOST_ADDRESS_MAX * sizeof(*list));
	struct bdf some[HOST_ADDRESS_MAX];
	size_t used = 0;

	*devices = NULL;
	if (!list)
		return error_sys(err, -ENOMEM, NULL, "cannot list the devices");
	for (size_t i = 0; i < count; i++) {
		int found = host_address_find(host, words[i], some, err);

		if (found < 0)
			return found;
		for (int j = 0; j < found; j++)
			if (!is_in_list(list, used, &some[j]))
				list[used++] = some[j];
	}
	*devices = list;
	list = NULL;
	return used;
}
