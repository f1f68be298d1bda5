/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * Which process keeps a device busy? Asked of the live /proc; without root only the user's own
 * processes are seen, and this process itself does not count. With text such as "Xorg (pid 812) has
 * /dev/dri/card0 open", or with the reason why it cannot be told.
 */

enum host_user {
	HOST_USER_NONE,
	HOST_USER_HAS_OPEN, /* a node that can be taken from under it, though the driver may wait */
	/*
	 * What cannot: a disk, whose data it may be changing, or a graphics card's node (dri, fb), for which the
	 * driver waits until it is closed; and for longer than udev, which looks into every disk that
	 * appears.
	 */
	HOST_USER_DEPENDS,
};

/* Through the device nodes below the device. */
enum host_user host_processes_using(
	const struct host *host, const struct host_device *device, char *text, size_t size);

/* Through VFIO, by any process: the node of its group, or its own one where the kernel has those. */
bool host_processes_using_vfio(
	const struct host *host, const struct host_device *device, char *text, size_t size);
