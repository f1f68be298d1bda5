/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * Virtual functions (SR-IOV): PCI devices that a physical function (PF) makes out of itself. They
 * live as long as the PF's driver wants; taking the PF away takes its VFs along.
 */

/* How many a PF has now; 0 or less also where it can have none. */
long host_vfs_count(const struct host *host, const struct bdf *pf);

/* The VFs that a PF has now, in the order of their numbers, to be freed. Count, or an errno. */
ssize_t host_vfs_list(
	const struct host *host, const struct bdf *pf, struct bdf **vfs, struct error *err);

/* The PF of a VF, and the VF's number. -ENOENT, without an error, where it is no VF. */
int host_vfs_parent(
	const struct host *host, const struct bdf *vf, struct bdf *pf, unsigned *number);
