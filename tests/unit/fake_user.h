/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "virtio/virtio.h"

/*
 * A process that speaks vhost-user, within this one: it answers as soon as a request is sent, by the protocol's rules,
 * or lies as it is told to. What it must never be asked, whatever a guest does, ends the process. Time is what is waited
 * for, and passes at once. Link with -Wl,--wrap= for sendmsg, poll and clock_ms, and with fake_vhost.c for KVM.
 */

#define FAKE_USER_QUEUES 8
#define FAKE_USER_SPACE  60

/* What it does instead of answering a request. */
enum fake_lie {
	FAKE_SILENT,
	FAKE_DRIP,  /* a byte now and then */
	FAKE_SHORT, /* half of it */
	FAKE_LONG,  /* more than was asked for */
	FAKE_HUGE,  /* it says so */
	FAKE_EMPTY,
	FAKE_OTHER,   /* the answer to something else */
	FAKE_REQUEST, /* no answer, but a request */
	FAKE_VERSION,
	FAKE_DESCRIPTORS,
	FAKE_REFUSES,
	FAKE_DIES,
	FAKE_LIES,
};

struct fake_user_ring {
	unsigned size;
	uint64_t descriptors, driver, device;
	int kick, call; /* its own copies; -1: none */
	bool enabled, runs;
};

struct fake_user {
	/* What the test chooses. */
	uint64_t features, protocol;
	unsigned queues;
	uint8_t space[FAKE_USER_SPACE];
	const struct virtio_ram *ram; /* that it is to be given */
	unsigned lie_at;              /* the request, counted from 1; 0: none */
	enum fake_lie lie;
	bool (*answers)(
		void *opaque, void *bytes, size_t *size); /* else: what is sent in its place */
	void *opaque;
	unsigned late; /* ms that each answer takes */

	/* What has been asked for. */
	int socket;  /* its end */
	int channel; /* -1: none */
	uint64_t accepted, protocol_accepted;
	bool owned, has_memory;
	struct fake_user_ring rings[FAKE_USER_QUEUES];
	unsigned requests, starts, lies;
	uint32_t lied_about; /* the last lie was the answer to this request */
	int64_t now;         /* ms */
};

extern struct fake_user fake_user;

/* A new one; the other end of its socket, for fake_user_close() to close. */
int fake_user_open(const struct virtio_ram *ram);
void fake_user_close(void);
/* Its process ends; the socket to it is still there. */
void fake_user_close_process(void);

/* It tells that its configuration is another. */
void fake_user_change(uint32_t flags);
