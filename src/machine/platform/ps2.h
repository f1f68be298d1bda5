/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * A keyboard (IBM PS/2 Hardware Interface Technical Reference, 1990, "Keyboard"; scan code set 2) and a mouse (the same,
 * "Auxiliary Device"; with the wheel of Microsoft's IntelliMouse), each at the other end of a wire by which bytes
 * come and go. The caller has the lock.
 */

/*
 * As many as a real keyboard keeps. No more: Linux takes a controller for none that has still something to read
 * after 16 bytes.
 */
#define PS2_FIFO  16
#define PS2_QUEUE 32 /* with room for what answers a command */

struct ps2_queue {
	uint8_t bytes[PS2_QUEUE];
	unsigned head, tail;
};

struct ps2_keyboard {
	struct ps2_queue queue;
	uint8_t command; /* whose argument is to come; 0 */
	uint8_t last;    /* that was sent */
	bool scanning;
};

struct ps2_mouse {
	struct ps2_queue queue;
	uint8_t command;
	uint8_t id;       /* 0, or 3 with a wheel */
	uint8_t rates[3]; /* that were set last: three of them in a row show the wheel */
	uint8_t resolution;
	bool double_scale, reporting, remote, wrap;
	bool moved; /* since the last packet */
	uint8_t buttons;
	int right, down, wheel;
};

void ps2_keyboard_init(struct ps2_keyboard *keyboard);
void ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte);
/* A key of set 1, 1 to 7f, is pressed or let go. What does not fit is lost. */
void ps2_keyboard_key(struct ps2_keyboard *keyboard, uint8_t code, bool extended, bool down);
/* The next byte for the controller. False: there is none. */
bool ps2_keyboard_next(struct ps2_keyboard *keyboard, uint8_t *byte);

/* What a controller makes of a byte of set 2: one of set 1, whose highest bit it leaves. */
uint8_t ps2_translate(uint8_t byte);

void ps2_mouse_init(struct ps2_mouse *mouse);
void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte);
void ps2_mouse_move(struct ps2_mouse *mouse, int right, int down, int wheel, uint8_t buttons);
bool ps2_mouse_next(struct ps2_mouse *mouse, uint8_t *byte);
