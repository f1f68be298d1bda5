/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/acpi_loader.h"

#include "machine/platform/fw_cfg.h"

#include <stdio.h>
#include <string.h>

enum command { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3 };
enum zone { ZONE_HIGH = 1, ZONE_F_SEGMENT = 2 };

#define TABLES_ALIGNMENT 64
#define RSDP_ALIGNMENT   16

struct loader_command {
	uint32_t command; /* little-endian, as all numbers here */
	union {
		struct {
			char file[FW_CFG_NAME];
			uint32_t alignment;
			uint8_t zone;
		} __attribute__((packed)) allocate;
		struct {
			char in[FW_CFG_NAME], to[FW_CFG_NAME];
			uint32_t offset;
			uint8_t size;
		} __attribute__((packed)) pointer;
		struct {
			char file[FW_CFG_NAME];
			uint32_t offset, start, length;
		} __attribute__((packed)) checksum;
		uint8_t all[124];
	};
} __attribute__((packed));

_Static_assert(sizeof(struct loader_command) == sizeof(struct acpi_loader_command), "a command");

static struct loader_command *next_command(struct acpi_loader_command **at, enum command command)
{
	struct loader_command *next = (struct loader_command *)(*at)++;

	next->command = command;
	return next;
}

static void set_file(char name[static FW_CFG_NAME], const char *file)
{
	snprintf(name, FW_CFG_NAME, "%s", file);
}

static void add_allocate(
	struct acpi_loader_command **at, const char *file, uint32_t alignment, enum zone zone)
{
	struct loader_command *next = next_command(at, ALLOCATE);

	set_file(next->allocate.file, file);
	next->allocate.alignment = alignment;
	next->allocate.zone = zone;
}

static void add_pointer(struct acpi_loader_command **at, const char *in, const char *to,
	uint32_t offset, uint8_t size)
{
	struct loader_command *next = next_command(at, ADD_POINTER);

	set_file(next->pointer.in, in);
	set_file(next->pointer.to, to);
	next->pointer.offset = offset;
	next->pointer.size = size;
}

static void add_checksum(struct acpi_loader_command **at, const char *file, uint32_t offset,
	uint32_t start, uint32_t length)
{
	struct loader_command *next = next_command(at, ADD_CHECKSUM);

	set_file(next->checksum.file, file);
	next->checksum.offset = offset;
	next->checksum.start = start;
	next->checksum.length = length;
}

void acpi_loader_write(struct acpi_loader_command commands[static ACPI_LOADER_COMMANDS],
	const struct acpi_links *links)
{
	struct acpi_loader_command *at = commands;

	memset(commands, 0, ACPI_LOADER_COMMANDS * sizeof(commands[0]));
	add_allocate(&at, ACPI_LOADER_TABLES, TABLES_ALIGNMENT, ZONE_HIGH);
	add_allocate(&at, ACPI_LOADER_RSDP, RSDP_ALIGNMENT, ZONE_F_SEGMENT);
	if (links->tpm_log) {
		add_allocate(&at, ACPI_LOADER_LOG, TABLES_ALIGNMENT, ZONE_HIGH);
		add_pointer(&at, ACPI_LOADER_TABLES, ACPI_LOADER_LOG, links->tpm_log, 8);
	}
	for (unsigned i = 0; i < links->pointer_count; i++)
		add_pointer(&at, ACPI_LOADER_TABLES, ACPI_LOADER_TABLES, links->pointers[i].offset,
			links->pointers[i].size);
	if (links->has_rsdt)
		add_pointer(&at, ACPI_LOADER_RSDP, ACPI_LOADER_TABLES, ACPI_RSDP_RSDT, 4);
	add_pointer(&at, ACPI_LOADER_RSDP, ACPI_LOADER_TABLES, ACPI_RSDP_XSDT, 8);
	for (unsigned i = 0; i < links->table_count; i++) {
		const struct acpi_table *table = &links->tables[i];

		add_checksum(&at, ACPI_LOADER_TABLES, table->offset + ACPI_CHECKSUM, table->offset,
			table->length);
	}
	add_checksum(&at, ACPI_LOADER_RSDP, ACPI_RSDP_CHECKSUM, 0, ACPI_RSDP_FIRST);
	add_checksum(&at, ACPI_LOADER_RSDP, ACPI_RSDP_EXTENDED, 0, ACPI_RSDP_SIZE);
}
