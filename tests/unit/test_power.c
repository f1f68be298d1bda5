/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/power.h"
#include "test.h"

#include <string.h>

#define SLEEP        0x20 /* SLP_EN */
#define TYPE(number) ((number) << 2)

struct fixture {
	struct space pio;
	struct power power;
	unsigned offs, resets;
};

static void on_off(void *opaque)
{
	struct fixture *fixture = opaque;

	fixture->offs++;
}

static void on_reset(void *opaque)
{
	struct fixture *fixture = opaque;

	fixture->resets++;
}

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.pio);
	fixture.power.off = on_off;
	fixture.power.reset = on_reset;
	fixture.power.opaque = &fixture;
	*state = &fixture;
	return power_init(&fixture.power, &fixture.pio, false);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	space_destroy(&fixture->pio);
	return 0;
}

static uint32_t get(struct fixture *fixture, unsigned port, unsigned size)
{
	return space_read(&fixture->pio, port, size) & ((2ULL << (8 * size - 1)) - 1);
}

static void set(struct fixture *fixture, unsigned port, unsigned size, uint32_t value)
{
	space_write(&fixture->pio, port, size, value);
}

static void sleeping_deep_is_power_off(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, POWER_SLEEP_PORT, 1, TYPE(POWER_SLEEP_TYPE_OFF));
	set(fixture, POWER_SLEEP_PORT, 1, SLEEP | TYPE(1));
	set(fixture, POWER_SLEEP_PORT, 1, SLEEP | TYPE(7));
	set(fixture, POWER_SLEEP_PORT + 1, 1, SLEEP | TYPE(POWER_SLEEP_TYPE_OFF));
	assert_int_equal(fixture->offs, 0);
	set(fixture, POWER_SLEEP_PORT, 1, SLEEP | TYPE(POWER_SLEEP_TYPE_OFF));
	assert_int_equal(fixture->offs, 1);
	assert_int_equal(fixture->resets, 0);
}

static void the_registers_read_zero(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, POWER_SLEEP_PORT, 1, TYPE(3));
	set(fixture, POWER_SLEEP_PORT + 1, 1, 0x80);
	assert_int_equal(get(fixture, POWER_SLEEP_PORT, 2), 0);
}

static void the_keyboard_controller_resets(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, 0x64, 1, 0xd1);
	set(fixture, 0x64, 1, 0xff);
	assert_int_equal(fixture->resets, 0);
	set(fixture, 0x64, 1, 0xfe);
	assert_int_equal(fixture->resets, 1);
	/* Never busy, and never without a byte, or a guest would wait for it. */
	assert_int_equal(get(fixture, 0x64, 1), 0xc1);
	/* The ports beside it are nobody's. */
	assert_int_equal(get(fixture, 0x63, 1), 0xff);
	assert_int_equal(get(fixture, 0x65, 1), 0xff);
	set(fixture, 0x65, 1, 0xfe);
	assert_int_equal(fixture->resets, 1);
}

static void odd_accesses_do_no_harm(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned size = 1; size <= 8; size *= 2)
		for (unsigned at = 0; at < POWER_PORTS; at++) {
			get(fixture, POWER_SLEEP_PORT + at, size > 4 ? 4 : size);
			space_read(&fixture->pio, POWER_SLEEP_PORT + at, size);
			space_write(&fixture->pio, POWER_SLEEP_PORT + at, size, 0);
		}
	assert_int_equal(fixture->offs + fixture->resets, 0);
}

#define POWER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		POWER_TEST(sleeping_deep_is_power_off),
		POWER_TEST(the_registers_read_zero),
		POWER_TEST(the_keyboard_controller_resets),
		POWER_TEST(odd_accesses_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
