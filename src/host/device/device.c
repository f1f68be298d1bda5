/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/device/device.h"
#include "base/text.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_DISPLAY        0x03
#define SUBCLASS_HOST_BRIDGE 0x0600
#define SUBCLASS_ISA_BRIDGE  0x0601

#define DEVICES "/sys/bus/pci/devices/"

#define CONFIG_HEADER_TYPE 0x0e
#define HEADER_TYPE_MASK   0x7f /* the top bit says "several functions" */
#define CLASS_BRIDGE_PCI   0x0604

static uint32_t read_id(const struct host *host, const char *name, const char *attribute)
{
	return host_read_number(host, 0, DEVICES "%s/%s", name, attribute);
}

/* The class stands in where configuration space cannot be read; only a bridge matters here. */
static uint8_t read_header_type(const struct host *host, const char *name, uint32_t class_code)
{
	uint8_t fallback = class_code >> 8 == CLASS_BRIDGE_PCI;
	char path[PATH_MAX], config[CONFIG_HEADER_TYPE + 2];

	if (host_path(host, path, DEVICES "%s/config", name) ||
		fd_read_file(path, config, sizeof(config)) <= CONFIG_HEADER_TYPE)
		return fallback;
	/* A device that is stuck in D3 or gone from the bus reads as ones. */
	if ((uint8_t)config[CONFIG_HEADER_TYPE] == 0xff)
		return fallback;
	return config[CONFIG_HEADER_TYPE] & HEADER_TYPE_MASK;
}

int host_device_group(const struct host *host, const struct bdf *bdf)
{
	char name[BDF_TEXT], text[16], *end;
	unsigned long group;

	if (host_read_link(
		    host, text, sizeof(text), DEVICES "%s/iommu_group", bdf_format(bdf, name)))
		return -1;
	group = strtoul(text, &end, 10);
	return *end || group > INT_MAX ? -1 : (int)group;
}

static int refuse_override(const char *name, struct error *err)
{
	error_set(err, -EINVAL, name, "its driver_override is no driver's name");
	error_hint(err, "clear it: 'echo >" DEVICES "%s/driver_override'", name);
	return -EINVAL;
}

static int read_override(const struct host *host, const char *name, char override[static HOST_NAME],
	struct error *err)
{
	char text[2 * HOST_NAME];

	override[0] = '\0';
	if (host_read(host, text, sizeof(text), DEVICES "%s/driver_override", name) <= 0 ||
		strcmp(text, "(null)") == 0)
		return 0;
	if (strlen(text) >= HOST_NAME)
		return refuse_override(name, err);
	text_format(override, HOST_NAME, "%s", text);
	return 0;
}

bool host_device_exists(const struct host *host, const struct bdf *bdf)
{
	char path[PATH_MAX], name[BDF_TEXT];

	return host_path(host, path, DEVICES "%s/vendor", bdf_format(bdf, name)) == 0 &&
	       access(path, F_OK) == 0;
}

int host_device_driver(
	const struct host *host, const struct bdf *bdf, char driver[static HOST_NAME])
{
	char name[BDF_TEXT];
	int code =
		host_read_link(host, driver, HOST_NAME, DEVICES "%s/driver", bdf_format(bdf, name));

	return code == -ENOENT ? 0 : code;
}

int host_device_read(const struct host *host, const struct bdf *bdf, struct host_device *device,
	struct error *err)
{
	char name[BDF_TEXT];
	int code;

	bdf_format(bdf, name);
	*device = (struct host_device){ .bdf = *bdf, .group = -1 };
	if (!host_device_exists(host, bdf)) {
		error_set(err, -ENODEV, name, "the host has no such PCI device");
		error_hint(err, "the addresses of this host's devices: ls /sys/bus/pci/devices");
		return -ENODEV;
	}
	device->vendor = read_id(host, name, "vendor");
	device->device = read_id(host, name, "device");
	device->subsystem_vendor = read_id(host, name, "subsystem_vendor");
	device->subsystem_device = read_id(host, name, "subsystem_device");
	device->class_code = read_id(host, name, "class");
	device->header = read_header_type(host, name, device->class_code);
	/* boot_display is what kernels since 6.17 say of machines without VGA. */
	device->boot_display = host_read_number(host, 0, DEVICES "%s/boot_vga", name) == 1 ||
			       host_read_number(host, 0, DEVICES "%s/boot_display", name) == 1;
	device->group = host_device_group(host, bdf);
	device->numa_node = host_read_number(host, -1, DEVICES "%s/numa_node", name);
	code = host_device_driver(host, bdf, device->driver);
	if (code)
		return error_sys(err, code, name, "cannot tell its driver");
	return read_override(host, name, device->override, err);
}

int host_device_interface(
	const struct host *host, const struct bdf *bdf, char interface[static HOST_NAME])
{
	char path[PATH_MAX], name[BDF_TEXT];
	const struct dirent *entry;
	DIR *directory;

	interface[0] = '\0';
	if (host_path(host, path, DEVICES "%s/net", bdf_format(bdf, name)) ||
		!(directory = opendir(path)))
		return -ENOENT;
	while (!interface[0] && (entry = readdir(directory)))
		if (entry->d_name[0] != '.' && strlen(entry->d_name) < HOST_NAME)
			text_format(interface, HOST_NAME, "%s", entry->d_name);
	closedir(directory);
	return interface[0] ? 0 : -ENOENT;
}

int host_device_vfio_node(
	const struct host *host, const struct bdf *bdf, char node[static HOST_NAME])
{
	char path[PATH_MAX], name[BDF_TEXT];
	const struct dirent *entry;
	int code = -ENOENT;
	DIR *directory;

	if (host_path(host, path, DEVICES "%s/vfio-dev", bdf_format(bdf, name)))
		return code;
	directory = opendir(path);
	while (code && directory && (entry = readdir(directory))) {
		unsigned number;
		char rest;

		/* A kernel without VFIO_DEVICE_CDEV has the directory all the same, and no node. */
		if (sscanf(entry->d_name, "vfio%u%c", &number, &rest) != 1 ||
			host_path(host, path, DEVICES "%s/vfio-dev/vfio%u/dev", name, number) ||
			access(path, F_OK))
			continue;
		text_format(node, HOST_NAME, "/dev/vfio/devices/vfio%u", number);
		code = 0;
	}
	if (directory)
		closedir(directory);
	return code;
}

int host_device_path(const struct host *host, const struct bdf *bdf, char path[static PATH_MAX])
{
	char link[PATH_MAX], name[BDF_TEXT];
	int code = host_path(host, link, DEVICES "%s", bdf_format(bdf, name));

	if (code)
		return code;
	return realpath(link, path) ? 0 : -errno;
}

bool host_device_is_display(const struct host_device *device)
{
	return device->class_code >> 16 == CLASS_DISPLAY;
}

bool host_power_is_low(const char *state)
{
	return state[0] == 'D' && strcmp(state, "D0");
}

bool host_device_is_bridge(const struct host_device *device)
{
	return device->header != 0;
}

/* Since Linux 5.18 the group is refused for any driver of a bridge that does not set driver_managed_dma. */
int host_device_check_group_bridge(
	const struct host_device *bridge, const char *name, struct error *err)
{
	char bridge_name[BDF_TEXT];

	if (host_driver_is_viable(bridge->driver) || strcmp(bridge->driver, "pcieport") == 0)
		return 0;
	bdf_format(&bridge->bdf, bridge_name);
	error_set(err, -EBUSY, name,
		"the bridge %s of its IOMMU group %d is at driver %s, which keeps the group from VFIO",
		bridge_name, bridge->group, bridge->driver);
	error_hint(err,
		"'echo %s >/sys/bus/pci/drivers/%s/unbind' takes the bridge from it: what is behind "
		"the bridge goes on, without hot plug",
		bridge_name, bridge->driver);
	return -EBUSY;
}

int host_device_check_bridge(const struct host_device *device, struct error *err)
{
	uint32_t kind = device->class_code >> 8;
	char name[BDF_TEXT];

	bdf_format(&device->bdf, name);
	if (host_device_is_bridge(device)) {
		error_set(err, -EINVAL, name, "it is a PCI bridge, and stays with the host");
		error_hint(
			err, "name the devices behind it: ls -d /sys/bus/pci/devices/%s/*:*", name);
	} else if (kind == SUBCLASS_HOST_BRIDGE || kind == SUBCLASS_ISA_BRIDGE) {
		error_set(err, -EINVAL, name, "it is a part of the board, and stays with the host");
		error_hint(err, "'penstock ls' shows the devices that a guest can have");
	} else {
		return 0;
	}
	return -EINVAL;
}

bool host_driver_is_vfio(const char *driver)
{
	size_t length = strlen(driver), suffix = strlen("vfio-pci");

	if (length < suffix)
		return false;
	driver += length - suffix;
	return strcmp(driver, "vfio-pci") == 0 || strcmp(driver, "vfio_pci") == 0;
}

bool host_driver_is_viable(const char *driver)
{
	return !driver[0] || host_driver_is_vfio(driver) || strcmp(driver, "pci-stub") == 0;
}

/* A group may also hold devices of other buses, which VFIO's PCI driver has no say in. */
static int read_members(DIR *directory, struct bdf devices[static HOST_GROUP_MAX])
{
	const struct dirent *entry;
	int count = 0;

	while ((entry = readdir(directory))) {
		struct bdf bdf;

		if (bdf_parse(entry->d_name, &bdf))
			continue;
		if (count == HOST_GROUP_MAX)
			return -E2BIG;
		devices[count++] = bdf;
	}
	qsort(devices, count, sizeof(devices[0]), bdf_compare);
	return count;
}

bool host_has_groups(const struct host *host)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	DIR *directory;
	bool found = false;

	if (host_path(host, path, "/sys/kernel/iommu_groups") || !(directory = opendir(path)))
		return false;
	while (!found && (entry = readdir(directory)))
		found = entry->d_name[0] != '.';
	closedir(directory);
	return found;
}

int host_group_devices(const struct host *host, int group,
	struct bdf devices[static HOST_GROUP_MAX], struct error *err)
{
	char path[PATH_MAX];
	DIR *directory;
	int count = host_path(host, path, "/sys/kernel/iommu_groups/%d/devices", group);

	if (count == 0) {
		directory = opendir(path);
		count = directory ? read_members(directory, devices) : -errno;
		if (directory)
			closedir(directory);
	}
	if (count < 0)
		return error_sys(err, count, path, "cannot list the IOMMU group");
	return count;
}
