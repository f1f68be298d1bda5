/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/display_mode.h"

/*
 * What the guest shows, as a copy that stays as it is while it is sent: the guest draws into the card's memory
 * whenever it likes. What has changed is found by comparing: nothing of that costs the guest an exit, as a log of
 * the pages that it has written would.
 */

struct picture {
	const uint8_t *memory; /* DISPLAY_FILE_SIZE bytes, the caller's */
	struct display_mode
		mode; /* of which the copy is; none is shown: the last one's size stays, black */
	uint32_t *pixels;
	uint32_t width, height;
};

/* A black one. 0 or -ENOMEM. */
int picture_init(struct picture *picture, const void *memory);
void picture_destroy(struct picture *picture);

/* 1: it has another size now, and all of it is new; pixels have moved. 0: it has not, or -ENOMEM. */
int picture_fit(struct picture *picture);

/* Copy what is new, and tell of it, a rectangle at a time: [left, right) and [top, bottom). Whether there was any. */
bool picture_update(struct picture *picture,
	void (*changed)(void *opaque, int left, int top, int right, int bottom), void *opaque);
