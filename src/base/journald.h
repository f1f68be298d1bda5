/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>

/* As syslog(3) counts them. */
enum journald_priority {
	JOURNALD_ERROR = 3,
	JOURNALD_WARNING = 4,
	JOURNALD_INFO = 6,
};

/*
 * Give a message to systemd's journal where stderr leads there ($JOURNAL_STREAM in systemd.exec(5)): as one that
 * journalctl finds by PENSTOCK_DEVICE=ADDRESS, for each PCI address in it. One line; what a terminal would act on is
 * no part of it. False: stderr is for it.
 */
bool journald_send(enum journald_priority priority, const char *message);

/* From here on this process has stderr alone: its sandbox lets it make no socket. */
void journald_leave(void);
