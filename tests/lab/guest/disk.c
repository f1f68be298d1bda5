// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * disk verify DEVICE NAME OFFSET LENGTH    the sectors say that they are NAME's, and where they are
 * disk stamp DEVICE NAME OFFSET LENGTH     writes them so, and reads them back
 *
 * Past the page cache (O_DIRECT), so that each byte is the device's DMA.
 */
#include "lab.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (256u << 10)

struct area {
	const char *device;
	const char *name;
	uint64_t offset;
	uint64_t length;
	int file;
};

static void write_area(const struct area *area, char *data)
{
	for (uint64_t done = 0; done < area->length; done += CHUNK) {
		make_sectors(data, area->name, (area->offset + done) / SECTOR, CHUNK / SECTOR);
		if (pwrite(area->file, data, CHUNK, (off_t)(area->offset + done)) != CHUNK)
			fail_errno("writing to %s at %#llx", area->device,
				(unsigned long long)(area->offset + done));
	}
	if (fsync(area->file))
		fail_errno("flushing %s", area->device);
}

static void verify_area(const struct area *area, char *data, char *wanted)
{
	for (uint64_t done = 0; done < area->length; done += CHUNK) {
		uint64_t at = area->offset + done;

		memset(data, 0, CHUNK);
		if (pread(area->file, data, CHUNK, (off_t)at) != CHUNK)
			fail_errno(
				"reading from %s at %#llx", area->device, (unsigned long long)at);
		make_sectors(wanted, area->name, at / SECTOR, CHUNK / SECTOR);
		for (unsigned int i = 0; i < CHUNK; i += SECTOR) {
			if (memcmp(data + i, wanted + i, SECTOR))
				fail("%s: sector %llu reads '%.40s', not '%.40s'", area->device,
					(unsigned long long)(at + i) / SECTOR, data + i,
					wanted + i);
		}
	}
}

int disk_main(int argc, char **argv)
{
	struct area area;
	char *data = aligned_alloc(PAGE, CHUNK);
	char *wanted = malloc(CHUNK);
	double start = seconds();
	bool stamp;

	if (argc != 6 || !data || !wanted)
		fail("usage: disk verify|stamp DEVICE NAME OFFSET LENGTH");
	stamp = strcmp(argv[1], "stamp") == 0;
	area = (struct area){ .device = argv[2],
		.name = argv[3],
		.offset = number(argv[4]),
		.length = number(argv[5]) };
	if (area.offset % CHUNK || area.length % CHUNK)
		fail("offset and length must be multiples of %u", CHUNK);
	area.file = open(area.device, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (area.file < 0)
		fail_errno("%s", area.device);
	if (stamp)
		write_area(&area, data);
	verify_area(&area, data, wanted);
	printf("disk: %s %s, %llu KiB at %llu KiB, in %.2f s\n", area.device,
		stamp ? "written and read back" : "verified", (unsigned long long)area.length >> 10,
		(unsigned long long)area.offset >> 10, seconds() - start);
	return 0;
}
