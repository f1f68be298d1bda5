/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/cpus.h"
#include "machine/memory.h"
#include "pci/root.h"

/*
 * Write the ACPI tables (ACPI 6.4, chapter 5: RSDP, XSDT, FADT, MADT, MCFG, SRAT, DSDT) into guest
 * RAM at LAYOUT_ACPI, where a BIOS has them. Gives the GPA of the RSDP.
 */
int acpi_write(const struct memory *memory, const struct pci_root *pci, const struct kvm_cpus *cpus,
	uint64_t *rsdp, struct error *err);
