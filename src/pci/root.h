/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "pci/bus.h"
#include "pci/msi.h"
#include "pci/space.h"

/*
 * The root of the guest's PCI tree, what a PC's host bridge is: access to configuration space by ECAM
 * and, where they are wanted, by the ports CF8 and CFC; the windows of addresses that get to PCI at
 * all. Every access is served under its device's lock.
 */

#define PCI_ECAM_BUS_SIZE (1ULL << 20)

struct pci_root_ops {
	/* Port CF9, a byte inside the address port, is the PC's reset register. */
	void (*reset)(void *opaque);
	/* The line that a pin, 1 to 4, of a slot on the root bus is wired to. */
	unsigned (*line)(void *opaque, unsigned slot, unsigned pin);
	/* A port raises its interrupt; its lock is held. */
	void (*signal)(void *opaque, struct msi_message message);
};

struct pci_root {
	struct space *mmio;
	struct space *pio;
	uint64_t ecam;      /* GPA; changed and read by __atomic_*: firmware may move it */
	uint64_t ecam_size; /* 0: there is none */
	/*
	 * How many buses the tables promise, and no more than there are: Linux asks each slot of a bus
	 * that no bridge has, at an exit a slot.
	 */
	unsigned buses;
	bool has_ports;          /* CF8 and CFC */
	uint32_t config_address; /* what port CF8 holds */
	const struct pci_root_ops *ops;
	void *opaque;
	pthread_mutex_t lock; /* what the bridges forward */
	struct pci_bus bus;
};

/* Claims ECAM, unless buses is 0, and the ports. mmio and pio must outlive the root. */
int pci_root_init(struct pci_root *root, struct space *mmio, struct space *pio, uint64_t ecam,
	unsigned buses, const struct pci_windows *windows, struct error *err);

/*
 * Move ECAM, or take it away, with buses 0. False: something else is there, and now there is none. One thread
 * at a time.
 */
bool pci_root_place_ecam(struct pci_root *root, uint64_t ecam, unsigned buses);

/* The highest number of a bus that the bridges have been given, at the moment; no device's lock is held. */
uint8_t pci_root_last_bus(struct pci_root *root);

void pci_root_destroy(struct pci_root *root);
