/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/power.h"

#define SLEEP_ENABLE          (1U << 5)
#define SLEEP_TYPE(control)   ((control) >> 2 & 7)
#define KEYBOARD_COMMAND_PORT 0x64
#define KEYBOARD_RESET        0xfe
#define KEYBOARD_ABSENT       0xc1 /* parity error and timeout at once, and something to read */

/* Neither register holds anything: the machine has never slept, so it has not woken either. */
static uint64_t read_zero(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque, (void)offset, (void)size;
	return 0;
}

static void sleep_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *power = opaque;

	(void)size;
	if (offset == 0 && value & SLEEP_ENABLE && SLEEP_TYPE(value) == POWER_SLEEP_TYPE_OFF)
		power->off(power->opaque);
}

static const struct space_ops sleep_ops = { read_zero, sleep_write };

static void keyboard_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *power = opaque;

	(void)offset, (void)size;
	if ((value & 0xff) == KEYBOARD_RESET)
		power->reset(power->opaque);
}

/*
 * Nothing is there but its reset line: firmware sees that by these bits, as they would float. It reads first, and
 * would wait for something to read. The bit that says "busy" is clear: Linux waits for that before it resets.
 */
static uint64_t keyboard_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque, (void)offset, (void)size;
	return KEYBOARD_ABSENT;
}

static const struct space_ops keyboard_ops = { keyboard_read, keyboard_write };

int power_init(struct power *power, struct space *pio, bool keyboard)
{
	int code = space_add(pio, POWER_SLEEP_PORT, POWER_PORTS, &sleep_ops, power);

	if (!code && !keyboard)
		code = space_add(pio, KEYBOARD_COMMAND_PORT, 1, &keyboard_ops, power);
	return code;
}
