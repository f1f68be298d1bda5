/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/size.h"

/*
 * The guest's physical address map (GPA), that of a Q35 PC so that stock firmware and systems know
 * it:
 *
 *   0          RAM; 640 KiB to 1 MiB as on a PC: a VGA card's memory, where a BIOS has one, is at A0000, the
 *              ACPI tables are at E0000, those of SMBIOS at F0000
 *   2 GiB      32-bit PCI window
 *   E0000000   ECAM (PCI Express configuration space), 1 MiB for each bus
 *   FEC00000   IOAPIC
 *   FEE00000   local APICs, and the address window of MSIs
 *   below 4G   firmware, where it runs first: its variables, and its code up to the end. It then chooses
 *              where ECAM and BARs are, from 2 GiB to FC000000
 *   4 GiB      the rest of the RAM, around what the host's IOMMU reserves
 *   half way   64-bit PCI window: the upper half of what addresses can reach
 */
#define LAYOUT_LOW_RAM_END 0x80000000ULL
#define LAYOUT_MEM32_BASE  0x80000000ULL
#define LAYOUT_MEM32_SIZE  0x60000000ULL
#define LAYOUT_ECAM        0xe0000000ULL
#define LAYOUT_IOAPIC      0xfec00000ULL
#define LAYOUT_LOCAL_APIC  0xfee00000ULL
#define LAYOUT_HIGH_RAM    0x100000000ULL
#define LAYOUT_CHIPS       0xfc000000ULL
#define LAYOUT_4G          0x100000000ULL

#define LAYOUT_EBDA         0x0009fc00ULL /* end of conventional memory */
#define LAYOUT_VGA          0x000a0000ULL
#define LAYOUT_VGA_END      0x000c0000ULL
#define LAYOUT_ACPI         0x000e0000ULL
#define LAYOUT_ACPI_SIZE    0x00010000ULL
#define LAYOUT_SMBIOS       0x000f0000ULL
#define LAYOUT_RESET_VECTOR 0x000ffff0ULL
#define LAYOUT_1M           0x00100000ULL

/* I/O ports that PCI devices may have. */
#define LAYOUT_IO_BASE 0x6000
#define LAYOUT_IO_SIZE 0xa000
#define LAYOUT_IO_LOW  0x1000 /* where a BIOS may begin */
#define LAYOUT_IO_END  0x10000

/* The slot of the ISA bridge on the root bus, on a Q35. */
#define LAYOUT_ISA_SLOT 31

/* Lines of the interrupt controllers (GSIs). */
#define LAYOUT_GSI_KEYBOARD 1
#define LAYOUT_GSI_SERIAL   4
#define LAYOUT_GSI_EVENTS   9
#define LAYOUT_GSI_SCI      10 /* nothing raises it */
#define LAYOUT_GSI_MOUSE    12
#define LAYOUT_GSI_PCI      16 /* eight of them: see layout_pci_gsi() */

/* The line of a PCI device's interrupt pin, 1 (INTA) to 4; the ACPI tables say the same. */
static inline unsigned layout_pci_gsi(unsigned device, unsigned pin)
{
	return LAYOUT_GSI_PCI + (device + pin - 1) % 8;
}
