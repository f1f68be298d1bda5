/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/boot/bios.h"
#include "machine/boot/boot.h"
#include "machine/layout.h"
#include "machine/memory_map.h"
#include "machine/platform/acpi_loader.h"
#include "machine/platform/flash.h"
#include "machine/platform/fw_cfg.h"
#include "machine/platform/lpc.h"
#include "machine/platform/smbios.h"

/*
 * Firmware runs first: its flash, and what of a PC it looks at. It is told by fw_cfg what the machine is, and
 * which kernel to start if the user has named one.
 */

struct firmware {
	const struct boot_machine *machine;
	struct flash flash;
	struct lpc lpc;
	struct fw_cfg fw_cfg;
	struct memory_map map;
	struct smbios smbios;
	bool is_bios;
	struct bios bios;
	struct acpi_loader_command loader[ACPI_LOADER_COMMANDS];
	uint8_t tables[LAYOUT_ACPI_SIZE];
	uint8_t rsdp[ACPI_RSDP_SIZE];
};

int firmware_load(struct firmware *firmware, const struct boot_files *files,
	const struct boot_machine *machine, struct error *err);
/* The guest does not run any more. */
void firmware_destroy(struct firmware *firmware);
