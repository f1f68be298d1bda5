/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/rom/fit.h"

#include "base/log.h"

#include <errno.h>

#define EFI_MACHINE_X64 \
	0x8664 /* of images that are UEFI's, in the PE/COFF specification's numbers */

/* The image that runs; NULL: none does. Without its header a UEFI image does not say for which machine. */
static const struct rom_image *find_run_image(const struct rom *rom, int runs)
{
	for (unsigned i = 0; i < rom->count; i++) {
		const struct rom_image *image = &rom->images[i];

		if (image->type == runs &&
			(image->type != ROM_TYPE_UEFI || image->efi_machine == EFI_MACHINE_X64 ||
				image->problems & ROM_PROBLEM_NO_EFI))
			return image;
	}
	return NULL;
}

/* The first of an image's problems among those. */
static const char *find_problem(const struct rom_image *image, unsigned among)
{
	for (unsigned bit = 1; bit < 1u << ROM_PROBLEMS; bit <<= 1)
		if (image->problems & among & bit)
			return rom_problem_text(bit);
	return NULL;
}

static int refuse_rom(
	const char *path, const char *why, const struct host_device *device, struct error *err)
{
	char name[BDF_TEXT];

	bdf_format(&device->bdf, name);
	error_set(err, -EINVAL, path, "cannot be the option ROM of %s: %s", name, why);
	error_hint(err,
		"'penstock rom check %s %s' shows what is in it; rom=off shows the guest no option ROM",
		path, name);
	return -EINVAL;
}

/* Of one image nothing counts but how it is cut, and whose it is. */
static const char *find_fault(const struct rom *rom, int runs)
{
	const struct rom_image *image = find_run_image(rom, runs);
	unsigned serious = ROM_PROBLEM_CUT | ROM_PROBLEM_VENDOR;
	const char *why = NULL;

	if (rom->broken[0])
		return rom->broken;
	for (unsigned i = 0; i < rom->count && !why; i++)
		why = find_problem(&rom->images[i], serious);
	if (why || runs == ROM_RUNS_NONE)
		return why;
	if (image)
		return find_problem(
			image, ROM_PROBLEM_CHECKSUM | ROM_PROBLEM_INIT_SIZE | ROM_PROBLEM_NO_EFI);
	return rom_fit_own(rom, runs);
}

int rom_fit_file(const char *path, const struct rom *rom, const struct host_device *device,
	int runs, struct error *err)
{
	const char *why = find_fault(rom, runs);
	char name[BDF_TEXT];

	if (why)
		return refuse_rom(path, why, device, err);
	for (unsigned i = 0; i < rom->count; i++) {
		why = find_problem(&rom->images[i], ~0u);
		if (!why)
			continue;
		log_warning("%s: shown as the option ROM of %s, though of its image at byte %zu "
			    "'penstock rom check' says: %s",
			path, bdf_format(&device->bdf, name), rom->images[i].offset, why);
	}
	return 0;
}

const char *rom_fit_own(const struct rom *rom, int runs)
{
	if (!rom->count)
		return rom->broken;
	if (runs == ROM_RUNS_NONE || find_run_image(rom, runs))
		return NULL;
	return runs == ROM_TYPE_UEFI
		       ? "it has no UEFI image for x86-64, and this firmware runs no other"
		       : "it has no image for a BIOS, and this firmware runs no other";
}
