/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/cpus.h"
#include "machine/memory.h"
#include "pci/root.h"

/*
 * The ACPI tables (ACPI 6.4, chapter 5: RSDP, XSDT, FADT, FACS, MADT, MCFG, SRAT, DSDT; TPM2 by the TCG ACPI
 * Specification 1.4), as the machine is when they are written.
 */

struct acpi_machine {
	const struct memory *memory;
	const struct pci_root *pci;
	const struct kvm_cpus *cpus;
	bool tpm;
	bool keyboard;    /* with a mouse: i8042.h */
	bool tpm_log;     /* firmware measures into a log that the tables have to name */
	uint16_t pm_base; /* of firmware's; 0: the platform is hardware-reduced */
};

/* Write them into guest RAM at LAYOUT_ACPI, where a BIOS has them. Gives the GPA of the RSDP. */
int acpi_write(const struct acpi_machine *machine, uint64_t *rsdp, struct error *err);

#define ACPI_RSDP_SIZE  36
#define ACPI_RSDP_FIRST 20 /* bytes that ACPI 1.0 knew, with a checksum of their own */
#define ACPI_LINKS_MAX  16
#define ACPI_TPM_LOG_SIZE \
	0x10000 /* the least that a client has (TCG PC Client Firmware Profile, 10.2.1) */
#define ACPI_CHECKSUM      9 /* offsets in each table */
#define ACPI_RSDP_CHECKSUM 8 /* and in the RSDP */
#define ACPI_RSDP_RSDT     16
#define ACPI_RSDP_XSDT     24
#define ACPI_RSDP_EXTENDED 32

struct acpi_table {
	size_t offset;
	size_t length;
};

struct acpi_pointer {
	size_t offset; /* where it is, and holds an offset */
	uint8_t size;  /* in bytes */
};

/* What has to be filled in when it is known where the tables are. */
struct acpi_links {
	struct acpi_table tables[ACPI_LINKS_MAX]; /* each has a checksum */
	unsigned table_count;
	struct acpi_pointer pointers[ACPI_LINKS_MAX];
	unsigned pointer_count;
	size_t tpm_log; /* a pointer, too, of 8 bytes, to ACPI_TPM_LOG_SIZE bytes; 0: there is none */
	bool has_rsdt;
	size_t rsdp; /* behind all tables, with a pointer or two more and two checksums */
};

/*
 * Write them for firmware, which has yet to find a place for them: a GPA is an offset, a checksum 0. With the ports
 * at pm_base (lpc.h) the platform is not hardware-reduced: a system then sets up 8259s and 8254 anew, which a BIOS
 * leaves at work, and has a timer to measure its CPU by; a reduced one has none of them to look at. There is an RSDT,
 * too, which is all that boot loaders of a BIOS know. 0: it is, and there is none. False: there is no room for them.
 */
bool acpi_write_unplaced(
	uint8_t *bytes, size_t room, const struct acpi_machine *machine, struct acpi_links *links);
