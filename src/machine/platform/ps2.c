/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/ps2.h"

#include "base/size.h"

#include <string.h>

/* To both. */
#define CMD_IDENTIFY 0xf2
#define CMD_RATE     0xf3 /* one more byte */
#define CMD_ENABLE   0xf4
#define CMD_DISABLE  0xf5
#define CMD_DEFAULTS 0xf6
#define CMD_RESEND   0xfe
#define CMD_RESET    0xff
#define REPLY_ACK    0xfa
#define REPLY_PASSED 0xaa /* the self-test */
#define REPLY_RESEND 0xfe

/* To the keyboard. */
#define CMD_LEDS     0xed /* one more */
#define CMD_ECHO     0xee
#define CMD_SCAN_SET 0xf0 /* one more: 0 asks */
#define SCAN_SET     2
#define ID_KEYBOARD  0xab83
#define EXTENDED     0xe0
#define BREAK        0xf0

/* To the mouse. */
#define CMD_SCALE_1    0xe6
#define CMD_SCALE_2    0xe7
#define CMD_RESOLUTION 0xe8 /* one more */
#define CMD_STATUS     0xe9
#define CMD_STREAM     0xea
#define CMD_READ       0xeb
#define CMD_UNWRAP     0xec
#define CMD_WRAP       0xee
#define CMD_REMOTE     0xf0
#define ID_WHEEL       3
#define FAR            4096 /* no farther does a mouse go between two packets */

/* The bytes of set 2 that are set 1's, as all controllers translate them (PS/2 reference, "Keyboard Translation"). */
static const uint8_t set_2[128] = { 0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e,
	0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d, 0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44,
	0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b, 0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c,
	0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59,
	0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03, 0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77,
	0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69, 0x72, 0x7a, 0x70, 0x71, 0x84,
	0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x56, 0x5e,
	0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f, 0x13, 0x19, 0x39,
	0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e };

static unsigned queued(const struct ps2_queue *queue)
{
	return queue->head - queue->tail;
}

static void push_ps2(struct ps2_queue *queue, uint8_t byte)
{
	if (queued(queue) < PS2_QUEUE)
		queue->bytes[queue->head++ % PS2_QUEUE] = byte;
}

static bool pop_ps2(struct ps2_queue *queue, uint8_t *byte)
{
	if (!queued(queue))
		return false;
	*byte = queue->bytes[queue->tail++ % PS2_QUEUE];
	return true;
}

static void drop_queue(struct ps2_queue *queue)
{
	queue->tail = queue->head;
}

uint8_t ps2_translate(uint8_t byte)
{
	for (unsigned i = 0; i < ARRAY_SIZE(set_2); i++)
		if (set_2[i] == byte)
			return i;
	return byte;
}

/* The keyboard */

void ps2_keyboard_init(struct ps2_keyboard *keyboard)
{
	*keyboard = (struct ps2_keyboard){ .scanning = true };
}

void ps2_keyboard_key(struct ps2_keyboard *keyboard, uint8_t code, bool extended, bool down)
{
	struct ps2_queue *queue = &keyboard->queue;

	if (!keyboard->scanning || !code || code >= ARRAY_SIZE(set_2) ||
		queued(queue) + extended + !down + 1 > PS2_FIFO)
		return;
	if (extended)
		push_ps2(queue, EXTENDED);
	if (!down)
		push_ps2(queue, BREAK);
	push_ps2(queue, set_2[code]);
}

bool ps2_keyboard_next(struct ps2_keyboard *keyboard, uint8_t *byte)
{
	if (!pop_ps2(&keyboard->queue, byte))
		return false;
	keyboard->last = *byte;
	return true;
}

static void take_keyboard_argument(struct ps2_keyboard *keyboard, uint8_t byte)
{
	uint8_t command = keyboard->command;

	keyboard->command = 0;
	push_ps2(&keyboard->queue, REPLY_ACK);
	/* Whichever set is wished for, it has the one that every system knows. */
	if (command == CMD_SCAN_SET && byte == 0)
		push_ps2(&keyboard->queue, SCAN_SET);
}

static void obey_keyboard(struct ps2_keyboard *keyboard, uint8_t command)
{
	struct ps2_queue *queue = &keyboard->queue;

	switch (command) {
	case CMD_ECHO:
		push_ps2(queue, CMD_ECHO);
		return;
	case CMD_RESEND:
		push_ps2(queue, keyboard->last);
		return;
	case CMD_LEDS:
	case CMD_SCAN_SET:
	case CMD_RATE:
		keyboard->command = command;
		break;
	case CMD_IDENTIFY:
	case CMD_ENABLE:
		break;
	case CMD_DISABLE:
	case CMD_DEFAULTS:
	case CMD_RESET:
		drop_queue(queue);
		break;
	default:
		push_ps2(queue, REPLY_RESEND);
		return;
	}
	push_ps2(queue, REPLY_ACK);
	if (command == CMD_IDENTIFY) {
		push_ps2(queue, ID_KEYBOARD >> 8);
		push_ps2(queue, ID_KEYBOARD & 0xff);
	}
	if (command == CMD_RESET)
		push_ps2(queue, REPLY_PASSED);
	if (command == CMD_ENABLE || command == CMD_DEFAULTS || command == CMD_RESET)
		keyboard->scanning = true;
	if (command == CMD_DISABLE)
		keyboard->scanning = false;
}

void ps2_keyboard_write(struct ps2_keyboard *keyboard, uint8_t byte)
{
	/* An argument that is a command is one. */
	if (keyboard->command && byte < CMD_LEDS) {
		take_keyboard_argument(keyboard, byte);
		return;
	}
	keyboard->command = 0;
	obey_keyboard(keyboard, byte);
}

/* The mouse */

static void set_mouse_defaults(struct ps2_mouse *mouse)
{
	mouse->rates[2] = 100;
	mouse->resolution = 2;
	mouse->double_scale = mouse->reporting = mouse->remote = mouse->wrap = false;
	mouse->right = mouse->down = mouse->wheel = 0;
	mouse->moved = false;
}

void ps2_mouse_init(struct ps2_mouse *mouse)
{
	*mouse = (struct ps2_mouse){ 0 };
	set_mouse_defaults(mouse);
}

static int clamp_move(int value, int most)
{
	return value > most ? most : value < -most ? -most : value;
}

/* So much of it as one packet can tell; the rest is for the next. */
static int take_part(int *whole, int most)
{
	int part = clamp_move(*whole, most);

	*whole -= part;
	return part;
}

static void push_packet(struct ps2_mouse *mouse)
{
	int right = take_part(&mouse->right, 255), up = -take_part(&mouse->down, 255),
	    wheel = take_part(&mouse->wheel, 7);

	push_ps2(&mouse->queue,
		8 | (mouse->buttons & 7) | (right < 0 ? 0x10 : 0) | (up < 0 ? 0x20 : 0));
	push_ps2(&mouse->queue, right);
	push_ps2(&mouse->queue, up);
	if (mouse->id == ID_WHEEL)
		push_ps2(&mouse->queue, wheel);
	mouse->moved = mouse->right || mouse->down || mouse->wheel;
}

void ps2_mouse_move(struct ps2_mouse *mouse, int right, int down, int wheel, uint8_t buttons)
{
	bool clicked = buttons != mouse->buttons;
	bool streams = mouse->reporting && !mouse->remote;

	mouse->buttons = buttons;
	mouse->right = clamp_move(mouse->right + clamp_move(right, FAR), FAR);
	mouse->down = clamp_move(mouse->down + clamp_move(down, FAR), FAR);
	mouse->wheel =
		clamp_move(mouse->wheel + clamp_move(wheel, FAR), mouse->id == ID_WHEEL ? 127 : 0);
	mouse->moved = streams;
	/* A click is told at once, and so not lost; where the mouse is when it is asked for. */
	if (streams && clicked && queued(&mouse->queue) + 4 <= PS2_FIFO)
		push_packet(mouse);
	if (!mouse->reporting && !mouse->remote)
		mouse->right = mouse->down = mouse->wheel = 0;
}

bool ps2_mouse_next(struct ps2_mouse *mouse, uint8_t *byte)
{
	if (!queued(&mouse->queue) && mouse->moved && mouse->reporting && !mouse->remote)
		push_packet(mouse);
	return pop_ps2(&mouse->queue, byte);
}

/* The rates 200, 100, 80 one after the other ask for the wheel. */
static void take_rate(struct ps2_mouse *mouse, uint8_t rate)
{
	static const uint8_t knock[3] = { 200, 100, 80 };

	memmove(mouse->rates, mouse->rates + 1, 2);
	mouse->rates[2] = rate;
	if (memcmp(mouse->rates, knock, sizeof(knock)) == 0)
		mouse->id = ID_WHEEL;
}

static void take_mouse_argument(struct ps2_mouse *mouse, uint8_t byte)
{
	if (mouse->command == CMD_RATE)
		take_rate(mouse, byte);
	else
		mouse->resolution = byte & 3;
	mouse->command = 0;
	push_ps2(&mouse->queue, REPLY_ACK);
}

static void push_mouse_status(struct ps2_mouse *mouse)
{
	static const uint8_t buttons[8] = { 0, 4, 1, 5, 2, 6, 3,
		7 }; /* left is 4 here, and right 1 */

	push_ps2(&mouse->queue, (mouse->remote ? 0x40 : 0) | (mouse->reporting ? 0x20 : 0) |
					(mouse->double_scale ? 0x10 : 0) |
					buttons[mouse->buttons & 7]);
	push_ps2(&mouse->queue, mouse->resolution);
	push_ps2(&mouse->queue, mouse->rates[2]);
}

/* False: it knows no such command. */
static bool set_mouse(struct ps2_mouse *mouse, uint8_t command)
{
	switch (command) {
	case CMD_SCALE_1:
	case CMD_SCALE_2:
		mouse->double_scale = command == CMD_SCALE_2;
		return true;
	case CMD_RESOLUTION:
	case CMD_RATE:
		mouse->command = command;
		return true;
	case CMD_STREAM:
	case CMD_REMOTE:
		mouse->remote = command == CMD_REMOTE;
		return true;
	case CMD_WRAP:
	case CMD_UNWRAP:
		mouse->wrap = command == CMD_WRAP;
		return true;
	case CMD_ENABLE:
	case CMD_DISABLE:
		mouse->reporting = command == CMD_ENABLE;
		return true;
	case CMD_RESET:
		mouse->id = 0;
		set_mouse_defaults(mouse);
		return true;
	case CMD_DEFAULTS:
		set_mouse_defaults(mouse);
		return true;
	}
	return command == CMD_STATUS || command == CMD_READ || command == CMD_IDENTIFY;
}

void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte)
{
	struct ps2_queue *queue = &mouse->queue;

	if (mouse->wrap && byte != CMD_RESET && byte != CMD_UNWRAP) {
		push_ps2(queue, byte);
		return;
	}
	if (mouse->command) {
		take_mouse_argument(mouse, byte);
		return;
	}
	/* A command ends what is being sent. */
	drop_queue(queue);
	if (!set_mouse(mouse, byte)) {
		push_ps2(queue, REPLY_RESEND);
		return;
	}
	push_ps2(queue, REPLY_ACK);
	if (byte == CMD_STATUS)
		push_mouse_status(mouse);
	if (byte == CMD_READ)
		push_packet(mouse);
	if (byte == CMD_RESET)
		push_ps2(queue, REPLY_PASSED);
	if (byte == CMD_RESET || byte == CMD_IDENTIFY)
		push_ps2(queue, mouse->id);
}
