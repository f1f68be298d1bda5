/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/bars.h"
#include "host/device/device.h"
#include "host/system/pci_ids.h"
#include "host/use/use.h"

/*
 * All PCI devices of a host with what matters to one who wants to pass them on, in the order of their
 * IOMMU groups.
 */

struct inventory_device {
	struct host_device device;
	uint8_t revision;
	char vendor_name[PCI_IDS_TEXT], device_name[PCI_IDS_TEXT], class_name[PCI_IDS_TEXT];
	struct host_bar bars[HOST_BARS];
	char reset[HOST_NAME]; /* the kernel's methods in order, as "flr bus"; "": none */
	bool used;             /* by the host, as use says */
	struct host_use use;
	char holder[HOST_NAME + 32]; /* the penstock that has it; "" */
	char journal[256];           /* the directory of the journal that says so */
	unsigned vfs, vfs_max;       /* SR-IOV: there are, there can be */
	bool is_vf;
	struct bdf pf; /* of a VF */
	bool has_twin; /* another device, not of the same PF, has the same vendor and device ID */
	struct bdf twin;
};

struct inventory {
	struct inventory_device
		*devices; /* sorted by group, those without at the end, then address */
	size_t count;
};

/* 0, or a negative errno. A device that goes away meanwhile is left out. */
int inventory_read(const struct host *host, struct inventory *inventory, struct error *err);
void inventory_free(struct inventory *inventory);

/*
 * Belongs to the machine itself rather than to somebody's use: bridges, memory controllers, system
 * peripherals, processors, SMBus, sensors, and the like. No one wants to pass these.
 */
bool inventory_is_platform(const struct inventory_device *device);
