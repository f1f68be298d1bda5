/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"
#include "machine/display_mode.h"
#include "pci/bus.h"

/*
 * A display card without VGA, as QEMU's bochs-display: BAR 0 is its memory, which the guest draws into without an
 * exit, BAR 2 the registers of Bochs's VBE extensions (DISPI; bochs: iodev/display/vga.h; QEMU: docs/specs/standard-vga.rst,
 * "QEMU Standard VGA", whose MMIO area this is). OVMF and Linux's bochs-drm drive it; SeaBIOS by SeaVGABIOS in the ROM.
 */

#define BOCHS_REGISTERS_SIZE (4 * KIB)
#define BOCHS_DISPI_WRITABLE 10 /* registers, from 0 on, that hold what is written */

struct bochs {
	struct pci_device pci;
	struct kvm_vm *vm;
	void *memory;    /* DISPLAY_FILE_SIZE bytes, the caller's */
	const void *rom; /* DISPLAY_ROM bytes, the same; NULL: it has none */
	int slot;        /* which shows the memory; -1: none */
	int rom_slot;
	uint16_t dispi[BOCHS_DISPI_WRITABLE];
};

/* vm and memory are filled in, and outlive it. */
int bochs_init(struct bochs *bochs, struct pci_bus *bus, uint8_t devfn, struct error *err);
/* Also after a bochs_init() that has failed, or none. */
void bochs_destroy(struct bochs *bochs);
