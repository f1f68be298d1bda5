/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * The protocol of sd_notify(3), both of its ends: who starts a program, such as systemd, gives it an address, and is
 * told what has become of it in datagrams, "READY=1".
 */

/* A socket to $NOTIFY_SOCKET, which processes that are started later do not see any more; -1: nobody asks. */
int notify_open(void);

/* Nothing depends on whether it arrives. */
void notify_tell(int fd, const char *state);

/*
 * Be one who is told, by a child that is forked after this and asks for notify_open(): our end, or a negative errno.
 * It has no name by which another process could send to it.
 */
int notify_pair(void);

/* Has the child said so? Takes one message, where there is one, and does not wait. */
bool notify_was_told(int fd, const char *state);
