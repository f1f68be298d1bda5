/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * The file with a UEFI firmware's variables: a firmware volume (Platform Initialization 1.8, volume 3, 3.2.1) that
 * begins with a variable store. Firmware finds its own in it, or writes over what it does not know: so what is
 * not that is refused here. Descriptors are locked as long as a machine has them (flock(2)).
 */

#define NVRAM_HEAD 256 /* bytes that the heads of both, and what is told apart by them, fit into */

bool nvram_is_volume(const uint8_t head[static NVRAM_HEAD]);
/* A volume of variables, all of a file of so many bytes. */
bool nvram_is_whole(const uint8_t head[static NVRAM_HEAD], uint64_t size);

/*
 * Open a file of variables for writing; one that is not there is made from the template, NULL where none is
 * known. A descriptor, or a negative errno with err filled in.
 */
int nvram_open(const char *path, const char *template, struct error *err);

/* A copy of the template without a name. -1 without an error where there is no template. */
int nvram_copy(const char *template, struct error *err);
