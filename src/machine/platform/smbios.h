/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/memory.h"

#include <stddef.h>

/*
 * What firmware hands on about the machine (SMBIOS 3.6, DMTF DSP0134): system, chassis, processor, memory. It adds what
 * it knows of itself, type 0.
 */

#define SMBIOS_ANCHOR_FILE "etc/smbios/smbios-anchor"
#define SMBIOS_TABLES_FILE "etc/smbios/smbios-tables"
#define SMBIOS_ANCHOR_SIZE 24
#define SMBIOS_TABLES_MAX  2048

struct smbios {
	uint8_t anchor[SMBIOS_ANCHOR_SIZE];
	uint8_t tables[SMBIOS_TABLES_MAX];
	size_t size; /* of tables */
};

/* The machine of this name is the same system at each start: its UUID follows from the name. */
void smbios_write(
	struct smbios *smbios, const char *name, const struct memory *memory, unsigned cpus);
