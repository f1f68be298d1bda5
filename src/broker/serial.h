/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

#include <termios.h>

/* The host's end of the guest's serial line, for as long as the broker runs. */
struct broker_console {
	struct console_config config; /* for the machine; the broker owns the descriptors */
	int slave;                    /* the pseudo-terminal's other end, kept open; -1 */
	bool raw;                     /* the user's terminal is in raw mode */
	struct termios saved;
};

/* console starts out with all descriptors -1. */
int broker_console_open(
	struct broker_console *console, const struct broker_config *config, struct error *err);

/* Hand a terminal's keys to the guest, all of them, and take them back. */
void broker_console_enter(struct broker_console *console);
void broker_console_leave(struct broker_console *console);

void broker_console_close(struct broker_console *console);
