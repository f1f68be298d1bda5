/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What broker and machine say to each other: a struct message a datagram, over a pair of sockets of type
 * SOCK_SEQPACKET, with descriptors where the type has some. Neither side trusts that the other keeps to
 * this: what is not a message as described here is told apart, and its descriptors are closed.
 */

#define MESSAGE_FDS_MAX 2

enum message_type {
	/* To the machine; the end of file tells it to end. */
	MESSAGE_PRESS_BUTTON = 1,
	/* To the broker. */
	MESSAGE_READY = 64, /* the console is read, and the guest starts */
	MESSAGE_ENDING,     /* whoever may have wanted it */
	MESSAGE_CLOSED,     /* device: this one is closed */
};

struct message {
	uint32_t type;
	uint32_t id; /* of a request, and of what answers it; 0 otherwise */
	union {
		uint32_t device; /* its number, by the broker's count */
	};
	int fds[MESSAGE_FDS_MAX]; /* as many as its type has; the receiver owns them */
};

/* 0 or a negative errno; -EAGAIN where the other end does not read and the socket does not block. */
int message_send(int socket, const struct message *message);

/*
 * 1: a message; 0: the other end is closed. -EBADMSG: what came is no message, the next may be one; or
 * another errno.
 */
int message_receive(int socket, struct message *message);
