/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/loop.h"
#include "machine/pci.h"
#include "machine/platform/bochs.h"
#include "machine/platform/i8042.h"

/*
 * A machine's display with keyboard and mouse: the card's memory is a file that the process which shows it has, too
 * (display_mode.h), and what the user does comes by a socket. Nothing of VNC is here.
 */

struct machine_display {
	struct loop *loop;
	int event_fd; /* -1: there is none, or nobody is at its other end */
	void *memory; /* NULL: there is no display */
	struct bochs card;
	struct i8042 i8042;
};

#define MACHINE_DISPLAY_NONE                          \
	{                                             \
		.event_fd = -1, .card = {.slot = -1 } \
	}

/*
 * Put it on the root bus at devfn, and its keyboard to pio; i8042.reset and opaque are filled in. All of what it is
 * given outlives it. Nothing where there is no display.
 */
int machine_display_attach(struct machine_display *display, const struct display_config *config,
	struct machine_pci *pci, struct space *pio, uint8_t devfn, struct loop *loop,
	struct error *err);
/* The guest does not run any more. */
void machine_display_close(struct machine_display *display);
