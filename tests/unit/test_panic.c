/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/panic.h"
#include "test.h"

#include <string.h>

struct fixture {
	struct space pio;
	struct panic panic;
	unsigned panicked, crash_loaded;
};

static void on_panic(void *opaque)
{
	struct fixture *fixture = opaque;

	fixture->panicked++;
}

static void on_crash_loaded(void *opaque)
{
	struct fixture *fixture = opaque;

	fixture->crash_loaded++;
}

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.pio);
	fixture.panic = (struct panic){ on_panic, on_crash_loaded, &fixture };
	*state = &fixture;
	return panic_init(&fixture.panic, &fixture.pio);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	space_destroy(&fixture->pio);
	return 0;
}

static void it_tells_what_it_may_be_told(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(space_read(&fixture->pio, 0x505, 1), 3);
	assert_int_equal(space_read(&fixture->pio, 0x504, 1) & 0xff, 0xff);
	assert_int_equal(space_read(&fixture->pio, 0x506, 1) & 0xff, 0xff);
	assert_int_equal(fixture->panicked + fixture->crash_loaded, 0);
}

static void each_bit_is_its_own_news(void **state)
{
	struct fixture *fixture = *state;

	space_write(&fixture->pio, PANIC_PORT, 1, 1);
	assert_int_equal(fixture->panicked, 1);
	assert_int_equal(fixture->crash_loaded, 0);
	space_write(&fixture->pio, PANIC_PORT, 1, 2);
	assert_int_equal(fixture->panicked, 1);
	assert_int_equal(fixture->crash_loaded, 1);
	/* The end is the end. */
	space_write(&fixture->pio, PANIC_PORT, 1, 3);
	assert_int_equal(fixture->panicked, 2);
	assert_int_equal(fixture->crash_loaded, 1);
}

static void what_it_does_not_know_means_nothing(void **state)
{
	struct fixture *fixture = *state;

	space_write(&fixture->pio, PANIC_PORT, 1, 0);
	space_write(&fixture->pio, PANIC_PORT, 1, 0xfc);
	space_write(&fixture->pio, PANIC_PORT - 1, 1, 3);
	space_write(&fixture->pio, PANIC_PORT + 1, 1, 3);
	assert_int_equal(fixture->panicked + fixture->crash_loaded, 0);
}

#define PANIC_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PANIC_TEST(it_tells_what_it_may_be_told),
		PANIC_TEST(each_bit_is_its_own_news),
		PANIC_TEST(what_it_does_not_know_means_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
