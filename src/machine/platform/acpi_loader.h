/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/platform/acpi.h"

/*
 * The script by which firmware puts the ACPI tables in place, QEMU's "table loader" (docs/specs/acpi_hw_reduced_*
 * use it; the format is that of hw/acpi/bios-linker-loader.c): load both files, turn offsets into addresses, then fill
 * in the checksums.
 */

#define ACPI_LOADER_FILE   "etc/table-loader"
#define ACPI_LOADER_TABLES "etc/acpi/tables"
#define ACPI_LOADER_RSDP   "etc/acpi/rsdp"
#define ACPI_LOADER_LOG \
	"etc/tpm/log" /* ACPI_TPM_LOG_SIZE zeroes, where acpi_machine.tpm_log says so */

struct acpi_loader_command {
	uint8_t bytes[128];
};

/* Three files, a pointer each and those to the log and in the RSDP, a checksum each and its two. */
#define ACPI_LOADER_COMMANDS (3 + ACPI_LINKS_MAX + 3 + ACPI_LINKS_MAX + 2)

/* What is left over does nothing. */
void acpi_loader_write(struct acpi_loader_command commands[static ACPI_LOADER_COMMANDS],
	const struct acpi_links *links);
