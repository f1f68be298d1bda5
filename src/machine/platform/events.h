/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"
#include "pci/space.h"

#include <pthread.h>

/*
 * What the guest's system is told by an interrupt, the generic event device's (ACPI 6.4, 5.6.9), and a
 * register for it, a bit an event: a read takes what has happened since the last one, and a write answers.
 * Bit 0 is the power button, the others are slots of the root bus: the system is asked to eject what is in
 * them, and writes the bit of a slot when it has let go.
 */

#define EVENTS_PORT  0x684
#define EVENTS_PORTS 4

#define EVENTS_BUTTON 1U /* there is no slot 0 that could be ejected: the host bridge has it */

struct events {
	struct kvm_vm *vm;
	pthread_mutex_t lock; /* for the interrupt's line */
	uint32_t pending;     /* shared by all threads without a lock */
	/* The guest has let go of these slots; called on a vCPU's thread. */
	void (*ejected)(void *opaque, uint32_t slots);
	void *opaque;
};

/* ejected and opaque are filled in. */
int events_init(struct events *events, struct space *pio, struct kvm_vm *vm);

/* Tell the guest's system, which decides what it does; or not any more. From any thread. */
void events_raise(struct events *events, uint32_t event);
void events_withdraw(struct events *events, uint32_t event);
