/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/boot/plan.h"

/*
 * Binding devices to vfio-pci when the host boots, before its own drivers load.
 *
 * A hook in the initramfs does it by address, through driver_override: binding by vendor and
 * device takes every device of that kind. The hook compares vendor and device all the same, as
 * adding a card can move others to new addresses. With penstock.bind=off on the kernel's command
 * line it does nothing, so that a host that does not come up can be started without it.
 *
 * Files are read and written below the host's root. apply.h keeps what they were before in BOOT_STATE, so
 * that it can be put back byte for byte.
 */

/*
 * Devices that the host uses (a mounted disk, a route) are refused without force. The plan is freed
 * by boot_plan_free(), also after a failure.
 */
int boot_make_plan(struct boot_plan *plan, const struct host *host, const struct bdf *devices,
	size_t count, bool force, struct error *err);
