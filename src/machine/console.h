/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "base/loop.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Where the guest's serial line ends on the host: a descriptor to read and one to write, with output
 * buffered so that a slow reader holds up no vCPU. On a terminal Ctrl-A is the way out: Ctrl-A x ends
 * the machine, Ctrl-A p presses the power button, Ctrl-A Ctrl-A sends one Ctrl-A.
 */

#define CONSOLE_BUFFER 16384

struct console_config {
	int in;       /* -1: none */
	int out;      /* -1: output is dropped; a terminal must not block */
	bool lossy;   /* drop output when the buffer is full (nobody may be reading) */
	bool escapes; /* in is a terminal: serve Ctrl-A */
};

struct console_ops {
	/* A byte has arrived. False: no room; it is offered again after console_resume(). */
	bool (*receive)(void *opaque, uint8_t byte);
	/* There is room for output again. */
	void (*room)(void *opaque);
	void (*quit)(void *opaque);
	void (*press_button)(void *opaque);
	void *opaque;
};

struct console {
	struct console_config config;
	struct console_ops ops;
	struct loop *loop;
	int wake;              /* eventfd: a vCPU wants the loop to look here */
	bool reading, writing; /* watched by the loop; its thread's alone, as all up to the lock */
	bool always_ready;     /* out is a regular file */
	bool at_end;           /* of the input */
	bool escaped;          /* the last byte was Ctrl-A */
	bool held;             /* a byte waits for room at the guest */
	uint8_t held_byte;
	pthread_mutex_t lock;
	bool was_full;
	uint32_t head, tail; /* of the buffer, counted without end */
	uint8_t buffer[CONSOLE_BUFFER];
};

int console_init(struct console *console, struct loop *loop, const struct console_config *config,
	const struct console_ops *ops, struct error *err);
/* Writes out what is still buffered. */
void console_destroy(struct console *console);

/* From any thread. */
void console_put(struct console *console, uint8_t byte);
bool console_has_room(struct console *console);
void console_resume(struct console *console);
