/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "pci/device.h"
#include "pci/space.h"

/*
 * The guest's PCI bus 0 behind its host bridge: devices, configuration access by ECAM and by the
 * ports CF8 and CFC, and the windows in which BARs are decoded.
 *
 * Every access is served under its device's lock. Lock order: a device's, then the space's or the
 * VM's; no thread holds two devices' at once.
 */

/*
 * One bus is all there is, and the tables say so: Linux asks every slot of each bus that they promise
 * whether a device is there, at two exits a slot.
 */
#define PCI_ECAM_BUSES 1
#define PCI_ECAM_SIZE  ((uint64_t)PCI_ECAM_BUSES << 20)

/* [base, base + size) of GPAs or ports, with the next free address for the first placement. */
struct pci_window {
	uint64_t base;
	uint64_t size;
	uint64_t next;
};

struct pci_windows {
	struct pci_window io;
	struct pci_window mem32;
	struct pci_window mem64;
};

struct pci_bus {
	struct space *mmio;
	struct space *pio;
	struct pci_windows windows;
	uint64_t ecam;                   /* GPA */
	uint32_t config_address;         /* what port CF8 holds */
	struct pci_device *devices[256]; /* by devfn; the owners keep them */
	/* Port CF9, a byte inside the address port, is the PC's reset register. */
	void (*reset)(void *opaque);
	void *reset_opaque;
};

/* Claims ECAM and the ports. mmio and pio must outlive the bus. */
int pci_bus_init(struct pci_bus *bus, struct space *mmio, struct space *pio, uint64_t ecam,
	const struct pci_windows *windows, struct error *err);

/* Put a device at devfn and give its BARs addresses, as firmware would; decoding stays off. */
int pci_bus_add(struct pci_bus *bus, struct pci_device *device, uint8_t devfn, struct error *err);

/*
 * For pci/device.c: trap a BAR at its address, if it lies whole in a window and overlaps no other.
 * A BAR that the guest puts elsewhere is decoded nowhere; one that overlaps, when the other leaves.
 */
bool pci_bus_decode(struct pci_bus *bus, const struct pci_bar *bar, struct pci_bar_handle *handle);
void pci_bus_undecode(struct pci_bus *bus, const struct pci_bar *bar);
