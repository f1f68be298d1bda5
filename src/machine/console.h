/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Where the guest's serial line ends on the host: a descriptor to read and one to write, with output
 * buffered so that a slow reader holds up no vCPU. On a terminal Ctrl-A is the way out: Ctrl-A x ends
 * the machine, Ctrl-A p presses the power button, Ctrl-A Ctrl-A sends one Ctrl-A.
 *
 * The descriptors may be whatever our caller was given, and share their flags with its other users:
 * each can block at any time, so each has a thread of its own, and nothing else waits for it.
 */

#define CONSOLE_BUFFER 16384
#define CONSOLE_KEYS   4096 /* as many as a terminal keeps itself */
#define CONSOLE_ROOM   16   /* bytes for which there is room, where there is said to be some */

struct console_config {
	int in;       /* -1: none */
	int out;      /* -1: output is dropped */
	bool lossy;   /* drop output when the buffer is full (nobody may be reading) */
	bool escapes; /* in is a terminal: serve Ctrl-A */
};

/* Called on the console's threads. */
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
	pthread_t reader, writer;
	bool reads, writes; /* these threads are there */
	int wake;           /* eventfd: the reader has to look at the guest, or to end */
	/* The reader's own. */
	bool escaped; /* the last byte was Ctrl-A */
	uint32_t first_key, keys_end;
	uint8_t keys[CONSOLE_KEYS]; /* wait for room at the guest */
	pthread_mutex_t lock;       /* for what follows */
	pthread_cond_t changed;     /* output for the writer, or the end */
	bool ending;                /* no more output comes, and no more input is taken */
	bool abandoned;             /* what is still buffered is lost */
	bool was_full;
	uint32_t head, tail; /* of the buffer, counted without end */
	uint8_t buffer[CONSOLE_BUFFER];
};

int console_init(struct console *console, const struct console_config *config,
	const struct console_ops *ops, struct error *err);
/* From here on it reads and writes. */
int console_start(struct console *console, struct error *err);
/* Writes out what is still buffered, for two seconds at most. */
void console_destroy(struct console *console);

/* From any thread. */
void console_put(struct console *console, uint8_t byte);
/* For CONSOLE_ROOM bytes; where there is none, ops.room() is called later. */
bool console_has_room(struct console *console);
void console_resume(struct console *console);
