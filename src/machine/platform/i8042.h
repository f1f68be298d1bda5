/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"
#include "machine/platform/ps2.h"
#include "pci/space.h"

#include <pthread.h>

/*
 * A PC's controller of keyboard and mouse, the 8042 (IBM PS/2 Hardware Interface Technical Reference, 1990, "Keyboard
 * and Auxiliary Device Controller"): firmware and every system have a driver for it. As after a PC's firmware: the
 * keyboard is on, with translation to scan code set 1, and its interrupt; the mouse is off.
 */

#define I8042_DATA    0x60
#define I8042_COMMAND 0x64

struct i8042 {
	struct kvm_vm *vm;
	/* It pulses the reset line; called on a vCPU's thread. */
	void (*reset)(void *opaque);
	void *opaque;
	pthread_mutex_t lock; /* for what follows */
	uint8_t control;      /* the command byte */
	uint8_t status;
	uint8_t data;    /* what the output buffer holds, or held last */
	uint8_t command; /* whose data is to come; 0 */
	bool answers;    /* it has something to say itself: */
	bool answer_is_mouse;
	uint8_t answer;
	bool breaks; /* the keyboard has begun to tell of a key that was let go */
	bool lines[2];
	struct ps2_keyboard keyboard;
	struct ps2_mouse mouse;
};

/* vm, reset and opaque are filled in. */
int i8042_init(struct i8042 *i8042, struct space *pio);

/* What the user does, from any thread: see ps2.h. */
void i8042_key(struct i8042 *i8042, uint8_t code, bool extended, bool down);
void i8042_move(struct i8042 *i8042, int right, int down, int wheel, uint8_t buttons);
