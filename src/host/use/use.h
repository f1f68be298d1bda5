/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

/*
 * Is the host using a device, so that taking it away would harm the host? These count:
 *
 * - A disk below it (NVMe, SATA, or USB below its controller), or a partition of it, that is
 * mounted, that is swap, that belongs to a mounted btrfs, or that device-mapper, LVM, LUKS, md,
 * bcache or a loop device build on, mounted or not; and one that anything else has opened for itself alone (ZFS, a
 * mount in another mount namespace).
 * - A network interface below it, or a bridge, bond, VLAN or Open vSwitch on top of one, that carries
 *   the default route or a route through a gateway, IPv4 or IPv6, in the main table of this network
 *   namespace. An interface that is only up, or that only has an address and the route to its own
 *   subnet, does not count: that is how a spare port looks on a host that configures all of them.
 *   Nor does this look at routes elsewhere: an interface in another network namespace, as a
 *   container's, does count, for somebody has put it there.
 * - The boot display, while the host shows something on it: a monitor is connected to it and lit,
 * or it carries the text or frame-buffer console and the kernel has its console there. On a
 * headless host whose console is serial (console=ttyS0) it does not count.
 *
 * These do not, as programs cope with their loss: sound, USB keyboards, cards that only compute,
 * a second graphics card, a disk that is merely there. (Binding asks host_processes_using(), too:
 * a disk or card may be open.)
 */

struct host_use {
	char reason[192]; /* "its disk nvme0n1p2 is mounted at /home" */
	char hint[192];   /* what ends the use */
};

/* True, with the reason and hint filled, where the host uses the device. */
bool host_use_find(const struct host *host, const struct bdf *bdf, struct host_use *use);

/* For a block device, which may be a partition: it, those on it, and what builds on them. */
bool host_use_find_block(const struct host *host, dev_t device, struct host_use *use);

/* For the three parts of it: path is the device's own directory in /sys/devices. */
bool host_use_find_disk(const struct host *host, const char *path, struct host_use *use);
bool host_use_find_network(const struct host *host, const char *path, struct host_use *use);
bool host_use_find_display(const struct host *host, const char *path, struct host_use *use);

/* Of a device, as the kernel names it, that has a network interface, and none in this namespace. */
void host_use_describe_namespace(const struct host *host, const char *device, struct host_use *use);
