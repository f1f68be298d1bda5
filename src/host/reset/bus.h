/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * For host_reset_run(): a bus reset through VFIO, of device and all others behind its bridge. All
 * must be at vfio-pci and used by nobody. Runs in a child; 0 or a negative errno.
 */
struct reset_bus {
	char device[BDF_TEXT];
	int groups[HOST_GROUP_MAX]; /* theirs, each once, the device's own first */
	unsigned group_count;
};
int reset_bus_run(const void *reset_bus);
