/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/rom/rom.h"

/*
 * May a guest be shown a ROM as the device's? What runs first decides which of its images counts: firmware
 * runs those of one type, and for a PC like this one. A kernel that is started directly runs none.
 */

#define ROM_RUNS_NONE (-1)

/*
 * A file's, parsed for the device. Refuses one whose chain of images is not sound, that is for another vendor's
 * device, or without a sound image of the type that runs. What else 'penstock rom check' calls a problem is warned of.
 */
int rom_fit_file(const char *path, const struct rom *rom, const struct host_device *device,
	int runs, struct error *err);

/* A device's own, read from it: why firmware finds nothing in it to run, or NULL. */
const char *rom_fit_own(const struct rom *rom, int runs);
