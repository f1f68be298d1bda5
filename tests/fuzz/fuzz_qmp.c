/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The monitor of a program that the broker has started: what the program says, whole and in pieces, late, too much, or no
 * more, while commands are given to it. Whoever asks must be told once; and what is said in good form is taken for what
 * it says.
 */
#include "base/fd.h"
#include "base/size.h"
#include "broker/qmp.h"
#include "fuzz.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define STEPS   200
#define RAW_MAX 255
#define PADDING 256
#define FEW     (16 * KIB) /* bytes that may be said without an answer */

enum { COMMANDS, DONE, REFUSED, IGNORED, TIMED_OUT, ENDED, NO_ANSWERS, TOO_MUCH };

struct fuzz_goal fuzz_goals[] = {
	[COMMANDS] = { "commands", 2, 0 },
	[DONE] = { "that are done", 5, 0 },
	[REFUSED] = { "that are refused", 10, 0 },
	[IGNORED] = { "lines that answer nothing", 5, 0 },
	[TIMED_OUT] = { "limits of time", 10, 0 },
	[ENDED] = { "ends that are told", 10, 0 },
	[NO_ANSWERS] = { "bytes that are no answer", 10, 0 },
	[TOO_MUCH] = { "answers that are too long", 500, 0 },
	{ 0 },
};

static struct loop *loop;
static struct broker_qmp qmp;
static int program;
static bool waits, is_told, asks_again;
static int told;          /* what, the last time */
static bool in_form;      /* all that has been said is whole lines of the kinds below */
static size_t unanswered; /* bytes */

static void ask(bool again);

static void on_done(void *opaque, const struct error *why)
{
	fuzz_check(opaque == &qmp && waits && qmp.timer < 0);
	fuzz_check(why->code || !why->what[0]);
	waits = false;
	is_told = true;
	told = why->code;
	if (told == 0 || told == -EIO)
		unanswered = 0;
	if (told == 0)
		fuzz_goals[DONE].count++;
	else if (told == -EIO)
		fuzz_goals[REFUSED].count++;
	else if (told == -ETIMEDOUT)
		fuzz_goals[TIMED_OUT].count++;
	else if (told == -EPIPE)
		fuzz_goals[ENDED].count++;
	else if (told == -EBADMSG)
		fuzz_goals[NO_ANSWERS].count++;
	else if (told == -EMSGSIZE)
		fuzz_goals[TOO_MUCH].count++;
	else
		fuzz_check(!"a code that is told");
	if (asks_again)
		ask(false);
}

/* What it is told is one line more of JSON. */
static void hear_command(void)
{
	char heard[1024], end[32];
	ssize_t got = program < 0 ? -1 : recv(program, heard, sizeof(heard), MSG_DONTWAIT);

	snprintf(end, sizeof(end), "\"id\":%u}", qmp.id);
	if (got > 0)
		fuzz_check(memmem(heard, got, end, strlen(end)));
}

static void ask(bool again)
{
	struct error err = { 0 };
	bool can = qmp.fd >= 0 && !waits;
	int code =
		broker_qmp_ask(&qmp, loop, "stop", json_object_new_object(), on_done, &qmp, &err);

	asks_again = again;
	fuzz_check(code == err.code && (can || code == (qmp.fd < 0 ? -EPIPE : -EBUSY)));
	if (code)
		return;
	waits = true;
	fuzz_goals[COMMANDS].count++;
	hear_command();
}

static void run_loop(void)
{
	for (unsigned i = 0; i < 4; i++)
		loop_step(loop, 0);
}

static void say(const char *text, size_t size)
{
	unanswered += size;
	if (program < 0 || send(program, text, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size)
		in_form = false;
	run_loop();
}

/* In two pieces. */
static void say_line(const char *text, uint8_t cut)
{
	size_t size = strlen(text), first = cut % (size + 1);

	if (unanswered > FEW)
		in_form = false;
	is_told = false;
	say(text, first);
	say(text + first, size - first);
}

static void answer(uint8_t detail, bool refuse)
{
	bool expected = waits && in_form && program >= 0;
	char text[16 * PADDING + 128];

	snprintf(text, sizeof(text), "{\"%s\": {\"desc\": \"no room\"}, %*s\"id\": %u}\r\n",
		refuse ? "error" : "return", (detail >> 4) * PADDING, "", qmp.id);
	say_line(text, detail);
	if (expected && in_form)
		fuzz_check(is_told && told == (refuse ? -EIO : 0));
}

/* As it does of itself, or to who has asked before. */
static void say_what_is_no_answer(uint8_t detail)
{
	char text[128];

	if (detail & 1)
		snprintf(text, sizeof(text), "{\"return\": {}, \"id\": %u}\r\n", qmp.id - 1);
	else
		snprintf(text, sizeof(text), "{\"event\": \"JOB\", \"data\": {\"id\": %u}}\n",
			qmp.id);
	say_line(text, detail);
	if (!in_form)
		return;
	fuzz_check(!is_told);
	fuzz_goals[IGNORED].count++;
}

static void say_anything(struct fuzz_input *input, uint8_t detail)
{
	static const char *const words[] = { "{\"return\": {}, \"id\": ", "{\"error\": ",
		"\"desc\": ", "\"id\": ", "1}", "}", "[[[[[[[[[[[[[[[[", "\"" };
	char raw[RAW_MAX];
	size_t size = min_u64(detail & 0x7f, input->size);

	in_form = false;
	if (detail & 0x80) {
		say(words[detail % ARRAY_SIZE(words)], strlen(words[detail % ARRAY_SIZE(words)]));
		return;
	}
	fuzz_bytes(input, raw, size);
	say(raw, size);
}

static void say_much(uint8_t byte)
{
	char much[4 * KIB];

	in_form = false;
	memset(much, byte, sizeof(much));
	for (unsigned i = 0; i < 20; i++)
		say(much, sizeof(much));
}

static void pass_time(void)
{
	const struct itimerspec now = { .it_value.tv_nsec = 1 };

	if (!waits)
		return;
	is_told = false;
	fuzz_check(timerfd_settime(qmp.timer, 0, &now, NULL) == 0);
	while (!is_told)
		loop_step(loop, 100);
}

static void hang_up(void)
{
	if (program >= 0)
		close(take_fd(&program));
	in_form = false;
	for (unsigned i = 0; i < 100 && waits; i++)
		loop_step(loop, 0);
	fuzz_check(!waits);
}

static void start(void)
{
	struct error err = { 0 };

	fuzz_check(broker_qmp_open(&qmp, &program, &err) == 0);
	in_form = true;
	unanswered = 0;
}

static void finish(void)
{
	broker_qmp_close(&qmp);
	fuzz_check(!waits && qmp.fd < 0 && qmp.timer < 0);
	if (program >= 0)
		close(take_fd(&program));
}

static void act(struct fuzz_input *input)
{
	uint8_t what = fuzz_byte(input) % 16, detail = fuzz_byte(input);

	if (what < 4)
		ask(detail & 1);
	else if (what < 7)
		answer(detail, what == 6);
	else if (what < 9)
		say_what_is_no_answer(detail);
	else if (what < 12)
		say_anything(input, detail);
	else if (what == 12)
		say_much(detail);
	else if (what == 13)
		pass_time();
	else if (what == 14 && detail & 1)
		hang_up();
	else {
		finish();
		start();
	}
	fuzz_check(waits == (qmp.timer >= 0));
}

void fuzz_one(struct fuzz_input *input)
{
	unsigned before = fuzz_descriptors();
	struct error err = { 0 };

	loop = loop_new(&err);
	waits = false;
	start();
	for (unsigned i = 0; i < STEPS && input->size; i++)
		act(input);
	finish();
	loop_free(loop);
	fuzz_check(fuzz_descriptors() == before);
}
