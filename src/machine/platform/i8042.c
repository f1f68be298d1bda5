/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/i8042.h"

#include "machine/layout.h"

#define CONTROL_KEYBOARD_INT 0x01
#define CONTROL_MOUSE_INT    0x02
#define CONTROL_SYSTEM       0x04 /* shown in the status */
#define CONTROL_KEYBOARD_OFF 0x10
#define CONTROL_MOUSE_OFF    0x20
#define CONTROL_TRANSLATE    0x40
#define CONTROL_ALL          0x77

#define STATUS_FULL     0x01 /* there is something to read */
#define STATUS_SYSTEM   0x04
#define STATUS_COMMAND  0x08 /* the last write was one to 64 */
#define STATUS_UNLOCKED 0x10
#define STATUS_MOUSE    0x20 /* what there is to read is the mouse's */

#define CMD_READ_CONTROL   0x20
#define CMD_WRITE_CONTROL  0x60
#define CMD_MOUSE_OFF      0xa7
#define CMD_MOUSE_ON       0xa8
#define CMD_TEST_MOUSE     0xa9
#define CMD_TEST           0xaa
#define CMD_TEST_KEYBOARD  0xab
#define CMD_KEYBOARD_OFF   0xad
#define CMD_KEYBOARD_ON    0xae
#define CMD_READ_INPUTS    0xc0
#define CMD_READ_OUTPUTS   0xd0
#define CMD_WRITE_OUTPUTS  0xd1
#define CMD_FEIGN_KEYBOARD 0xd2 /* what is written next, as if it came from there */
#define CMD_FEIGN_MOUSE    0xd3
#define CMD_TO_MOUSE       0xd4
#define CMD_PULSE          0xf0 /* the outputs whose bits are 0; and all above */

#define TEST_PASSED    0x55
#define WIRES_FINE     0x00
#define OUTPUT_NORESET 0x01
#define OUTPUTS        0x03 /* no reset; A20 is always on */
#define INPUTS         0x80 /* the keyboard is not locked */
#define BREAK          0xf0

static bool is_on(const struct i8042 *i8042, uint8_t off)
{
	return !(i8042->control & off);
}

static void fill_output(struct i8042 *i8042, uint8_t byte, bool is_mouse)
{
	i8042->data = byte;
	i8042->status |= STATUS_FULL | (is_mouse ? STATUS_MOUSE : 0);
}

/* Of the keyboard's next key, as a system has it from the controller. */
static bool next_code(struct i8042 *i8042, uint8_t *byte)
{
	while (ps2_keyboard_next(&i8042->keyboard, byte)) {
		if (!(i8042->control & CONTROL_TRANSLATE))
			return true;
		if (*byte == BREAK) {
			i8042->breaks = true;
			continue;
		}
		*byte = ps2_translate(*byte) | (i8042->breaks ? 0x80 : 0);
		i8042->breaks = false;
		return true;
	}
	return false;
}

/* Where the output buffer is empty, the next byte goes there: the controller's own first. */
static void next_output(struct i8042 *i8042)
{
	uint8_t byte;

	if (i8042->status & STATUS_FULL)
		return;
	if (i8042->answers) {
		i8042->answers = false;
		fill_output(i8042, i8042->answer, i8042->answer_is_mouse);
	} else if (is_on(i8042, CONTROL_KEYBOARD_OFF) && next_code(i8042, &byte)) {
		fill_output(i8042, byte, false);
	} else if (is_on(i8042, CONTROL_MOUSE_OFF) && ps2_mouse_next(&i8042->mouse, &byte)) {
		fill_output(i8042, byte, true);
	}
}

static void set_line(struct i8042 *i8042, bool mouse, bool level)
{
	if (i8042->lines[mouse] == level)
		return;
	i8042->lines[mouse] = level;
	kvm_irq_line(i8042->vm, mouse ? LAYOUT_GSI_MOUSE : LAYOUT_GSI_KEYBOARD, level);
}

static void update_lines(struct i8042 *i8042)
{
	bool full = i8042->status & STATUS_FULL, mouse = i8042->status & STATUS_MOUSE;

	set_line(i8042, false, full && !mouse && i8042->control & CONTROL_KEYBOARD_INT);
	set_line(i8042, true, full && mouse && i8042->control & CONTROL_MOUSE_INT);
}

static void go_on_with_output(struct i8042 *i8042)
{
	next_output(i8042);
	update_lines(i8042);
}

static void give_answer(struct i8042 *i8042, uint8_t byte, bool is_mouse)
{
	i8042->answers = true;
	i8042->answer = byte;
	i8042->answer_is_mouse = is_mouse;
}

/* The line falls in between: each byte is an edge. */
static uint8_t read_data(struct i8042 *i8042)
{
	uint8_t byte = i8042->data;

	i8042->status &= ~(STATUS_FULL | STATUS_MOUSE);
	update_lines(i8042);
	go_on_with_output(i8042);
	return byte;
}

static void set_control(struct i8042 *i8042, uint8_t control)
{
	i8042->control = control & CONTROL_ALL;
	i8042->status =
		(i8042->status & ~STATUS_SYSTEM) | (control & CONTROL_SYSTEM ? STATUS_SYSTEM : 0);
}

static void write_data(struct i8042 *i8042, uint8_t byte)
{
	uint8_t command = i8042->command;

	i8042->command = 0;
	i8042->status &= ~STATUS_COMMAND;
	switch (command) {
	case CMD_WRITE_CONTROL:
		set_control(i8042, byte);
		break;
	case CMD_FEIGN_KEYBOARD:
	case CMD_FEIGN_MOUSE:
		give_answer(i8042, byte, command == CMD_FEIGN_MOUSE);
		break;
	case CMD_TO_MOUSE:
		i8042->control &= ~CONTROL_MOUSE_OFF; /* which it does for that */
		ps2_mouse_write(&i8042->mouse, byte);
		break;
	case CMD_WRITE_OUTPUTS:
		break;
	default:
		i8042->control &= ~CONTROL_KEYBOARD_OFF;
		i8042->breaks = false;
		ps2_keyboard_write(&i8042->keyboard, byte);
	}
}

static void write_command(struct i8042 *i8042, uint8_t command)
{
	i8042->command = 0;
	i8042->status |= STATUS_COMMAND;
	switch (command) {
	case CMD_READ_CONTROL:
		give_answer(i8042, i8042->control, false);
		break;
	case CMD_MOUSE_OFF:
		i8042->control |= CONTROL_MOUSE_OFF;
		break;
	case CMD_MOUSE_ON:
		i8042->control &= ~CONTROL_MOUSE_OFF;
		break;
	case CMD_KEYBOARD_OFF:
		i8042->control |= CONTROL_KEYBOARD_OFF;
		break;
	case CMD_KEYBOARD_ON:
		i8042->control &= ~CONTROL_KEYBOARD_OFF;
		break;
	case CMD_TEST:
		set_control(i8042, i8042->control | CONTROL_SYSTEM);
		give_answer(i8042, TEST_PASSED, false);
		break;
	case CMD_TEST_MOUSE:
	case CMD_TEST_KEYBOARD:
		give_answer(i8042, WIRES_FINE, false);
		break;
	case CMD_READ_INPUTS:
		give_answer(i8042, INPUTS, false);
		break;
	case CMD_READ_OUTPUTS:
		give_answer(i8042, OUTPUTS, false);
		break;
	case CMD_WRITE_CONTROL:
	case CMD_WRITE_OUTPUTS:
	case CMD_FEIGN_KEYBOARD:
	case CMD_FEIGN_MOUSE:
	case CMD_TO_MOUSE:
		i8042->command = command;
		break;
	}
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
	struct i8042 *i8042 = opaque;
	uint8_t byte;

	(void)offset, (void)size;
	pthread_mutex_lock(&i8042->lock);
	byte = read_data(i8042);
	pthread_mutex_unlock(&i8042->lock);
	return byte;
}

static bool resets(const struct i8042 *i8042, bool is_command, uint8_t byte)
{
	if (is_command)
		return byte >= CMD_PULSE && !(byte & OUTPUT_NORESET);
	return i8042->command == CMD_WRITE_OUTPUTS && !(byte & OUTPUT_NORESET);
}

static void take_write(struct i8042 *i8042, bool is_command, uint8_t byte)
{
	bool reset;

	pthread_mutex_lock(&i8042->lock);
	reset = resets(i8042, is_command, byte);
	if (is_command)
		write_command(i8042, byte);
	else
		write_data(i8042, byte);
	go_on_with_output(i8042);
	pthread_mutex_unlock(&i8042->lock);
	if (reset)
		i8042->reset(i8042->opaque);
}

static void data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	take_write(opaque, false, value);
}

static uint64_t status_read(void *opaque, uint64_t offset, unsigned size)
{
	struct i8042 *i8042 = opaque;
	uint8_t status;

	(void)offset, (void)size;
	pthread_mutex_lock(&i8042->lock);
	status = i8042->status;
	pthread_mutex_unlock(&i8042->lock);
	return status;
}

static void command_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	take_write(opaque, true, value);
}

static const struct space_ops data_ops = { data_read, data_write };
static const struct space_ops command_ops = { status_read, command_write };

int i8042_init(struct i8042 *i8042, struct space *pio)
{
	int code;

	pthread_mutex_init(&i8042->lock, NULL);
	i8042->status = STATUS_UNLOCKED;
	set_control(i8042,
		CONTROL_KEYBOARD_INT | CONTROL_SYSTEM | CONTROL_MOUSE_OFF | CONTROL_TRANSLATE);
	ps2_keyboard_init(&i8042->keyboard);
	ps2_mouse_init(&i8042->mouse);
	code = space_add(pio, I8042_DATA, 1, &data_ops, i8042);
	return code ? code : space_add(pio, I8042_COMMAND, 1, &command_ops, i8042);
}

void i8042_key(struct i8042 *i8042, uint8_t code, bool extended, bool down)
{
	pthread_mutex_lock(&i8042->lock);
	ps2_keyboard_key(&i8042->keyboard, code, extended, down);
	go_on_with_output(i8042);
	pthread_mutex_unlock(&i8042->lock);
}

void i8042_move(struct i8042 *i8042, int right, int down, int wheel, uint8_t buttons)
{
	pthread_mutex_lock(&i8042->lock);
	ps2_mouse_move(&i8042->mouse, right, down, wheel, buttons);
	go_on_with_output(i8042);
	pthread_mutex_unlock(&i8042->lock);
}
