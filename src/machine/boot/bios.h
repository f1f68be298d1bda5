/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/boot/boot.h"
#include "machine/platform/acpi.h"
#include "machine/platform/flash.h"
#include "machine/platform/fw_cfg.h"

/*
 * What a BIOS has beyond what all firmware has: it runs below 1 MiB, speaks by the serial port as it has no display, and
 * keeps no order of boot devices, so that it is told one. It starts a TPM only where the ACPI tables have a log for it.
 */

/* The end of its image that is shown below 1 MiB, too; there it unpacks itself. */
#define BIOS_SHADOW 0x20000

struct bios {
	uint64_t console; /* the port, as fw_cfg has it */
	char *order;      /* paths of OpenFirmware, one a line; NULL: there are no devices */
	uint8_t tpm_log[ACPI_TPM_LOG_SIZE]; /* as it begins: empty */
};

/* Its image is in the flash; all of these outlive it. */
int bios_load(struct bios *bios, const struct flash *flash, const struct boot_machine *machine,
	struct fw_cfg *fw_cfg, struct error *err);
void bios_destroy(struct bios *bios);
