/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Option ROMs, as a device or a file has them. */
#include "fuzz.h"
#include "host/rom/fit.h"
#include "host/rom/rom.h"

#include <stdlib.h>
#include <string.h>

enum { IMAGES, SOUND, BROKEN, SHOWN };

struct fuzz_goal fuzz_goals[] = {
	[IMAGES] = { "images", 10, 0 },
	[SOUND] = { "ROMs without a problem", 2000, 0 },
	[BROKEN] = { "broken ROMs", 20, 0 },
	[SHOWN] = { "ROMs that a guest may be shown", 2000, 0 },
	{ 0 },
};

static void check_rom(const struct rom *rom, size_t size)
{
	size_t end = 0;

	fuzz_check(rom->count <= ROM_IMAGES_MAX && rom->used <= size);
	fuzz_check(!rom->shift || rom->shift < size);
	fuzz_check(memchr(rom->broken, '\0', sizeof(rom->broken)) != NULL);
	fuzz_check(rom->count || rom->broken[0]);
	for (unsigned i = 0; i < rom->count; i++) {
		const struct rom_image *image = &rom->images[i];

		fuzz_check(image->offset == end && image->offset < size);
		fuzz_check(
			image->length <= size - image->offset || image->problems & ROM_PROBLEM_CUT);
		fuzz_check(image->problems < 1u << ROM_PROBLEMS);
		end += image->length;
	}
}

/* What firmware may be shown has an image that it runs, and nothing lets it read on behind the file. */
static void check_fit(const struct rom *rom, size_t size, const struct host_device *device)
{
	static const int runs[] = { ROM_RUNS_NONE, ROM_TYPE_LEGACY, ROM_TYPE_UEFI };

	for (unsigned i = 0; i < 3; i++) {
		struct error err = { 0 };
		int code = rom_fit_file("a.rom", rom, device, runs[i], &err);

		fuzz_check(code == err.code && (!code || (err.what[0] && err.hint[0])));
		if (code)
			continue;
		fuzz_goals[SHOWN].count++;
		fuzz_check(rom->count && !rom->broken[0] && !rom_fit_own(rom, runs[i]));
		fuzz_check(runs[i] == ROM_RUNS_NONE || rom_has(rom, runs[i]));
		for (unsigned j = 0; j < rom->count; j++)
			fuzz_check(rom->images[j].length <= size - rom->images[j].offset &&
				   rom->images[j].vendor == device->vendor);
	}
}

void fuzz_one(struct fuzz_input *input)
{
	static const struct host_device device = {
		.vendor = 0x8086, .device = 0x10d3, .class_code = 0x020000
	};
	struct rom rom;

	rom_parse(&rom, input->data, input->size, NULL);
	check_rom(&rom, input->size);
	rom_parse(&rom, input->data, input->size, &device);
	check_rom(&rom, input->size);
	check_fit(&rom, input->size, &device);
	fuzz_goals[IMAGES].count += rom.count;
	fuzz_goals[BROKEN].count += rom.broken[0] != '\0';
	fuzz_goals[SOUND].count += rom.count && !rom.broken[0] && !rom.images[0].problems;
}
