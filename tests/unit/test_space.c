/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pci/space.h"
#include "test.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

/* A range that notes the last access and answers with its own number. */
struct range {
	uint64_t answer;
	uint64_t offset;
	unsigned size;
	uint64_t written;
	unsigned reads, writes;
	struct space *removes; /* takes itself out of here when it is written to */
	uint64_t base;
};

static uint64_t range_read(void *opaque, uint64_t offset, unsigned size)
{
	struct range *range = opaque;

	range->offset = offset;
	range->size = size;
	range->reads++;
	return range->answer;
}

static void range_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct range *range = opaque;

	range->offset = offset;
	range->size = size;
	range->written = value;
	range->writes++;
	if (range->removes)
		space_remove(range->removes, range->base);
}

static const struct space_ops ops = { range_read, range_write };

static int setup(void **state)
{
	static struct space space;

	space_init(&space);
	*state = &space;
	return 0;
}

static int teardown(void **state)
{
	space_destroy(*state);
	return 0;
}

static void an_access_gets_to_its_range(void **state)
{
	struct space *space = *state;
	struct range low = { .answer = 1 }, high = { .answer = 2 };

	assert_int_equal(space_add(space, 0x2000, 0x1000, &ops, &high), 0);
	assert_int_equal(space_add(space, 0x1000, 0x1000, &ops, &low), 0);
	assert_int_equal(space_read(space, 0x1ffc, 4), 1);
	assert_int_equal(low.offset, 0xffc);
	assert_int_equal(low.size, 4);
	assert_int_equal(space_read(space, 0x2000, 8), 2);
	assert_int_equal(high.offset, 0);
	space_write(space, 0x2fff, 1, 0x42);
	assert_int_equal(high.offset, 0xfff);
	assert_int_equal(high.written, 0x42);
	assert_int_equal(low.writes, 0);
}

static void what_nobody_claims_reads_as_ones(void **state)
{
	struct space *space = *state;
	struct range range = { .answer = 1 };

	assert_true(space_read(space, 0, 1) == UINT64_MAX);
	space_write(space, 0, 1, 0);
	space_add(space, 0x1000, 0x1000, &ops, &range);
	assert_true(space_read(space, 0xfff, 1) == UINT64_MAX);
	assert_true(space_read(space, 0x2000, 1) == UINT64_MAX);
	assert_true(space_read(space, UINT64_MAX, 1) == UINT64_MAX);
	space_write(space, 0x2000, 4, 0);
	assert_int_equal(range.reads + range.writes, 0);
}

/* Neither the first range nor the second serves a part of it. */
static void an_access_over_the_end_is_nobodys(void **state)
{
	struct space *space = *state;
	struct range a = { .answer = 1 }, b = { .answer = 2 };

	space_add(space, 0x1000, 0x10, &ops, &a);
	space_add(space, 0x1010, 0x10, &ops, &b);
	assert_true(space_read(space, 0x100c, 8) == UINT64_MAX);
	assert_true(space_read(space, 0xfff, 2) == UINT64_MAX);
	assert_true(space_read(space, 0x101f, 2) == UINT64_MAX);
	space_write(space, 0x100f, 2, 0);
	assert_int_equal(a.reads + a.writes + b.reads + b.writes, 0);
	assert_int_equal(space_read(space, 0x1008, 8), 1);
}

static void ranges_do_not_overlap(void **state)
{
	struct space *space = *state;
	struct range range = { 0 };

	assert_int_equal(space_add(space, 0x1000, 0x1000, &ops, &range), 0);
	assert_int_equal(space_add(space, 0x1000, 0x1000, &ops, &range), -EEXIST);
	assert_int_equal(space_add(space, 0xfff, 2, &ops, &range), -EEXIST);
	assert_int_equal(space_add(space, 0x1fff, 2, &ops, &range), -EEXIST);
	assert_int_equal(space_add(space, 0x1400, 1, &ops, &range), -EEXIST);
	assert_int_equal(space_add(space, 0, 0x10000, &ops, &range), -EEXIST);
	assert_int_equal(space_add(space, 0, 0x1000, &ops, &range), 0);
	assert_int_equal(space_add(space, 0x2000, 0x1000, &ops, &range), 0);
	assert_int_equal(space->count, 3);
}

static void a_range_may_end_the_space(void **state)
{
	struct space *space = *state;
	struct range range = { .answer = 3 };

	assert_int_equal(space_add(space, 0, 0, &ops, &range), -EINVAL);
	assert_int_equal(space_add(space, UINT64_MAX, 2, &ops, &range), -EINVAL);
	assert_int_equal(space_add(space, UINT64_MAX - 0xfff, 0x1000, &ops, &range), 0);
	assert_int_equal(space_read(space, UINT64_MAX, 1), 3);
	/* It would wrap round to the start of the space. */
	assert_true(space_read(space, UINT64_MAX, 2) == UINT64_MAX);
	assert_int_equal(space_add(space, 0, UINT64_MAX, &ops, &range), -EEXIST);
}

static void a_removed_range_is_gone(void **state)
{
	struct space *space = *state;
	struct range a = { .answer = 1 }, b = { .answer = 2 }, c = { .answer = 3 };

	space_add(space, 0x1000, 0x1000, &ops, &a);
	space_add(space, 0x2000, 0x1000, &ops, &b);
	space_add(space, 0x3000, 0x1000, &ops, &c);
	space_remove(space, 0x2800); /* no range starts there */
	assert_int_equal(space_read(space, 0x2800, 1), 2);
	space_remove(space, 0x2000);
	assert_true(space_read(space, 0x2800, 1) == UINT64_MAX);
	assert_int_equal(space_read(space, 0x1000, 1), 1);
	assert_int_equal(space_read(space, 0x3000, 1), 3);
	assert_int_equal(space_add(space, 0x2000, 0x1000, &ops, &b), 0);
}

static void there_is_room_for_many(void **state)
{
	struct space *space = *state;
	struct range ranges[500] = { 0 };

	/* Not in order: 7 and 500 have no common divisor. */
	for (unsigned i = 0; i < 500; i++) {
		unsigned at = i * 7 % 500;

		ranges[at].answer = at;
		assert_int_equal(space_add(space, at * 0x10, 0x10, &ops, &ranges[at]), 0);
	}
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(space_read(space, i * 0x10 + 15, 1), i);
}

static void a_handler_may_remove_its_own_range(void **state)
{
	struct space *space = *state;
	struct range range = { .removes = space, .base = 0x1000 };

	space_add(space, 0x1000, 0x1000, &ops, &range);
	space_write(space, 0x1000, 4, 0);
	assert_true(space_read(space, 0x1000, 4) == UINT64_MAX);
}

/* vCPUs that access ranges while one of them moves others about. */

#define READERS 3
#define RANGES  16
#define MOVES   50000

struct crowd {
	struct space *space;
	bool done;
};

/* Its number, which is also its page. */
static uint64_t read_number(void *opaque, uint64_t offset, unsigned size)
{
	(void)offset;
	(void)size;
	return (uintptr_t)opaque;
}

static const struct space_ops numbers = { read_number, range_write };

static void *read_all(void *opaque)
{
	struct crowd *crowd = opaque;
	uint64_t wrong = 0;

	while (!__atomic_load_n(&crowd->done, __ATOMIC_ACQUIRE)) {
		for (uint64_t i = 1; i <= RANGES; i++) {
			uint64_t got = space_read(crowd->space, i * 0x1000 + 8, 4);

			/* The odd ones stay, the even ones come and go. */
			wrong += got != i && (i % 2 || got != UINT64_MAX);
		}
		/* The lock prefers readers: some time without any is what a guest's exits give. */
		usleep(10);
	}
	return (void *)(uintptr_t)wrong;
}

static void ranges_move_while_others_are_read(void **state)
{
	struct space *space = *state;
	struct crowd crowd = { .space = space };
	pthread_t threads[READERS];

	for (uintptr_t i = 1; i <= RANGES; i += 2)
		assert_int_equal(space_add(space, i * 0x1000, 0x1000, &numbers, (void *)i), 0);
	for (unsigned i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_all, &crowd), 0);
	for (unsigned i = 0; i < MOVES; i++) {
		uintptr_t number = 2 + 2 * (i * 5 % (RANGES / 2));

		assert_int_equal(
			space_add(space, number * 0x1000, 0x1000, &numbers, (void *)number), 0);
		if (i % 3)
			sched_yield();
		space_remove(space, number * 0x1000);
	}
	__atomic_store_n(&crowd.done, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < READERS; i++) {
		void *wrong;

		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_access_gets_to_its_range, setup, teardown),
		cmocka_unit_test_setup_teardown(what_nobody_claims_reads_as_ones, setup, teardown),
		cmocka_unit_test_setup_teardown(an_access_over_the_end_is_nobodys, setup, teardown),
		cmocka_unit_test_setup_teardown(ranges_do_not_overlap, setup, teardown),
		cmocka_unit_test_setup_teardown(a_range_may_end_the_space, setup, teardown),
		cmocka_unit_test_setup_teardown(a_removed_range_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(there_is_room_for_many, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_handler_may_remove_its_own_range, setup, teardown),
		cmocka_unit_test_setup_teardown(ranges_move_while_others_are_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
