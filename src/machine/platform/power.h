/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"
#include "pci/space.h"

/*
 * Power-off and the power button, as ACPI has them on hardware-reduced platforms (ACPI 6.4, 4.8.3.7
 * and 5.6.9): a sleep control register, and a button that is an interrupt. Linux then leaves alone
 * what such a platform does not have (8259, 8254, PM1 registers, PM timer), which spares hundreds of
 * exits at start. The oldest way to reset a PC is here too, the keyboard controller's; port CF9 lies
 * among the PCI root's ports: see struct pci_root_ops.
 */

#define POWER_PORTS       2
#define POWER_SLEEP_PORT  0x680 /* control; status is the next one */
#define POWER_RESET_PORT  0xcf9
#define POWER_RESET_VALUE 0x06

#define POWER_SLEEP_TYPE_OFF 5 /* SLP_TYP of S5 */

struct power {
	struct kvm_vm *vm;
	/* What the guest asked for; called on a vCPU's thread. */
	void (*off)(void *opaque);
	void (*reset)(void *opaque);
	void *opaque;
};

int power_init(struct power *power, struct space *pio, struct kvm_vm *vm);

/* Press the power button: the guest's system is told, and decides. From any thread. */
void power_press_button(struct power *power);
