/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "base/fd.h"
#include "host/system/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct guard make_guard(struct fixture *fixture)
{
	return (struct guard){
		.host = &fixture->host,
		.object = "0000:01:00.0",
		.doing = "the test to let go of it",
	};
}

static void a_write_gets_there(void **state)
{
	struct fixture *fixture = *state;
	struct guard guard = make_guard(fixture);
	char path[128], text[16];

	fixture_file(fixture, "/file", "");
	snprintf(path, sizeof(path), "%s/file", fixture->tree);
	assert_int_equal(guard_write(&guard, path, "hello"), 0);
	assert_int_equal(host_read(&fixture->host, text, sizeof(text), "/file"), 5);
	assert_string_equal(text, "hello");
}

static void an_error_comes_back(void **state)
{
	struct fixture *fixture = *state;
	struct guard guard = make_guard(fixture);

	assert_int_equal(guard_write(&guard, "/nonexistent/file", "hello"), -ENOENT);
	assert_int_equal(guard_write(&guard, "/dev/full", "hello"), -ENOSPC);
}

static int crash(const void *argument)
{
	(void)argument;
	return raise(SIGKILL);
}

static void a_child_that_dies_is_an_error(void **state)
{
	struct guard guard = make_guard(*state);

	assert_int_equal(guard_call(&guard, crash, NULL), -EIO);
}

static void a_hang_is_given_up(void **state)
{
	struct fixture *fixture = *state;
	struct guard guard = make_guard(fixture);
	uint64_t start = guard_now();
	char path[128];

	snprintf(path, sizeof(path), "%s/pipe", fixture->tree);
	fixture_pipe(fixture, "/pipe");
	fixture->host.progress_ms = 100;
	fixture->host.limit_ms = 300;
	assert_int_equal(guard_write(&guard, path, "hello"), -ETIMEDOUT);
	assert_in_range(guard_now() - start, 300, 5000);
	fixture_unblock(fixture, "/pipe");
}

static int change_and_put_back(const void *path)
{
	usleep(600000);
	return fd_write_file(path, "as before");
}

static void what_is_given_up_still_puts_back(void **state)
{
	struct fixture *fixture = *state;
	struct guard guard = make_guard(fixture);
	char path[128], text[16] = "";

	fixture_file(fixture, "/file", "changed");
	snprintf(path, sizeof(path), "%s/file", fixture->tree);
	fixture->host.limit_ms = 100;
	assert_int_equal(guard_call(&guard, change_and_put_back, path), -ETIMEDOUT);
	for (int i = 0; i < 500 && strcmp(text, "as before"); i++) {
		usleep(10000);
		host_read(&fixture->host, text, sizeof(text), "/file");
	}
	assert_string_equal(text, "as before");
}

static int announce_and_linger(const void *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	usleep(500000);
	return fd;
}

static int open_lock(struct fixture *fixture, int number)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/lock%d", fixture->tree, number);
	return open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
}

/* A killed penstock's child still keeps others from all devices that it changes. */
static void the_locks_live_as_long_as_the_child(void **state)
{
	struct fixture *fixture = *state;
	char started[128];
	int locks[2];
	pid_t parent;

	snprintf(started, sizeof(started), "%s/started", fixture->tree);
	parent = fork();
	if (parent == 0) {
		struct guard guard = make_guard(fixture);

		guard.locks = locks;
		guard.lock_count = 2;
		for (int i = 0; i < 2; i++)
			locks[i] = open_lock(fixture, i);
		if (flock(locks[0], LOCK_EX) == 0 && flock(locks[1], LOCK_EX) == 0)
			guard_call(&guard, announce_and_linger, started);
		_exit(1);
	}
	while (access(started, F_OK))
		usleep(1000);
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	for (int i = 0; i < 2; i++) {
		locks[i] = open_lock(fixture, i);
		assert_int_equal(flock(locks[i], LOCK_EX | LOCK_NB), -1);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(flock(locks[i], LOCK_EX), 0);
		close(locks[i]);
	}
}

static int count_open(const void *argument)
{
	int count = 0;

	(void)argument;
	for (int fd = 0; fd < 64; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void nothing_is_inherited(void **state)
{
	int locks[] = { open("/dev/null", O_RDONLY | O_CLOEXEC), -1, dup(0) };
	struct guard guard = make_guard(*state);
	int extra = dup2(locks[0], 50);

	guard.locks = locks;
	guard.lock_count = 3;
	/* The standard ones, the answer's pipe, the locks. */
	assert_int_equal(guard_call(&guard, count_open, NULL), 6);
	close(extra);
	close(locks[0]);
	close(locks[2]);
	guard.lock_count = 0;
	assert_int_equal(guard_call(&guard, count_open, NULL), 4);
}

static int interrupt_itself(const void *argument)
{
	(void)argument;
	raise(SIGINT);
	raise(SIGTERM);
	return 7;
}

/* Ctrl-C reaches the child too, which has yet to put back what it changed; and its parent afterwards. */
static void signals_do_not_end_the_child(void **state)
{
	struct guard guard = make_guard(*state);
	sigset_t after;

	assert_int_equal(guard_call(&guard, interrupt_itself, NULL), 7);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_false(sigismember(&after, SIGINT) || sigismember(&after, SIGTERM));
}

static int count_nulls(const void *argument)
{
	struct stat null, stat;
	int count = 0;

	(void)argument;
	if (fstatat(AT_FDCWD, "/dev/null", &null, 0))
		return -1;
	for (int fd = 0; fd < 3; fd++)
		count += fstat(fd, &stat) == 0 && stat.st_rdev == null.st_rdev;
	return count;
}

/* Somebody may wait for the end of the terminal's pipe. */
static void the_terminal_is_not_the_childs(void **state)
{
	struct guard guard = make_guard(*state);
	int ends[2], saved = dup(1), count;

	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], 1);
	count = guard_call(&guard, count_nulls, NULL);
	dup2(saved, 1);
	assert_int_equal(count, 3);
	close(saved);
	close(ends[0]);
	close(ends[1]);
}

static int take_a_while(const void *argument)
{
	(void)argument;
	return usleep(700000);
}

static unsigned count_told(struct fixture *fixture, unsigned progress_ms)
{
	struct guard guard = make_guard(fixture);
	char path[128], line[256];
	int saved = dup(2), fd;
	unsigned count = 0;
	FILE *told;

	fixture->host.progress_ms = progress_ms;
	fixture_file(fixture, "/told", "");
	snprintf(path, sizeof(path), "%s/told", fixture->tree);
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	dup2(fd, 2);
	assert_int_equal(guard_call(&guard, take_a_while, NULL), 0);
	dup2(saved, 2);
	close(saved);
	close(fd);
	told = fopen(path, "r");
	while (fgets(line, sizeof(line), told))
		count += strstr(line, "0000:01:00.0: still waiting for the test to let go of it") !=
			 NULL;
	fclose(told);
	return count;
}

static void the_user_is_told_of_a_wait(void **state)
{
	struct fixture *fixture = *state;

	fixture->host.limit_ms = 20000;
	assert_in_range(count_told(fixture, 200), 1, 3);
	assert_int_equal(count_told(fixture, 10000), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_write_gets_there),
		TEST(an_error_comes_back),
		TEST(a_child_that_dies_is_an_error),
		TEST(a_hang_is_given_up),
		TEST(what_is_given_up_still_puts_back),
		TEST(the_locks_live_as_long_as_the_child),
		TEST(nothing_is_inherited),
		TEST(signals_do_not_end_the_child),
		TEST(the_terminal_is_not_the_childs),
		TEST(the_user_is_told_of_a_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
