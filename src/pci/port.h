/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "pci/bridge.h"
#include "pci/msi.h"

/*
 * A PCI Express root port with a slot, into which a device is plugged, from which it is pulled: the
 * capability of PCI Express Base 7.5.3, hotplug as of 6.7.3 (presence, link, an attention button, power;
 * no command needs time), one MSI, and ACS. What a guest reads of it is a copy without side effects.
 */

/* A device's link, as the fields of the registers have it (7.5.3.6, 7.5.3.4). */
struct pci_link {
	uint8_t speed;   /* 1: 2.5 GT/s, 2: 5, 3: 8, 4: 16, 5: 32, 6: 64 */
	uint8_t width;   /* lanes */
	uint8_t payload; /* most bytes of a packet: 128 << payload */
};

struct pci_port {
	struct pci_bridge bridge;
	struct msi msi;
	bool asserted; /* an event is shown, and its interrupt has been sent */
	/* The guest switches the slot's power; the port's lock is held. May be NULL. */
	void (*power)(void *opaque, struct pci_port *port, bool on);
	void *opaque;
};

/* An empty port with the number of its slot, which is shown to the guest, in front of bus number. */
int pci_port_init(
	struct pci_port *port, unsigned slot, uint8_t number, const struct pci_windows *windows);
void pci_port_destroy(struct pci_port *port);

/* The number of its slot. */
unsigned pci_port_slot(const struct pci_port *port);

/* Before the guest runs: there is a device in the slot, and it has this link. */
void pci_port_occupy(struct pci_port *port, const struct pci_link *link);

/*
 * While it runs: a device is about to come, has been put on the port's bus, or is taken from it without a
 * word. The guest gets the events for it: one time for the first two, which need not both be told of. A guest that
 * sees the link up asks nothing of the device for 100 ms, and may then ask for a second (6.6.1).
 */
void pci_port_announce(struct pci_port *port);
void pci_port_plug(struct pci_port *port, const struct pci_link *link);
void pci_port_unplug(struct pci_port *port);

/* Ask the guest to let go of the device. It does so by switching off the slot's power. */
void pci_port_press_button(struct pci_port *port);
bool pci_port_is_powered(struct pci_port *port);
