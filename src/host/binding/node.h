/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * The node of a VFIO group, /dev/vfio/N, and since Linux 6.6 that of a device, /dev/vfio/devices/vfioN:
 * who may open them may run machines with the devices. The kernel makes them for root when a device
 * comes to vfio-pci.
 */

/* The user's id by name or number. -ENOENT where there is none; root needs no node. */
int host_node_find_user(const char *name, uid_t *user, struct error *err);

/* Give the nodes of devices that are at vfio-pci to a user, until they are released. */
int host_node_give(const struct host *host, const struct bdf *devices, size_t count, uid_t user,
	struct error *err);

/* Back to root, where the node is still there, and no other device of the group is to keep it. */
int host_node_take_back(const struct host *host, const struct bdf *bdf, struct error *err);
