/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "broker/qmp.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

/* Of a program that says what each test has it say. */
static struct loop *loop;
static struct broker_qmp qmp;
static int program = -1;
static unsigned answers;
static struct error last;

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n{\"return\": {}}\r\n"

static int setup(void **state)
{
	struct error err = { 0 };

	(void)state;
	loop = loop_new(&err);
	answers = 0;
	return broker_qmp_open(&qmp, &program, &err);
}

static int teardown(void **state)
{
	(void)state;
	broker_qmp_close(&qmp);
	if (program >= 0)
		close(take_fd(&program));
	loop_free(loop);
	return 0;
}

static void on_answer(void *opaque, const struct error *why)
{
	assert_ptr_equal(opaque, &answers);
	answers++;
	last = *why;
}

static int ask(void)
{
	json_object *arguments = json_object_new_object();
	struct error err = { 0 };

	json_object_object_add(arguments, "size", json_object_new_int64(512));
	broker_qmp_ask(&qmp, loop, "block_resize", arguments, on_answer, &answers, &err);
	return err.code;
}

static void say_bytes(const char *bytes, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t sent = send(program, bytes + at, size - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		at += sent > 0 ? sent : 0;
		loop_step(loop, 0);
		if (sent < 0 && errno != EAGAIN)
			return;
	}
	loop_step(loop, 0);
}

static void say(const char *text)
{
	say_bytes(text, strlen(text));
}

static void answer(const char *what)
{
	char text[256];

	snprintf(text, sizeof(text), "{%s, \"id\": %u}\r\n", what, qmp.id);
	say(text);
}

static void assert_last(unsigned count, int code, const char *words)
{
	assert_int_equal(answers, count);
	assert_int_equal(last.code, code);
	if (!strstr(last.what, words))
		fail_msg("%s", last.what);
}

TEST(an_answer_is_told_once)
{
	char heard[256] = "", text[64];

	assert_int_equal(ask(), 0);
	assert_true(recv(program, heard, sizeof(heard) - 1, MSG_DONTWAIT) > 0);
	assert_string_equal(heard,
		"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"block_resize\","
		"\"arguments\":{\"size\":512},\"id\":1}");
	assert_int_equal(ask(), -EBUSY);
	say(GREETING "{\"event\": \"JOB\", \"id\": 1}{\"return\": {}, \"id\": 2}");
	assert_int_equal(answers, 0);
	snprintf(text, sizeof(text), "{\"return\": {}, \"id\": 1}\r\n{\"return\": {}, \"id\": 1}");
	for (size_t i = 0; i < strlen(text); i++)
		say_bytes(text + i, 1);
	assert_last(1, 0, "");
	assert_int_equal(ask(), 0);
	answer("\"error\": {\"class\": \"GenericError\", \"desc\": \"no room\"}");
	assert_last(2, -EIO, "no room");
	/* Of any kind. */
	assert_int_equal(ask(), 0);
	answer("\"error\": [7]");
	assert_last(3, -EIO, "refuses");
	assert_int_equal(ask(), 0);
	answer("\"error\": {\"desc\": null}");
	assert_last(4, -EIO, "refuses");
}

/* It is not heard any more then. */
TEST(what_is_no_answer_is_the_last_that_is_heard)
{
	static const char *const bad[] = { "}{", "[]", "7 ", "\"text\"", "null ", "{\"return\": }",
		"{\"a\": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (i) {
			teardown(NULL);
			setup(NULL);
		}
		assert_int_equal(ask(), 0);
		say(GREETING);
		say(bad[i]);
		assert_last(1, -EBADMSG, "no answer");
		assert_int_equal(ask(), -EPIPE);
		assert_int_equal(answers, 1);
	}
}

TEST(too_much_is_not_heard)
{
	static char much[4096];

	for (unsigned i = 0; i < 2; i++) {
		if (i) {
			teardown(NULL);
			setup(NULL);
		}
		memset(much, i ? '0' : ' ', sizeof(much));
		assert_int_equal(ask(), 0);
		say(GREETING);
		if (i)
			say("{\"a\": \"");
		for (unsigned n = 0; n < 15; n++)
			say_bytes(much, sizeof(much));
		assert_int_equal(answers, 0);
		say_bytes(much, sizeof(much));
		say_bytes(much, sizeof(much));
		assert_last(1, -EMSGSIZE, "too much");
		assert_int_equal(ask(), -EPIPE);
	}
}

static void pass_time(void)
{
	const struct itimerspec now = { .it_value.tv_nsec = 1 };

	assert_int_equal(timerfd_settime(qmp.timer, 0, &now, NULL), 0);
	while (qmp.timer >= 0)
		loop_step(loop, 100);
}

TEST(a_late_answer_is_no_other_commands)
{
	assert_int_equal(ask(), 0);
	say(GREETING "{\"ret");
	pass_time();
	assert_last(1, -ETIMEDOUT, "within 60 seconds");
	assert_int_equal(ask(), 0);
	say("urn\": {}, \"id\": 1}");
	assert_int_equal(answers, 1);
	answer("\"return\": {}");
	assert_last(2, 0, "");
}

TEST(a_program_that_ends_is_told)
{
	assert_int_equal(ask(), 0);
	say(GREETING);
	close(take_fd(&program));
	loop_step(loop, 0);
	assert_last(1, -EPIPE, "has ended");
	assert_int_equal(ask(), -EPIPE);
}

TEST(who_closes_is_told)
{
	assert_int_equal(ask(), 0);
	broker_qmp_close(&qmp);
	assert_last(1, -EPIPE, "has ended");
	assert_int_equal(ask(), -EPIPE);
	broker_qmp_close(&qmp);
	assert_int_equal(answers, 1);
}

/* Nothing is waited for, and nothing comes back. */
TEST(a_program_that_reads_nothing_is_not_waited_for)
{
	char much[4096] = "";

	while (send(qmp.fd, much, sizeof(much), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(ask(), -EPIPE);
	assert_int_equal(answers, 0);
}

static void ask_again(void *opaque, const struct error *why)
{
	on_answer(opaque, why);
	if (answers == 1)
		assert_int_equal(ask(), 0);
}

TEST(who_is_answered_may_ask_again)
{
	struct error err = { 0 };

	assert_int_equal(broker_qmp_ask(&qmp, loop, "stop", NULL, ask_again, &answers, &err), 0);
	say(GREETING "{\"return\": {}, \"id\": 1} {\"return\": {}, \"id\": 2}");
	assert_last(2, 0, "");
}

#define QMP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		QMP_TEST(an_answer_is_told_once),
		QMP_TEST(what_is_no_answer_is_the_last_that_is_heard),
		QMP_TEST(too_much_is_not_heard),
		QMP_TEST(a_late_answer_is_no_other_commands),
		QMP_TEST(a_program_that_ends_is_told),
		QMP_TEST(who_closes_is_told),
		QMP_TEST(a_program_that_reads_nothing_is_not_waited_for),
		QMP_TEST(who_is_answered_may_ask_again),
	};

	return test_run(tests);
}
