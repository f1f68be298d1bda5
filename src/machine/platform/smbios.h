/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/cpus.h"
#include "machine/memory.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * What firmware hands on about the machine (SMBIOS 3.6, DMTF DSP0134): system, chassis, processor, memory, and what
 * the user wants to be told. UEFI adds what it knows of itself, type 0, where the user says nothing of it.
 */

#define SMBIOS_ANCHOR_FILE "etc/smbios/smbios-anchor"
#define SMBIOS_TABLES_FILE "etc/smbios/smbios-tables"
#define SMBIOS_ANCHOR_SIZE 24
#define SMBIOS_TABLES_MAX  (28 * 1024) /* for all that a user can say, see smbios.c */

#define SMBIOS_TEXT_SIZE 256 /* with the end */
#define SMBIOS_OEM_SIZE  1024
#define SMBIOS_OEM_MAX   16

/* By their structures: types 0 to 3. */
enum smbios_text {
	SMBIOS_BIOS_VENDOR,
	SMBIOS_BIOS_VERSION,
	SMBIOS_BIOS_DATE,
	SMBIOS_SYSTEM_MANUFACTURER,
	SMBIOS_SYSTEM_PRODUCT,
	SMBIOS_SYSTEM_VERSION,
	SMBIOS_SYSTEM_SERIAL,
	SMBIOS_SYSTEM_SKU,
	SMBIOS_SYSTEM_FAMILY,
	SMBIOS_BOARD_MANUFACTURER,
	SMBIOS_BOARD_PRODUCT,
	SMBIOS_BOARD_VERSION,
	SMBIOS_BOARD_SERIAL,
	SMBIOS_BOARD_ASSET,
	SMBIOS_BOARD_LOCATION,
	SMBIOS_CHASSIS_MANUFACTURER,
	SMBIOS_CHASSIS_VERSION,
	SMBIOS_CHASSIS_SERIAL,
	SMBIOS_CHASSIS_ASSET,
	SMBIOS_CHASSIS_SKU,
	SMBIOS_TEXTS,
};

/* What the user says of the machine. All zeros: nothing. */
struct smbios_config {
	char texts[SMBIOS_TEXTS][SMBIOS_TEXT_SIZE];
	char oem[SMBIOS_OEM_MAX][SMBIOS_OEM_SIZE]; /* of type 11 */
	unsigned oem_count;
	uint8_t uuid[16]; /* as type 1 has it: the first three fields little-endian (7.2.1) */
	bool has_uuid;
};

struct smbios {
	uint8_t anchor[SMBIOS_ANCHOR_SIZE];
	uint8_t tables[SMBIOS_TABLES_MAX];
	size_t size; /* of tables */
};

/* Where the user gives no UUID it follows from the name, so that the machine is the same system at each start. */
void smbios_write(struct smbios *smbios, const struct smbios_config *config, const char *name,
	const struct memory *memory, const struct kvm_cpus *cpus);

/* Where the tables are, which firmware finds a place for. */
void smbios_place(struct smbios *smbios, uint64_t gpa);
