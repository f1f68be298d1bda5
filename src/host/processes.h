/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device.h"

/* Device nodes, below /dev: "dri/card0". */
struct host_nodes {
	char (*names)[HOST_NAME];
	size_t count;
	bool incomplete; /* there may be more */
};

/*
 * The nodes through which a device is used, its own and those of what is below it; with vital only
 * those that host_processes_depending() asks about. To be freed.
 */
void host_nodes_find(const struct host *host, const struct host_device *device, bool vital,
	struct host_nodes *nodes);
void host_nodes_free(struct host_nodes *nodes);

/*
 * Which process keeps a device busy? Asked of the live /proc; without root only the user's own
 * processes are seen. True with text such as "Xorg (pid 812) has /dev/dri/card0 open", or with the
 * reason why it cannot be told.
 */

/* Through the device nodes below the device; this process itself does not count. */
bool host_processes_using(
	const struct host *host, const struct host_device *device, char *text, size_t size);

/*
 * The same, but only through what cannot be taken from under it: a disk, whose data it may be
 * changing, or a graphics card's node, for which the driver waits until it is closed; and for longer than
 * udev, which looks into every disk that appears.
 */
bool host_processes_depending(
	const struct host *host, const struct host_device *device, char *text, size_t size);

/* Through VFIO: the node of its group, or its own one where the kernel has those. */
bool host_processes_using_vfio(
	const struct host *host, const struct host_device *device, char *text, size_t size);
