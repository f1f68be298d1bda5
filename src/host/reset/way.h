/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/* Ways to get back a device that does not answer. */

#define RESET_WAY_COMMAND 256

/*
 * The shell command that lets the kernel find a device anew. One at vfio-pci goes there again: its
 * driver_override is gone with it, and drivers_autoprobe keeps the host's driver off since Linux 6.19;
 * before that, the host's driver has the device until penstock takes it.
 */
void reset_way_rescan(const struct host_device *device, char command[static RESET_WAY_COMMAND]);

/*
 * Ways to get back a device that does not answer, as shell commands: the n-th one (from 0) with a
 * word on it, or false when there are no more.
 */
struct reset_way {
	char what[128];
	char command[RESET_WAY_COMMAND];
	bool resets; /* the device itself, and not only what the kernel knows of it */
};
bool reset_way_out(const struct host_device *device, unsigned n, struct reset_way *way);
