/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/* Use of a PF through its VFs. */

/* -EBUSY where a machine, or another program through VFIO, uses a VF of this device. */
int host_use_check_vfs(const struct host *host, const struct bdf *pf, struct error *err);

/* For a device that is to go to vfio-pci, which takes none that has VFs: -EBUSY where it has. */
int host_use_check_no_vfs(
	const struct host *host, const struct host_device *device, struct error *err);
