/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"
#include "pci/space.h"

#include <pthread.h>

/*
 * ACPI's fixed hardware (ACPI 6.4, 4.8): PM1 events with the power button, PM1 control with
 * power-off, the PM timer; and the keyboard controller's reset. The reset register proper, port CF9,
 * lies among the PCI bus's ports: see struct pci_bus.
 */

#define POWER_PORTS        12
#define POWER_EVENT_PORT   0x600 /* status, then enable, 16 bits each */
#define POWER_CONTROL_PORT 0x604
#define POWER_TIMER_PORT   0x608
#define POWER_RESET_PORT   0xcf9
#define POWER_RESET_VALUE  0x06

#define POWER_SLEEP_TYPE_OFF 0 /* SLP_TYP of S5, as stock firmware uses it */

struct power {
	struct kvm_vm *vm;
	pthread_mutex_t lock;
	uint16_t status;
	uint16_t enable;
	uint16_t control;
	/* What the guest asked for; called on a vCPU's thread. */
	void (*off)(void *opaque);
	void (*reset)(void *opaque);
	void *opaque;
};

int power_init(struct power *power, struct space *pio, struct kvm_vm *vm);

/* Press the power button: the guest's system is told, and decides. */
void power_press_button(struct power *power);
