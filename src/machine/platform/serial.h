/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"
#include "machine/console.h"
#include "pci/space.h"

#include <pthread.h>

/*
 * COM1, a 16550A (National Semiconductor PC16550D). The FIFOs spare exits: a system with a FIFO
 * looks at the line status once for sixteen bytes.
 */

#define SERIAL_PORT  0x3f8
#define SERIAL_PORTS 8
#define SERIAL_FIFO  16

struct serial {
	struct kvm_vm *vm;
	struct console *console;
	pthread_mutex_t lock;
	uint8_t interrupt_enable, line_control, modem_control, fifo_control, scratch;
	uint16_t divisor;
	bool transmit_pending; /* the "transmitter empty" interrupt has not been seen yet */
	bool line;             /* the level of the interrupt line */
	uint8_t fifo[SERIAL_FIFO];
	unsigned head, tail; /* of the receive FIFO, counted without end */
};

int serial_init(
	struct serial *serial, struct space *pio, struct kvm_vm *vm, struct console *console);

/* For the console: see struct console_ops. */
bool serial_receive(struct serial *serial, uint8_t byte);
void serial_room(struct serial *serial);
