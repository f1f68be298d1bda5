/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/memory_map.h"

#include "machine/layout.h"

static void add_range(struct memory_map *map, uint64_t base, uint64_t end, enum memory_type type)
{
	map->ranges[map->count++] = (struct memory_map_range){ base, end - base, type };
}

static void add_region(struct memory_map *map, const struct memory_region *region)
{
	add_range(map, region->gpa, region->gpa + region->size, MEMORY_RAM);
}

void memory_map_for_kernel(struct memory_map *map, const struct memory *memory, uint64_t ecam_size)
{
	map->count = 0;
	add_range(map, 0, LAYOUT_EBDA, MEMORY_RAM);
	add_range(map, LAYOUT_EBDA, LAYOUT_VGA, MEMORY_RESERVED);
	add_range(map, LAYOUT_ACPI, LAYOUT_1M, MEMORY_RESERVED);
	add_range(map, LAYOUT_1M, memory->regions[0].size, MEMORY_RAM);
	for (unsigned i = 1; i < memory->count; i++)
		add_region(map, &memory->regions[i]);
	add_range(map, LAYOUT_ECAM, LAYOUT_ECAM + ecam_size, MEMORY_RESERVED);
}

void memory_map_for_firmware(struct memory_map *map, const struct memory *memory)
{
	map->count = 0;
	for (unsigned i = 0; i < memory->count; i++)
		add_region(map, &memory->regions[i]);
}
