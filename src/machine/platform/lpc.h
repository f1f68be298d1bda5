/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "pci/bus.h"

#include <stdbool.h>

/*
 * What stock firmware looks at of a Q35's ISA bridge (Intel I/O Controller Hub 9, 316972, chapter 13): by its
 * class it finds COM1; at PMBASE it switches off, and has the timer by which it measures its own time. A system is
 * not always told of these: see acpi_write_unplaced().
 */

/* Ports from PMBASE on (13.8.3). */
#define LPC_PM1_EVENTS  0x00
#define LPC_PM1_CONTROL 0x04
#define LPC_PM_TIMER    0x08

struct lpc {
	struct pci_device device;
	struct space *pio;
	bool is_decoded; /* what follows */
	uint16_t pm_base;
	uint16_t pm1_enable; /* by __atomic_* */
	/* What the guest asked for; called on a vCPU's thread. */
	void (*off)(void *opaque);
	void (*reset)(void *opaque);
	void *opaque;
};

/* off, reset and opaque are filled in; the bus is the root bus. */
int lpc_init(struct lpc *lpc, struct pci_bus *bus, struct space *pio, struct error *err);
/* The first of the ports at PMBASE; 0: there are none. */
uint16_t lpc_pm_base(struct lpc *lpc);
/* One that was not made is left alone. */
void lpc_destroy(struct lpc *lpc);
