/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "pci/bus.h"

/*
 * A bridge to a bus of its own: the type 1 header (PCI-to-PCI Bridge 1.2, 3.2), whose bus numbers and
 * windows say what gets through. They are the guest's to change at any time.
 */

/* First to last address, both included; first > last: none. */
struct pci_range {
	uint64_t first;
	uint64_t last;
};

struct pci_bridge {
	struct pci_device device;
	struct pci_bus secondary;
	struct pci_bridge *next; /* on the same bus */
	bool down;               /* nothing gets through: the link is, or the slot has no power */
	/* What the registers say, read by other devices' accesses; under the root's lock. */
	uint8_t first_bus, last_bus;
	struct pci_range io, mem, prefetchable;
	bool vga_io, vga_mem;
};

/*
 * A bridge in front of bus number, with windows as firmware would set them: io may be empty, and is then
 * not there at all; mem32 and mem64 are multiples of 1 MiB. Its identity is the caller's to fill in.
 */
int pci_bridge_init(struct pci_bridge *bridge, const struct pci_device_ops *ops, uint8_t number,
	const struct pci_windows *windows);
void pci_bridge_destroy(struct pci_bridge *bridge);

/* Put it on a bus, and its own bus behind it. */
int pci_bridge_add(
	struct pci_bus *bus, struct pci_bridge *bridge, uint8_t devfn, struct error *err);

/* There is a VGA card behind it: it can be told to forward what such a one decodes. Before the guest runs. */
void pci_bridge_set_vga(struct pci_bridge *bridge);

/* Lock held: the registers, or bridge->down, have changed. What is behind it follows. */
void pci_bridge_update(struct pci_bridge *bridge);

/* The guest's write, for a bridge's own config_write(). */
void pci_bridge_config_write(
	struct pci_device *device, unsigned offset, unsigned size, uint32_t value);

/* Does the bridge let an access to a BAR at an address through? The root's lock is held. */
bool pci_bridge_forwards(
	const struct pci_bridge *bridge, const struct pci_bar *bar, uint64_t address);
