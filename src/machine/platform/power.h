/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "pci/space.h"

#include <stdbool.h>

/*
 * Power-off as ACPI has it on hardware-reduced platforms (ACPI 6.4, 4.8.3.7): a sleep control register. Its
 * button is among the events (events.h). Linux then leaves alone
 * what such a platform does not have (8259, 8254, PM1 registers, PM timer), which spares hundreds of
 * exits at start. The oldest way to reset a PC is here too, the keyboard controller's, where there is no
 * keyboard (i8042.h); port CF9 lies among the PCI root's ports: see struct pci_root_ops.
 */

#define POWER_PORTS       2
#define POWER_SLEEP_PORT  0x680 /* control; status is the next one */
#define POWER_RESET_PORT  0xcf9
#define POWER_RESET_VALUE 0x06

#define POWER_SLEEP_TYPE_OFF 5 /* SLP_TYP of S5 */

struct power {
	/* What the guest asked for; called on a vCPU's thread. */
	void (*off)(void *opaque);
	void (*reset)(void *opaque);
	void *opaque;
};

int power_init(struct power *power, struct space *pio, bool keyboard);
