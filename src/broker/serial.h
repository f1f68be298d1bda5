/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

#include <termios.h>

/* The host's end of the guest's serial line, for as long as the broker runs. */
struct broker_console {
	struct console_config config; /* for the machine; the broker owns the descriptors */
	int slave;                    /* the pseudo-terminal's other end, kept open; -1 */
	char pty[64];                 /* and its path */
	bool raw;                     /* the user's terminal is in raw mode */
	struct termios saved;
};

/* console starts out with all descriptors -1. */
int broker_console_open(
	struct broker_console *console, const struct broker_config *config, struct error *err);

/*
 * Hand a terminal's keys to the guest, all of them, and take them back. In the background, where the
 * terminal is another program's, nothing is done.
 */
void broker_console_enter(struct broker_console *console);
void broker_console_leave(struct broker_console *console);
/* There is a terminal whose keys the guest is to get, but it is another program's now. */
bool broker_console_in_background(const struct broker_console *console);
/* We have been stopped, and the terminal been used by others meanwhile. */
void broker_console_resume(struct broker_console *console);

void broker_console_close(struct broker_console *console);
