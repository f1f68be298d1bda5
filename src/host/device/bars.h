/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <stdint.h>

/* The registers of a device by address: its BARs, as the kernel has sized and placed them. */

#define HOST_BARS 6

enum host_bar_kind { HOST_BAR_IO, HOST_BAR_MEM32, HOST_BAR_MEM64 };

struct host_bar {
	uint64_t size;    /* bytes; 0: there is none, or the kernel tells nothing of it */
	uint64_t address; /* on the bus; 0: it was given none */
	enum host_bar_kind kind;
	bool prefetchable;
};

/* All of size 0 where there is no such device. */
void host_device_read_bars(
	const struct host *host, const struct bdf *bdf, struct host_bar bars[static HOST_BARS]);

/* The BAR of its option ROM, by the same; 0: it has none. */
uint64_t host_device_rom_size(const struct host *host, const struct bdf *bdf);

/* Has the device a PCI Express link: is it an endpoint, and not a part of the root complex? */
bool host_device_has_link(const struct host *host, const struct bdf *bdf);
