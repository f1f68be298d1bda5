/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * Resetting devices. The kernel knows methods for one function alone (flr, pm, ...), and resets of
 * the bus, which hit every device behind the same bridge. The kernel's own bus reset is for a device
 * that is alone there; where there are several, VFIO does it for one who has them all.
 */

#define RESET_METHODS_MAX 8
#define RESET_METHOD_NAME 24

struct host_reset {
	struct host_device device;
	char methods[RESET_METHODS_MAX]
		    [RESET_METHOD_NAME]; /* in the order in which they are tried */
	unsigned method_count;
	struct bdf hits[HOST_GROUP_MAX]; /* what a bus reset hits, the device among them, sorted */
	unsigned hit_count;              /* 0: it is behind no bridge, so there is none */
	char used[RESET_METHOD_NAME];    /* "": none yet */
	struct host_device lost;         /* with -ENODEV: which one has not come back */
};

/* What could be done. */
int host_reset_read(const struct host *host, const struct bdf *bdf, struct host_reset *reset,
	struct error *err);

/*
 * Reset the device by one of its methods, or with NULL by the first that works, and check its
 * configuration space afterwards. Refused for a device that a machine or a host driver has; a bus
 * reset also where another device that it hits is one of those.
 *
 * -ENODEV: the device, or another one that was hit, has not come back.
 */
int host_reset_run(const struct host *host, struct host_reset *reset, const char *method,
	bool dry_run, struct error *err);

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

#define HOST_RESET_COMMAND 256

/*
 * The shell command that lets the kernel find a device anew. One at vfio-pci goes there again: its
 * driver_override is gone with it, and drivers_autoprobe keeps the host's driver off since Linux 6.19;
 * before that, the host's driver has the device until penstock takes it.
 */
void host_reset_rescan(const struct host_device *device, char command[static HOST_RESET_COMMAND]);

/*
 * Ways to get back a device that does not answer, as shell commands: the n-th one (from 0) with a
 * word on it, or false when there are no more.
 */
struct reset_way {
	char what[128];
	char command[HOST_RESET_COMMAND];
};
bool host_reset_way_out(const struct host_device *device, unsigned n, struct reset_way *way);
