/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/memory.h"

/*
 * What a guest's addresses are, as whoever runs first is told it (ACPI 6.4, chapter 15, "E820"). A kernel
 * gets the whole map; firmware makes its own, and is told where RAM is.
 */

enum memory_type {
	MEMORY_RAM = 1,
	MEMORY_RESERVED = 2,
};

/* As in an entry of E820. */
struct memory_map_range {
	uint64_t base;
	uint64_t size;
	uint32_t type; /* enum memory_type */
} __attribute__((packed));

struct memory_map {
	struct memory_map_range ranges[MEMORY_REGIONS_MAX + 5];
	unsigned count;
};

/* With the tables at LAYOUT_ACPI, and ecam_size bytes at LAYOUT_ECAM. */
void memory_map_for_kernel(struct memory_map *map, const struct memory *memory, uint64_t ecam_size);
void memory_map_for_firmware(struct memory_map *map, const struct memory *memory);
