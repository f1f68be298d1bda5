/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/size.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What the machine and the process that shows its display (src/display) have in common: a file, of which the
 * card's memory is the first part, and the mode the last page; and a socket (SOCK_SEQPACKET) by which what
 * the user does comes. Neither trusts the other: a mode is looked at by both, an event by its receiver.
 */

#define DISPLAY_MEMORY    (16 * MIB) /* of the card; a power of two */
#define DISPLAY_ROM       (64 * KIB)
#define DISPLAY_FILE_SIZE (DISPLAY_MEMORY + 4 * KIB)
#define DISPLAY_SIDE_MAX  4096 /* pixels; libvncserver wants a row of them in 32 KiB */

/* Pixels are 32 bits: blue, green, red, and a byte that means nothing. */
struct display_mode {
	uint32_t width, height; /* 0: nothing is shown */
	uint32_t stride;        /* bytes from one row to the next */
	uint32_t offset;        /* of the first one in the card's memory */
};

/* What the machine's process gets of it. */
struct display_config {
	int memory_fd;   /* that file; -1: there is no display */
	int event_fd;    /* its end of the socket, which does not block */
	const void *rom; /* of the card, for a BIOS: DISPLAY_ROM bytes, the caller's; NULL */
};

/* At DISPLAY_MEMORY in the file. */
struct display_shared {
	uint32_t sequence; /* odd while the mode is being written */
	struct display_mode mode;
};

enum display_event_type {
	DISPLAY_KEY = 1,
	DISPLAY_POINTER,
};

#define DISPLAY_KEY_EXTENDED 0x80 /* its code comes behind E0 */

struct display_event {
	uint32_t type;
	union {
		struct {
			uint32_t code; /* of scan code set 1, with DISPLAY_KEY_EXTENDED */
			uint32_t down;
		} key;
		struct {
			int32_t right, down,
				wheel;    /* since the last one; the wheel towards the user */
			uint32_t buttons; /* 1: left, 2: right, 4: middle */
		} pointer;
	};
};

/*
 * By the broker's socket: a picture is wanted in the file that comes along; and what has become of it. The first answer, to
 * request 0, which there is none of, is that clients are served.
 */
struct display_request {
	uint32_t id;
};

struct display_answer {
	uint32_t id;
	int32_t code; /* 0, or a negative errno; -ENODATA: nothing is shown */
};

/* It lies within the card's memory; true also where nothing is shown. */
bool display_mode_is_sound(const struct display_mode *mode);

/* By the machine: one thread at a time. */
void display_mode_tell(struct display_shared *shared, const struct display_mode *mode);

/* The mode, which is sound; nothing is shown where it is not, or is just being written. */
struct display_mode display_mode_look(const struct display_shared *shared);
