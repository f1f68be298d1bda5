/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/inventory/inventory.h"

#include "base/fd.h"
#include "base/text.h"
#include "host/device/vfs.h"
#include "host/journal/binds.h"
#include "host/journal/journal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES     "/sys/bus/pci/devices/"
#define DEVICES_MAX 16384 /* more than any machine has; ends a directory that does not */

#define CLASS_MEMORY            0x05
#define CLASS_BRIDGE            0x06
#define CLASS_SYSTEM_PERIPHERAL 0x08
#define CLASS_PROCESSOR         0x0b
#define CLASS_SIGNAL_PROCESSING 0x11
#define CLASS_INSTRUMENTATION   0x13
#define SUBCLASS_SMBUS          0x0c05
#define SUBCLASS_SD_HOST        0x0805
#define SUBCLASS_COPROCESSOR    0x0b40 /* for ciphers and compression, with functions for guests */

/* Kernels before 5.15 reset, but do not tell how. */
static void read_reset(const struct host *host, const char *name, struct inventory_device *device)
{
	char path[PATH_MAX];

	if (host_read(host, device->reset, sizeof(device->reset), DEVICES "%s/reset_method", name) <
			0 &&
		host_path(host, path, DEVICES "%s/reset", name) == 0 && access(path, F_OK) == 0)
		strcpy(device->reset, "yes");
}

/*
 * A user who is not root has a journal of his own; root's may have the device all the same. Where it
 * was found is the run directory of holder.
 */
static int read_record(const struct host *host, const struct bdf *bdf, struct host *holder,
	struct host_record *record)
{
	struct error ignored = { 0 };
	char path[PATH_MAX];
	int code = host_journal_read(host, bdf, record, &ignored);

	*holder = *host;
	if (code != -ENOENT || host_path(host, path, HOST_RUN) ||
		strlen(path) >= sizeof(holder->run))
		return code;
	strcpy(holder->run, path);
	return host_journal_read(holder, bdf, record, &ignored);
}

static void read_holder(const struct host *host, struct inventory_device *device)
{
	char text[HOST_HOLDER_TEXT];
	struct host_record record;
	struct host holder;
	int code = read_record(host, &device->device.bdf, &holder, &record);

	strcpy(device->journal, holder.run);
	if (code)
		return;
	if (host_holder_is_alive(&record.holder))
		text_format(device->holder, sizeof(device->holder), "%s",
			host_holder_describe(&record.holder, text));
	else
		text_format(device->holder, sizeof(device->holder), "%s",
			host_binds_kept(&holder, &record) ? "penstock bind"
							  : "a penstock that has died");
}

static void read_sriov(const struct host *host, const char *name, struct inventory_device *device)
{
	unsigned number;
	long max = host_read_number(host, 0, DEVICES "%s/sriov_totalvfs", name);
	long now = host_read_number(host, 0, DEVICES "%s/sriov_numvfs", name);

	device->vfs_max = max > 0 && max <= UINT16_MAX ? max : 0;
	device->vfs = now > 0 && now <= UINT16_MAX ? now : 0;
	device->is_vf = host_vfs_parent(host, &device->device.bdf, &device->pf, &number) == 0;
}

static void read_names(const struct host_pci_ids *names, struct inventory_device *device)
{
	const struct host_device *ids = &device->device;

	host_pci_ids_vendor(names, ids->vendor, device->vendor_name);
	host_pci_ids_device(names, ids->vendor, ids->device, device->device_name);
	host_pci_ids_class(names, ids->class_code, device->class_name);
}

static int read_device(const struct host *host, const struct host_pci_ids *names,
	const struct bdf *bdf, struct inventory_device *device)
{
	struct error ignored = { 0 };
	char name[BDF_TEXT];

	bdf_format(bdf, name);
	*device = (struct inventory_device){ 0 };
	if (host_device_read(host, bdf, &device->device, &ignored))
		return ignored.code;
	device->revision = host_read_number(host, 0, DEVICES "%s/revision", name);
	read_names(names, device);
	host_device_read_bars(host, &device->device.bdf, device->bars);
	read_reset(host, name, device);
	read_sriov(host, name, device);
	read_holder(host, device);
	device->used = host_use_find(host, bdf, &device->use);
	return 0;
}

static int compare_devices(const void *a, const void *b)
{
	const struct inventory_device *x = a, *y = b;
	/* -1, no group, comes last. */
	unsigned p = x->device.group, q = y->device.group;

	if (p != q)
		return p < q ? -1 : 1;
	return bdf_compare(&x->device.bdf, &y->device.bdf);
}

static bool are_twins(const struct inventory_device *a, const struct inventory_device *b)
{
	if (a->device.vendor != b->device.vendor || a->device.device != b->device.device)
		return false;
	return !(a->is_vf && b->is_vf && bdf_equal(&a->pf, &b->pf));
}

static void find_twins(struct inventory *inventory)
{
	for (size_t i = 0; i < inventory->count; i++) {
		struct inventory_device *device = &inventory->devices[i];

		for (size_t j = 0; j < inventory->count && !device->has_twin; j++) {
			if (i == j || !are_twins(device, &inventory->devices[j]))
				continue;
			device->has_twin = true;
			device->twin = inventory->devices[j].device.bdf;
		}
	}
}

/* Room for one more. */
static bool grow_inventory(struct inventory *inventory)
{
	struct inventory_device *devices;

	if (inventory->count & (inventory->count - 1) && inventory->count)
		return true;
	devices = realloc(
		inventory->devices, (2 * inventory->count + 1) * sizeof(*inventory->devices));
	if (!devices)
		return false;
	inventory->devices = devices;
	return true;
}

static int read_all_devices(const struct host *host, const struct host_pci_ids *names,
	DIR *directory, struct inventory *inventory)
{
	const struct dirent *entry;

	while ((entry = readdir(directory)) && inventory->count < DEVICES_MAX) {
		struct bdf bdf;

		if (bdf_parse(entry->d_name, &bdf))
			continue;
		if (!grow_inventory(inventory))
			return -ENOMEM;
		if (read_device(host, names, &bdf, &inventory->devices[inventory->count]) == 0)
			inventory->count++;
	}
	return 0;
}

int inventory_read(const struct host *host, struct inventory *inventory, struct error *err)
{
	struct host_pci_ids names;
	char path[PATH_MAX];
	DIR *directory;
	int code = host_path(host, path, DEVICES);

	*inventory = (struct inventory){ 0 };
	directory = code ? NULL : opendir(path);
	if (!directory)
		return error_sys(err, code ? code : -errno, path, "cannot list the PCI devices");
	host_pci_ids_open(&names, host);
	code = read_all_devices(host, &names, directory, inventory);
	host_pci_ids_close(&names);
	closedir(directory);
	if (code) {
		inventory_free(inventory);
		return error_sys(err, code, path, "cannot list the PCI devices");
	}
	if (inventory->count)
		qsort(inventory->devices, inventory->count, sizeof(*inventory->devices),
			compare_devices);
	find_twins(inventory);
	return 0;
}

void inventory_free(struct inventory *inventory)
{
	free(inventory->devices);
	*inventory = (struct inventory){ 0 };
}

bool inventory_is_platform(const struct inventory_device *device)
{
	uint32_t class_code = device->device.class_code;

	if (host_device_is_bridge(&device->device))
		return true;
	switch (class_code >> 8) {
	case SUBCLASS_SMBUS:
		return true;
	case SUBCLASS_SD_HOST:
	case SUBCLASS_COPROCESSOR:
		return false;
	}
	switch (class_code >> 16) {
	case CLASS_MEMORY:
	case CLASS_BRIDGE:
	case CLASS_SYSTEM_PERIPHERAL:
	case CLASS_PROCESSOR:
	case CLASS_SIGNAL_PROCESSING:
	case CLASS_INSTRUMENTATION:
		return true;
	default:
		return false;
	}
}
