/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Option ROMs, as a device or a file has them. */
#include "fuzz.h"
#include "host/rom.h"

#include <stdlib.h>
#include <string.h>

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_rom(const struct rom *rom, size_t size)
{
	size_t end = 0;

	check(rom->count <= ROM_IMAGES_MAX && rom->used <= size);
	check(!rom->shift || rom->shift < size);
	check(memchr(rom->broken, '\0', sizeof(rom->broken)) != NULL);
	check(rom->count || rom->broken[0]);
	for (unsigned i = 0; i < rom->count; i++) {
		const struct rom_image *image = &rom->images[i];

		check(image->offset == end && image->offset < size);
		check(image->length <= size - image->offset || image->problems & ROM_PROBLEM_CUT);
		check(image->problems < 1u << ROM_PROBLEMS);
		end += image->length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct host_device device = {
		.vendor = 0x8086, .device = 0x10d3, .class_code = 0x020000
	};
	uint8_t *copy = malloc(size); /* of its exact size, so that a read behind its end shows */
	struct rom rom;

	check(copy || !size);
	if (size)
		memcpy(copy, data, size);
	rom_parse(&rom, copy, size, NULL);
	check_rom(&rom, size);
	rom_parse(&rom, copy, size, &device);
	check_rom(&rom, size);
	free(copy);
	return 0;
}
