/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/qmp.h"

#include "base/fd.h"
#include "base/size.h"
#include "control/member.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define HEARD_MAX (64 * KIB) /* an answer has some 100 bytes, the greeting 200 */
#define DEPTH_MAX 32

/* That the program speaks first, and has to be told this, makes no difference to what is sent. */
static const char negotiation[] = "{\"execute\":\"qmp_capabilities\"}";

int broker_qmp_open(struct broker_qmp *qmp, int *theirs, struct error *err)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_sys(err, -errno, NULL, "cannot make a monitor's socket");
	*qmp = (struct broker_qmp){ .fd = ends[0], .timer = -1 };
	*theirs = ends[1];
	qmp->tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!qmp->tokener || send(qmp->fd, negotiation, strlen(negotiation), MSG_DONTWAIT) < 0)
		return error_set(err, -ENOMEM, NULL, "cannot begin with a monitor");
	return 0;
}

static broker_qmp_done stop_waiting(struct broker_qmp *qmp)
{
	broker_qmp_done done = qmp->done;

	if (!done)
		return NULL;
	qmp->done = NULL;
	loop_remove(qmp->loop, qmp->fd);
	loop_remove(qmp->loop, qmp->timer);
	close(take_fd(&qmp->timer));
	return done;
}

/* The callback may ask for the next one. */
static void finish_asking(struct broker_qmp *qmp, const struct error *why)
{
	broker_qmp_done done = stop_waiting(qmp);

	if (done)
		done(qmp->opaque, why);
}

/* For good: whatever it says next has no beginning. */
static void give_up_hearing(struct broker_qmp *qmp, int code, const char *what)
{
	broker_qmp_done done = stop_waiting(qmp);
	struct error why = { 0 };

	if (qmp->fd >= 0)
		close(take_fd(&qmp->fd));
	error_set(&why, code, NULL, "%s", what);
	if (done)
		done(qmp->opaque, &why);
}

void broker_qmp_close(struct broker_qmp *qmp)
{
	give_up_hearing(qmp, -EPIPE, "has ended");
	if (qmp->tokener)
		json_tokener_free(qmp->tokener);
	*qmp = (struct broker_qmp)BROKER_QMP_NONE;
}

/* Greeting, events, and what comes too late for who has asked are nothing to us. */
static void take_said(struct broker_qmp *qmp, json_object *object)
{
	struct error why = { 0 };
	json_object *error;

	if (!qmp->done || member_number(object, "id") != qmp->id)
		return;
	if (json_object_object_get_ex(object, "error", &error))
		error_set(&why, -EIO, NULL, "%s", member_text(error, "desc", "refuses"));
	else if (!json_object_object_get_ex(object, "return", NULL))
		return;
	qmp->heard = 0;
	finish_asking(qmp, &why);
}

static void parse_said(struct broker_qmp *qmp, const char *bytes, size_t size)
{
	for (size_t at = 0; at < size && qmp->fd >= 0;) {
		json_object *object =
			json_tokener_parse_ex(qmp->tokener, bytes + at, (int)(size - at));
		enum json_tokener_error error = json_tokener_get_error(qmp->tokener);

		if (error == json_tokener_continue)
			return;
		at += json_tokener_get_parse_end(qmp->tokener);
		json_tokener_reset(qmp->tokener);
		if (error == json_tokener_success && json_object_is_type(object, json_type_object))
			take_said(qmp, object);
		else
			give_up_hearing(qmp, -EBADMSG, "says what is no answer");
		json_object_put(object);
	}
}

static void on_said(void *opaque, uint32_t events)
{
	struct broker_qmp *qmp = opaque;
	char bytes[4 * KIB];
	ssize_t got = recv(qmp->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	(void)events;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		give_up_hearing(qmp, -EPIPE, "has ended");
		return;
	}
	qmp->heard += got;
	if (qmp->heard > HEARD_MAX)
		give_up_hearing(qmp, -EMSGSIZE, "says too much");
	else
		parse_said(qmp, bytes, got);
}

static void on_time_up(void *opaque, uint32_t events)
{
	struct error why = { 0 };

	(void)events;
	error_set(&why, -ETIMEDOUT, NULL, "has not answered within %u seconds", BROKER_QMP_LIMIT_S);
	finish_asking(opaque, &why);
}

static int start_waiting(struct broker_qmp *qmp, struct loop *loop)
{
	const struct itimerspec limit = { .it_value.tv_sec = BROKER_QMP_LIMIT_S };
	int code;

	qmp->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (qmp->timer < 0)
		return -errno;
	timerfd_settime(qmp->timer, 0, &limit, NULL);
	code = loop_add(loop, qmp->timer, EPOLLIN, on_time_up, qmp);
	if (!code) {
		code = loop_add(loop, qmp->fd, EPOLLIN, on_said, qmp);
		if (code)
			loop_remove(loop, qmp->timer);
	}
	if (code)
		close(take_fd(&qmp->timer));
	return code;
}

/* All at once: a socket that has no room for some 100 bytes is of a program that reads nothing. */
static int send_command(struct broker_qmp *qmp, const char *command, json_object *arguments)
{
	json_object *object = json_object_new_object();
	const char *text;
	ssize_t sent;

	json_object_object_add(object, "execute", json_object_new_string(command));
	json_object_object_add(object, "arguments", arguments);
	json_object_object_add(object, "id", json_object_new_int64(++qmp->id));
	text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
	sent = send(qmp->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	sent = sent == (ssize_t)strlen(text) ? 0 : -EPIPE;
	json_object_put(object);
	return sent;
}

int broker_qmp_ask(struct broker_qmp *qmp, struct loop *loop, const char *command,
	json_object *arguments, broker_qmp_done done, void *opaque, struct error *err)
{
	int code;

	if (qmp->fd < 0 || qmp->done) {
		json_object_put(arguments);
		return qmp->fd < 0 ? error_set(err, -EPIPE, NULL, "does not answer any more")
				   : error_set(err, -EBUSY, NULL, "is busy with something else");
	}
	if (send_command(qmp, command, arguments)) {
		give_up_hearing(qmp, -EPIPE, "");
		return error_set(err, -EPIPE, NULL, "does not answer any more");
	}
	code = start_waiting(qmp, loop);
	if (code)
		return error_sys(err, code, NULL, "cannot be waited for");
	qmp->loop = loop;
	qmp->done = done;
	qmp->opaque = opaque;
	return 0;
}
