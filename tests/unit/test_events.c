/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "irq_lines.h"
#include "machine/layout.h"
#include "machine/platform/events.h"
#include "test.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

struct fixture {
	struct kvm_vm vm;
	struct space pio;
	struct events events;
	uint32_t ejected; /* by the last write that was told */
	unsigned told;
};

static void on_ejected(void *opaque, uint32_t slots)
{
	struct fixture *fixture = opaque;

	fixture->ejected = slots;
	fixture->told++;
}

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	irq_lines_reset(&fixture.vm);
	space_init(&fixture.pio);
	fixture.events.ejected = on_ejected;
	fixture.events.opaque = &fixture;
	*state = &fixture;
	return events_init(&fixture.events, &fixture.pio, &fixture.vm);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	space_destroy(&fixture->pio);
	return 0;
}

static uint32_t get(struct fixture *fixture, unsigned at, unsigned size)
{
	return space_read(&fixture->pio, EVENTS_PORT + at, size) & ((2ULL << (8 * size - 1)) - 1);
}

static void set(struct fixture *fixture, unsigned at, unsigned size, uint32_t value)
{
	space_write(&fixture->pio, EVENTS_PORT + at, size, value);
}

static void an_event_is_an_edge(void **state)
{
	struct fixture *fixture = *state;

	events_raise(&fixture->events, EVENTS_BUTTON);
	assert_int_equal(irq_rises[LAYOUT_GSI_EVENTS], 1);
	assert_false(irq_line[LAYOUT_GSI_EVENTS]);
	events_raise(&fixture->events, EVENTS_BUTTON);
	assert_int_equal(irq_rises[LAYOUT_GSI_EVENTS], 2);
	assert_int_equal(fixture->told, 0);
}

static struct fixture *shared;
static pthread_t other;

static void *raise_another(void *opaque)
{
	(void)opaque;
	events_raise(&shared->events, 1U << 3);
	return NULL;
}

/* The line is up; another thread has time to raise it once more. */
static void start_other(void)
{
	irq_rising = NULL;
	assert_int_equal(pthread_create(&other, NULL, raise_another, NULL), 0);
	usleep(50000);
}

static void of_two_at_once_each_is_an_edge(void **state)
{
	shared = *state;
	irq_rising = start_other;
	events_raise(&shared->events, EVENTS_BUTTON);
	pthread_join(other, NULL);
	assert_int_equal(irq_rises[LAYOUT_GSI_EVENTS], 2);
	assert_false(irq_line[LAYOUT_GSI_EVENTS]);
	assert_int_equal(get(shared, 0, 4), EVENTS_BUTTON | 1U << 3);
}

static void a_read_takes_what_has_happened(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, 0, 4), 0);
	events_raise(&fixture->events, EVENTS_BUTTON);
	events_raise(&fixture->events, 1U << 31);
	assert_int_equal(get(fixture, 0, 4), 0x80000001);
	assert_int_equal(get(fixture, 0, 4), 0);
	events_raise(&fixture->events, 1U << 3);
	events_raise(&fixture->events, 1U << 4);
	events_withdraw(&fixture->events, 1U << 3);
	assert_int_equal(get(fixture, 0, 4), 1U << 4);
}

/* What a shorter access does not see is still there. */
static void a_part_of_the_register_is_one(void **state)
{
	struct fixture *fixture = *state;

	events_raise(&fixture->events, 0x80402001);
	assert_int_equal(get(fixture, 1, 1), 0x20);
	assert_int_equal(get(fixture, 2, 2), 0x8040);
	assert_int_equal(get(fixture, 0, 4), 0x00000001);
	set(fixture, 2, 1, 0xff41);
	assert_int_equal(fixture->ejected, 0x00410000);
	set(fixture, 0, 2, 0x123456);
	assert_int_equal(fixture->ejected, 0x3456);
	assert_int_equal(fixture->told, 2);
}

static void a_write_ejects_slots(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, 0, 4, 0);
	set(fixture, 0, 4, EVENTS_BUTTON);
	assert_int_equal(fixture->told, 0);
	set(fixture, 0, 4, 0xffffffff);
	assert_int_equal(fixture->ejected, 0xfffffffe);
	assert_int_equal(fixture->told, 1);
	/* It is no event. */
	assert_int_equal(get(fixture, 0, 4), 0);
}

#define EVENTS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EVENTS_TEST(an_event_is_an_edge),
		EVENTS_TEST(of_two_at_once_each_is_an_edge),
		EVENTS_TEST(a_read_takes_what_has_happened),
		EVENTS_TEST(a_part_of_the_register_is_one),
		EVENTS_TEST(a_write_ejects_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
