/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients of the monitor: what they send, whole and in pieces, when they read and when they go, while
 * commands are answered at once or late and events come. What each hears must be lines of JSON, with one
 * answer for each of its commands; in the end nothing is left over.
 */
#include "base/size.h"
#include "control/monitor.h"
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS  4
#define STEPS    400
#define RAW_MAX  255
#define WAIT_MAX 16

enum { COMMANDS, LATE, REFUSALS, EVENTS, DROPPED };

struct fuzz_goal fuzz_goals[] = {
	[COMMANDS] = { "commands", 20, 0 },
	[LATE] = { "late answers", 20, 0 },
	[REFUSALS] = { "refusals", 4, 0 },
	[EVENTS] = { "events heard", 10, 0 },
	[DROPPED] = { "clients dropped", 2000, 0 },
	{ 0 },
};

static struct loop *loop;
static struct monitor *monitor;

static uint32_t waiting[WAIT_MAX];
static unsigned waiting_count;

static void check_arguments(json_object *arguments)
{
	json_object *text = json_object_object_get(arguments, "text");

	fuzz_check(json_object_is_type(arguments, json_type_object));
	fuzz_check(json_object_is_type(text, json_type_string));
	fuzz_goals[COMMANDS].count++;
}

static void echo(void *opaque, uint32_t request, json_object *arguments)
{
	(void)opaque;
	check_arguments(arguments);
	monitor_reply(monitor, request, json_object_get(arguments));
}

static void wait_with_it(void *opaque, uint32_t request, json_object *arguments)
{
	struct error why = { 0 };

	(void)opaque, (void)arguments;
	fuzz_goals[COMMANDS].count++;
	for (unsigned i = 0; i < waiting_count; i++)
		fuzz_check(waiting[i] != request);
	if (waiting_count < WAIT_MAX) {
		waiting[waiting_count++] = request;
		return;
	}
	error_set(&why, -EBUSY, NULL, "too many");
	monitor_fail(monitor, request, MONITOR_GENERIC, &why);
}

static const struct monitor_argument echo_arguments[] = {
	{ "text", json_type_string, true },
	{ "flag", json_type_boolean, false },
	{ 0 },
};

static const struct monitor_command commands[] = {
	{ "echo", echo_arguments, echo },
	{ "wait", NULL, wait_with_it },
	{ 0 },
};

/* What mutation alone would take long to find. */
static const char *const words[] = {
	"{\"execute\":\"qmp_capabilities\"}\n",
	"{\"execute\":\"echo\",\"arguments\":{\"text\":\"t\"},\"id\":1}",
	"{'execute':'wait','id':{'a':[1,2]}}\r\n",
	"{\"execute\":\"query-commands\"}",
	"{\"execute\":\"",
	"\",\"arguments\":{\"text\":\"",
	"\"},\"id\":",
	"}\n",
};

struct peer {
	int fd;
	char heard[MONITOR_UNREAD_MAX];
	size_t size;
};

static struct peer peers[CLIENTS];

static void check_line(char *line, size_t size)
{
	json_object *object, *error;

	line[size] = '\0';
	fuzz_check(strlen(line) == size);
	object = json_tokener_parse(line);
	fuzz_check(json_object_is_type(object, json_type_object));
	if (json_object_object_get_ex(object, "error", &error)) {
		fuzz_goals[REFUSALS].count++;
		fuzz_check(json_object_object_get(error, "class"));
	}
	fuzz_goals[EVENTS].count += !!json_object_object_get(object, "event");
	json_object_put(object);
}

static void hang_up(struct peer *peer)
{
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
	peer->size = 0;
}

static void hear(struct peer *peer)
{
	ssize_t got;

	while (peer->fd >= 0 && (got = recv(peer->fd, peer->heard + peer->size,
					 sizeof(peer->heard) - 1 - peer->size, 0)) > 0) {
		char *line = peer->heard, *end, *stop = peer->heard + peer->size + got;

		while ((end = memchr(line, '\n', stop - line))) {
			check_line(line, end - line);
			line = end + 1;
		}
		peer->size = stop - line;
		memmove(peer->heard, line, peer->size);
	}
	if (peer->fd >= 0 && got == 0) {
		fuzz_goals[DROPPED].count++;
		hang_up(peer);
	}
}

static void connect_peer(struct peer *peer)
{
	int pair[2];

	hang_up(peer);
	fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	fuzz_check(monitor_add_client(monitor, pair[0]) == 0);
	peer->fd = pair[1];
}

static void say(struct peer *peer, const char *text, size_t size)
{
	if (peer->fd >= 0 && send(peer->fd, text, size, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		hear(peer);
}

static void answer_one(unsigned which)
{
	struct error why = { 0 };
	uint32_t request;

	if (!waiting_count)
		return;
	request = waiting[which % waiting_count];
	waiting[which % waiting_count] = waiting[waiting_count - 1];
	waiting_count--;
	fuzz_goals[LATE].count++;
	error_set(&why, -EIO, "it", "has failed");
	if (which & 0x80)
		monitor_fail(monitor, request, MONITOR_DEVICE_NOT_FOUND, &why);
	else
		monitor_reply(monitor, request, json_object_new_array());
	/* Answered once is answered. */
	monitor_reply(monitor, request, json_object_new_string("again"));
}

static void act(struct fuzz_input *input)
{
	uint8_t what = fuzz_byte(input), detail = fuzz_byte(input);
	struct peer *peer = &peers[what >> 4 & (CLIENTS - 1)];
	char raw[RAW_MAX];
	size_t size;

	switch (what & 15) {
	case 0:
		connect_peer(peer);
		break;
	case 1:
		hear(peer);
		break;
	case 2:
		answer_one(detail);
		break;
	case 3:
		monitor_event(monitor, "STOP", detail & 1 ? json_object_new_object() : NULL);
		break;
	case 4:
		if (peer->fd >= 0 && detail & 1)
			shutdown(peer->fd, SHUT_WR);
		else if (detail == 2)
			hang_up(peer);
		break;
	case 5:
		for (unsigned i = 0; i < 16; i++)
			monitor_event(monitor, "RESUME", NULL);
		break;
	case 6: /* what is too long, too deep */
		memset(raw, detail, sizeof(raw));
		for (unsigned i = 0; i < 300; i++)
			say(peer, raw, sizeof(raw));
		break;
	case 7:
	case 8:
	case 9:
	case 10:
		say(peer, words[detail % ARRAY_SIZE(words)],
			strlen(words[detail % ARRAY_SIZE(words)]));
		break;
	default:
		size = min_u64(detail, input->size);
		fuzz_bytes(input, raw, size);
		say(peer, raw, size);
	}
	loop_step(loop, 0);
}

void fuzz_one(struct fuzz_input *input)
{
	unsigned before = fuzz_descriptors();
	struct error err = { 0 };

	loop = loop_new(&err);
	monitor = monitor_new(loop, commands, NULL, &err);
	waiting_count = 0;
	for (unsigned i = 0; i < CLIENTS; i++) {
		peers[i].fd = -1;
		connect_peer(&peers[i]);
	}
	for (unsigned i = 0; i < STEPS && input->size; i++)
		act(input);
	while (waiting_count)
		answer_one(0);
	for (unsigned i = 0; i < 8; i++)
		loop_step(loop, 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		hear(&peers[i]);
		hang_up(&peers[i]);
	}
	monitor_free(monitor);
	loop_free(loop);
	fuzz_check(fuzz_descriptors() == before);
}
