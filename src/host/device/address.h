/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * The ways in which people name a PCI device:
 *
 *   0000:01:00.0  01:00.0   an address; domain 0000 where there is none
 *   0000:01:00    01:00     all functions of a device
 *   8086:10d3               vendor and device, when the host has one such device only
 *   pci_0000_01_00_0        as libvirt writes it
 *   /sys/..., /dev/sda      a path in sysfs at or below the device, or a block device
 *   eth0, nvme0n1           a network interface or block device
 */

#define HOST_ADDRESS_FORMS                                                                               \
	"An ADDRESS is 0000:01:00.0 or 01:00.0; 01:00 for all functions of a device; 8086:10d3 for\n"    \
	"vendor and device, where there is one only; pci_0000_01_00_0; a path in /sys; or the name of\n" \
	"a network interface or disk.\n"

#define HOST_ADDRESS_MAX 8 /* functions of a device */

/*
 * The devices that text names. Their number, 1 or more, or a negative errno: -EINVAL where text is
 * no name of a device at all, -ENODEV where the host has none of that name, -ENOTUNIQ where it has
 * several. A complete address is taken as it is, as it may be of a device that is gone.
 */
int host_address_find(const struct host *host, const char *text,
	struct bdf devices[static HOST_ADDRESS_MAX], struct error *err);

/* The one device that text names; -ENOTUNIQ also for a device with several functions. */
int host_address_find_one(
	const struct host *host, const char *text, struct bdf *device, struct error *err);

/* The devices of all words, each once, in their order, to be freed. Their number or an errno. */
ssize_t host_address_find_all(const struct host *host, char *const *words, size_t count,
	struct bdf **devices, struct error *err);
