/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/loop.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Two eventfds in a loop; a handler counts, and does what the test told it to. */
struct fixture {
	struct loop *loop;
	int a, b;
	int calls_a, calls_b;
	int remove_in_a; /* a descriptor that the handler of a removes; -1 */
	int stop_after;  /* calls of either */
};

static void count_call(struct fixture *fixture)
{
	eventfd_t count;

	if (fixture->calls_a + fixture->calls_b < fixture->stop_after)
		return;
	/* What is ready may be handled once more before the stop is seen. */
	eventfd_read(fixture->a, &count);
	eventfd_read(fixture->b, &count);
	loop_stop(fixture->loop);
}

static void on_a(void *opaque, uint32_t events)
{
	struct fixture *fixture = opaque;

	assert_true(events & EPOLLIN);
	fixture->calls_a++;
	if (fixture->remove_in_a >= 0)
		loop_remove(fixture->loop, fixture->remove_in_a);
	count_call(fixture);
}

static void on_b(void *opaque, uint32_t events)
{
	struct fixture *fixture = opaque;

	assert_true(events & EPOLLIN);
	fixture->calls_b++;
	count_call(fixture);
}

static int setup(void **state)
{
	static struct fixture fixture;
	struct error err = { 0 };

	fixture = (struct fixture){ .remove_in_a = -1, .stop_after = 1 };
	fixture.loop = loop_new(&err);
	fixture.a = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fixture.b = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	*state = &fixture;
	return fixture.loop && fixture.a >= 0 && fixture.b >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	loop_free(fixture->loop);
	close(fixture->a);
	close(fixture->b);
	return 0;
}

static void add_both(struct fixture *fixture)
{
	assert_int_equal(loop_add(fixture->loop, fixture->a, EPOLLIN, on_a, fixture), 0);
	assert_int_equal(loop_add(fixture->loop, fixture->b, EPOLLIN, on_b, fixture), 0);
}

static void only_what_is_ready_is_handled(void **state)
{
	struct fixture *fixture = *state;

	add_both(fixture);
	eventfd_write(fixture->b, 1);
	while (loop_step(fixture->loop, -1))
		;
	assert_int_equal(fixture->calls_a, 0);
	assert_int_equal(fixture->calls_b, 1);
}

static void it_runs_until_it_is_stopped(void **state)
{
	struct fixture *fixture = *state;

	add_both(fixture);
	fixture->stop_after = 5; /* what is not read stays ready */
	eventfd_write(fixture->a, 1);
	while (loop_step(fixture->loop, -1))
		;
	assert_int_equal(fixture->calls_a, 5);
}

static void a_stop_before_the_run_is_not_lost(void **state)
{
	struct fixture *fixture = *state;

	add_both(fixture);
	loop_stop(fixture->loop);
	while (loop_step(fixture->loop, -1))
		;
	assert_int_equal(fixture->calls_a + fixture->calls_b, 0);
}

static void *stop_from_elsewhere(void *opaque)
{
	usleep(20000);
	loop_stop(opaque);
	return NULL;
}

static void any_thread_may_stop_it(void **state)
{
	struct fixture *fixture = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, stop_from_elsewhere, fixture->loop), 0);
	while (loop_step(fixture->loop, -1))
		;
	pthread_join(thread, NULL);
}

static void *run(void *opaque)
{
	while (loop_step(opaque, -1))
		;
	return NULL;
}

static void *stop(void *opaque)
{
	loop_stop(opaque);
	return NULL;
}

/* Before it runs, while it does, and when another's stop has ended it already. */
static void many_threads_may_stop_it(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		pthread_t threads[4];
		struct error err = { 0 };
		struct loop *loop = loop_new(&err);
		int event = eventfd(1, EFD_CLOEXEC);
		struct fixture fixture = { .stop_after = 1 << 30, .remove_in_a = -1, .a = event };

		assert_non_null(loop);
		assert_int_equal(loop_add(loop, event, EPOLLIN, on_a, &fixture), 0);
		for (unsigned j = 0; j < 4; j++)
			assert_int_equal(
				pthread_create(&threads[j], NULL, j == i % 4 ? run : stop, loop),
				0);
		for (unsigned j = 0; j < 4; j++)
			pthread_join(threads[j], NULL);
		loop_free(loop);
		close(event);
	}
}

static void what_is_removed_is_handled_no_more(void **state)
{
	struct fixture *fixture = *state;

	add_both(fixture);
	eventfd_write(fixture->a, 1);
	eventfd_write(fixture->b, 1);
	loop_remove(fixture->loop, fixture->a);
	while (loop_step(fixture->loop, -1))
		;
	assert_int_equal(fixture->calls_a, 0);
	assert_int_equal(fixture->calls_b, 1);
	loop_remove(fixture->loop, 12345); /* unknown: nothing happens */
}

/* Both are in one batch of events: the second's handler must not run after the first removed it. */
static void a_handler_may_remove_another(void **state)
{
	struct fixture *fixture = *state;

	add_both(fixture);
	fixture->remove_in_a = fixture->b;
	fixture->stop_after = 3;
	eventfd_write(fixture->a, 1);
	eventfd_write(fixture->b, 1);
	while (loop_step(fixture->loop, -1))
		;
	/* epoll keeps the order in which they became ready. */
	assert_int_equal(fixture->calls_b, 0);
	assert_int_equal(fixture->calls_a, 3);
}

static void a_handler_may_remove_itself(void **state)
{
	struct fixture *fixture = *state;

	add_both(fixture);
	fixture->remove_in_a = fixture->a;
	fixture->stop_after = 3;
	eventfd_write(fixture->a, 1);
	eventfd_write(fixture->b, 1);
	while (loop_step(fixture->loop, -1))
		;
	assert_int_equal(fixture->calls_a, 1);
	assert_int_equal(fixture->calls_b, 2);
}

static void a_removed_descriptor_may_come_back(void **state)
{
	struct fixture *fixture = *state;

	add_both(fixture);
	loop_remove(fixture->loop, fixture->a);
	assert_int_equal(loop_add(fixture->loop, fixture->a, EPOLLIN, on_b, fixture), 0);
	eventfd_write(fixture->a, 1);
	while (loop_step(fixture->loop, -1))
		;
	assert_int_equal(fixture->calls_a, 0);
	assert_int_equal(fixture->calls_b, 1);
}

static void what_cannot_be_watched_is_told(void **state)
{
	struct fixture *fixture = *state;
	int file = memfd_create("file", MFD_CLOEXEC);

	assert_int_equal(loop_add(fixture->loop, file, EPOLLIN, on_a, fixture), -EPERM);
	assert_int_equal(loop_add(fixture->loop, -1, EPOLLIN, on_a, fixture), -EBADF);
	assert_int_equal(loop_add(fixture->loop, fixture->a, EPOLLIN, on_a, fixture), 0);
	assert_int_equal(loop_add(fixture->loop, fixture->a, EPOLLIN, on_a, fixture), -EEXIST);
	close(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_what_is_ready_is_handled, setup, teardown),
		cmocka_unit_test_setup_teardown(it_runs_until_it_is_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(a_stop_before_the_run_is_not_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(any_thread_may_stop_it, setup, teardown),
		cmocka_unit_test_setup_teardown(many_threads_may_stop_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_removed_is_handled_no_more, setup, teardown),
		cmocka_unit_test_setup_teardown(a_handler_may_remove_another, setup, teardown),
		cmocka_unit_test_setup_teardown(a_handler_may_remove_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_removed_descriptor_may_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_watched_is_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
