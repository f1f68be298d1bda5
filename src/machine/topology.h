/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/bdf.h"
#include "base/error.h"
#include "machine/machine.h"
#include "pci/bus.h"
#include "pci/port.h"

/*
 * Where in the guest's PCI tree devices go, and which windows of addresses the ports get: worked out from
 * nothing but what the devices are, so that what does not fit is known before one is touched.
 *
 * Each PCI Express endpoint has a root port of its own. Functions of one slot of the host stay together,
 * as their drivers expect (a graphics card and its sound), if function 0 is there: a slot without one does
 * not exist to a guest. All others are on the root bus. Slots are given in the order of the devices, then
 * come those of virtio and the display, on the root bus, and the empty ports.
 */

struct topology_device {
	struct bdf bdf; /* on the host */
	bool endpoint;  /* a PCI Express endpoint, which has a link */
	struct pci_link link;
	struct pci_bar bars[PCI_RANGES];
	/* The answer. */
	int port; /* index of its port; -1: on the root bus */
	uint8_t devfn;
	bool multifunction; /* other functions of this slot are passed, too */
};

#define TOPOLOGY_SLOTS 32 /* of a bus; the host bridge has the first */

struct topology_port {
	uint8_t devfn; /* on the root bus */
	struct pci_windows windows;
};

struct topology {
	struct topology_device devices[MACHINE_DEVICES_MAX];
	unsigned device_count;
	unsigned virtio_count; /* given, and the answer: */
	uint8_t virtio_devfns[TOPOLOGY_SLOTS];
	bool display; /* the same */
	uint8_t display_devfn;
	struct topology_port ports[TOPOLOGY_SLOTS];
	unsigned port_count;
	struct pci_windows windows; /* of the root bus */
	bool firmware;              /* runs first: the root bus's last slot is the ISA bridge's */
};

/*
 * The windows of the guest's address map; address_bits are what the host's CPUs can map for a guest. Firmware
 * chooses where below 4 GiB ECAM and BARs are: all is PCI's up to the chips.
 */
int topology_windows(unsigned address_bits, uint64_t memory_end, bool firmware,
	struct pci_windows *windows, struct error *err);

/*
 * A BIOS puts BARs right below the IOAPIC, I/O ports from 1000 on where C000 has too few, and 64-bit windows right behind
 * the RAM: the root bus has all that. Once it is planned where things are before that.
 */
void topology_widen(struct pci_windows *windows, uint64_t memory_end);

/*
 * topology->devices, virtio_count, display and windows are given; empty ports are to be left over. Fills in the answers.
 * -ENOSPC: it does not fit, and err says what and how large it is.
 */
int topology_plan(struct topology *topology, unsigned empty, struct error *err);

/* The number that the guest sees of a port's slot, which is also its bus. */
static inline unsigned topology_slot(unsigned port)
{
	return port + 1;
}
