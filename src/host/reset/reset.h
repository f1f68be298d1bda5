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
 * Is it reset between two users? By the kernel itself, where it knows a method for the device, or with the bus, where
 * VFIO has all that this hits.
 */
bool host_reset_is_sure(const struct host *host, const struct host_reset *reset);

/*
 * Reset the device by one of its methods, or with NULL by the first that works, and check its
 * configuration space afterwards. Refused for a device that a machine or a host driver has; a bus
 * reset also where another device that it hits is one of those.
 *
 * -ENODEV: the device, or another one that was hit, has not come back.
 */
int host_reset_run(const struct host *host, struct host_reset *reset, const char *method,
	bool dry_run, struct error *err);
