/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/device/bars.h"

#include "base/fd.h"

#include <stdio.h>
#include <string.h>

#define DEVICES "/sys/bus/pci/devices/"

/* Flags of a line of "resource", from linux/ioport.h, which user space does not get. */
#define RESOURCE_IO       0x00000100
#define RESOURCE_MEM      0x00000200
#define RESOURCE_PREFETCH 0x00002000
#define RESOURCE_MEM_64   0x00100000

#define LINK_WIDTH_MAX 32 /* what is no link has 255 */

/* The lines of "resource" stand for the BARs, and one more for the ROM. */
static void read_resources(
	const struct host *host, const struct bdf *bdf, struct host_bar *bars, unsigned count)
{
	char path[PATH_MAX], name[BDF_TEXT], text[2048], *line, *save;

	memset(bars, 0, count * sizeof(*bars));
	if (host_path(host, path, DEVICES "%s/resource", bdf_format(bdf, name)) ||
		fd_read_file(path, text, sizeof(text)) <= 0)
		return;
	line = strtok_r(text, "\n", &save);
	for (unsigned i = 0; i < count && line; i++, line = strtok_r(NULL, "\n", &save)) {
		unsigned long long start, end, flags;

		if (sscanf(line, "%llx %llx %llx", &start, &end, &flags) != 3 || end < start ||
			!(flags & (RESOURCE_IO | RESOURCE_MEM)))
			continue;
		bars[i] = (struct host_bar){
			.size = end - start + 1,
			.address = start,
			.kind = flags & RESOURCE_IO       ? HOST_BAR_IO
				: flags & RESOURCE_MEM_64 ? HOST_BAR_MEM64
							  : HOST_BAR_MEM32,
			.prefetchable = flags & RESOURCE_PREFETCH,
		};
	}
}

void host_device_read_bars(
	const struct host *host, const struct bdf *bdf, struct host_bar bars[static HOST_BARS])
{
	read_resources(host, bdf, bars, HOST_BARS);
}

uint64_t host_device_rom_size(const struct host *host, const struct bdf *bdf)
{
	struct host_bar bars[HOST_BARS + 1];

	read_resources(host, bdf, bars, HOST_BARS + 1);
	return bars[HOST_BARS].size;
}

bool host_device_has_link(const struct host *host, const struct bdf *bdf)
{
	char name[BDF_TEXT];
	long width = host_read_number(host, 0, DEVICES "%s/max_link_width", bdf_format(bdf, name));

	return width > 0 && width <= LINK_WIDTH_MAX;
}
