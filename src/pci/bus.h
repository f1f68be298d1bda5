/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "pci/device.h"

/*
 * A bus of the guest's PCI tree: the root bus, or the one behind a bridge. It knows its devices and
 * the bridge above it, and answers what a device has to ask its parent: an address, an interrupt line,
 * whether an address gets through to it.
 *
 * The tree itself changes only while no vCPU runs. Lock order: a device's, then the root's, the space's
 * or the VM's; no thread holds two devices' at once.
 */

struct pci_bridge;
struct pci_root;

/* [base, base + size) of GPAs or ports, with the next free address for the first placement. */
struct pci_window {
	uint64_t base;
	uint64_t size;
	uint64_t next;
};

struct pci_windows {
	struct pci_window io;
	struct pci_window mem32;
	struct pci_window mem64; /* behind a bridge for prefetchable BARs only */
};

struct pci_bus {
	struct pci_root *root;
	struct pci_bridge *parent;       /* NULL: the root bus */
	struct pci_windows windows;      /* where pci_bus_place() puts BARs */
	struct pci_device *devices[256]; /* by devfn; the owners keep them */
	struct pci_bridge *bridges;      /* on this bus */
};

/* Put a device at devfn. -EEXIST: the place is taken. */
int pci_bus_add(struct pci_bus *bus, struct pci_device *device, uint8_t devfn, struct error *err);
/* Take it away, with all that is decoded for it. One that was not added is left alone. */
void pci_bus_remove(struct pci_device *device);

/* Give the BARs addresses, the largest first, as firmware would; decoding stays off. */
int pci_bus_place(struct pci_device *device, struct error *err);

/*
 * The line of the interrupt controllers that a slot's pin, 1 (INTA) to 4, is wired to. A bridge hands
 * the pins of what is behind it to its own, turned by the slot (PCI-to-PCI Bridge 1.2, 9.1).
 */
unsigned pci_bus_line(const struct pci_bus *bus, unsigned slot, unsigned pin);

/* Would an access to the BAR at an address reach this bus, through each bridge above it? */
bool pci_bus_forwards(const struct pci_bus *bus, const struct pci_bar *bar, uint64_t address);

/*
 * For pci/device.c: trap a BAR at its address. False where it does not lie whole in what is forwarded, or
 * overlaps another, until that one leaves.
 */
bool pci_bus_decode(struct pci_bus *bus, const struct pci_bar *bar, struct pci_bar_handle *handle);
void pci_bus_undecode(struct pci_bus *bus, const struct pci_bar *bar);

/* What one BAR has left, or a bridge forwards anew, may be what others wait for; no lock held. */
void pci_bus_settle(struct pci_bus *bus);
