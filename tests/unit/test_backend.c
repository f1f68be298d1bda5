/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "broker/backend.h"
#include "fake_program.h"
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* The program is this one under another name: its words say what it does. */

static char directory[] = "/tmp/penstock-backend-XXXXXX";
static struct broker_backend backend;
static struct error err;

static int told; /* who is told of each signal */
static volatile sig_atomic_t signals;

static void count_signal(int signal)
{
	(void)signal;
	signals++;
	(void)!write(told, "!", 1);
}

/* Ends a while after the first, for a second one to come. */
static int count_signals(const char *fd)
{
	told = atoi(fd);
	signal(SIGTERM, count_signal);
	(void)!write(told, "!", 1);
	while (!signals)
		poll(NULL, 0, 10000);
	for (unsigned i = 0; i < 30; i++)
		poll(NULL, 0, 10);
	return signals;
}

static int say_too_much(void)
{
	char line[1024];

	memset(line, 'x', sizeof(line));
	memcpy(line, "first\n", 6);
	line[sizeof(line) - 1] = '\n';
	for (unsigned i = 0; i < 128; i++)
		if (write(STDERR_FILENO, line, sizeof(line)) < 0)
			return 7;
	return 0;
}

static int be_program(char **words)
{
	if (strcmp(words[1], "signals") == 0)
		return count_signals(words[2]);
	if (strcmp(words[1], "too-much") == 0)
		return say_too_much();
	fputs(words[2], stderr);
	return 1;
}

static int setup(void **state)
{
	(void)state;
	fake_program_make(directory, "program");
	backend = (struct broker_backend)BROKER_BACKEND_NONE;
	err = (struct error){ 0 };
	return broker_backend_find(&backend, "program", "a test", "none", &err);
}

static int teardown(void **state)
{
	(void)state;
	broker_backend_end(&backend, 0, 0);
	broker_backend_close(&backend);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	fake_program_remove(directory);
	return 0;
}

static void start(const char *how, const char *word, int fd)
{
	assert_int_equal(
		broker_backend_start(&backend,
			&(struct broker_backend_start){
				.argv = (char *[]){ "program", (char *)how, (char *)word, NULL },
				.fds = &fd,
				.fd_count = fd >= 0,
				.sandbox = { .directory = -1, .has_its_own = true },
			},
			&err),
		0);
}

static void await_byte(int fd)
{
	struct pollfd wait = { fd, POLLIN, 0 };
	char byte;

	assert_int_equal(poll(&wait, 1, 20000), 1);
	assert_int_equal(read(fd, &byte, 1), 1);
}

/* A second one ends some programs before they have written out all. */
TEST(it_is_asked_once_to_end)
{
	int ends[2];
	char fd[16];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	snprintf(fd, sizeof(fd), "%d", ends[1]);
	start("signals", fd, ends[1]);
	await_byte(ends[0]);
	broker_backend_ask_to_end(&backend, SIGTERM);
	await_byte(ends[0]);
	broker_backend_ask_to_end(&backend, SIGTERM);
	broker_backend_end(&backend, SIGTERM, 20000);
	assert_true(WIFEXITED(backend.status));
	assert_int_equal(WEXITSTATUS(backend.status), 1);
	close(ends[0]);
	close(ends[1]);
}

TEST(what_it_says_fills_no_memory)
{
	struct stat stat;
	char text[32];

	start("too-much", NULL, -1);
	broker_backend_end(&backend, 0, 20000);
	assert_int_equal(fstat(backend.log, &stat), 0);
	assert_int_equal(stat.st_size, 64 * KIB);
	/* It is told so, and lives. */
	assert_true(WIFEXITED(backend.status));
	assert_int_equal(WEXITSTATUS(backend.status), 7);
	broker_backend_read_log(&backend, text, sizeof(text));
	assert_string_equal(text, "first");
	/* The next one has all the room again. */
	start("says", "second\n", -1);
	broker_backend_end(&backend, 0, 20000);
	broker_backend_read_log(&backend, text, sizeof(text));
	assert_string_equal(text, "second");
}

TEST(the_line_that_tells_why_is_found)
{
	static const struct {
		const char *said, *first, *last;
	} logs[] = {
		{ "", "", "" },
		{ "\n \n", "", "" },
		{ "no room", "no room", "no room" },
		{ "cannot lock\ncannot start\n\n", "cannot lock", "cannot start" },
		{ "qemu-img: warning: odd\nqemu-img: no room\n", "qemu-img: no room",
			"qemu-img: no room" },
		{ "\n[now WARN virtiofsd] odd\n[now ERROR virtiofsd] no room\nbye\n",
			"[now ERROR virtiofsd] no room", "bye" },
		{ "Warning: odd\n", "Warning: odd", "Warning: odd" },
		{ "a\x1b[1mb\n", "a?[1mb", "a?[1mb" },
	};
	char text[64];

	for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
		start("says", logs[i].said, -1);
		broker_backend_end(&backend, 0, 20000);
		backend.says_why_last = false;
		broker_backend_read_log(&backend, text, sizeof(text));
		assert_string_equal(text, logs[i].first);
		backend.says_why_last = true;
		broker_backend_read_log(&backend, text, sizeof(text));
		assert_string_equal(text, logs[i].last);
	}
	broker_backend_read_log(&backend, text, 3);
	assert_string_equal(text, "a?");
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		test(it_is_asked_once_to_end),
		test(what_it_says_fills_no_memory),
		test(the_line_that_tells_why_is_found),
	};

	if (argc > 1 && strcmp(argv[0], "program") == 0)
		return be_program(argv);
	return test_run(tests);
}
