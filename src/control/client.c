/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/client.h"

#include "base/clock.h"
#include "base/fd.h"
#include "control/socket.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* INT64_MAX: never. */
static int64_t deadline_of(int limit_ms)
{
	return limit_ms < 0 ? INT64_MAX : clock_ms() + limit_ms;
}

static int wait_for_input(const struct control_client *client, int64_t deadline)
{
	struct pollfd input = { .fd = client->fd, .events = POLLIN };
	int64_t left = deadline == INT64_MAX ? -1 : deadline - clock_ms();
	int ready;

	if (deadline != INT64_MAX && left < 0)
		left = 0;
	ready = poll(&input, 1, (int)left);
	return ready < 0 ? (errno == EINTR ? -EAGAIN : -errno) : ready ? 0 : -ETIMEDOUT;
}

static int fill_buffer(struct control_client *client, int64_t deadline)
{
	int code = wait_for_input(client, deadline);
	ssize_t got;

	if (code)
		return code == -EAGAIN ? 0 : code;
	got = recv(client->fd, client->input, sizeof(client->input), MSG_DONTWAIT);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
	client->input_start = 0;
	client->input_end = got;
	return got ? 0 : -EPIPE;
}

/* The next object; 0 or a negative errno. */
static int receive(struct control_client *client, int64_t deadline, json_object **object)
{
	for (;;) {
		size_t size = client->input_end - client->input_start;
		int code = size ? 0 : fill_buffer(client, deadline);

		if (code)
			return code;
		size = client->input_end - client->input_start;
		if (!size)
			continue;
		*object = json_tokener_parse_ex(
			client->tokener, client->input + client->input_start, (int)size);
		if (json_tokener_get_error(client->tokener) == json_tokener_continue) {
			client->input_start = client->input_end;
			continue;
		}
		client->input_start += json_tokener_get_parse_end(client->tokener);
		if (!json_object_is_type(*object, json_type_object)) {
			json_object_put(*object);
			return -EBADMSG;
		}
		return 0;
	}
}

static int fail_client(const struct control_client *client, int code, struct error *err)
{
	if (code == -EPIPE) {
		error_set(err, code, client->name, "the machine has ended meanwhile");
	} else if (code == -ETIMEDOUT) {
		error_set(err, code, client->name, "the machine does not answer");
		error_hint(err,
			"it may be waiting for the kernel, as for a device that does not come back: "
			"its own messages tell");
	} else {
		error_set(err, code, client->name, "the answer is not understood");
	}
	return code;
}

int control_client_send(struct control_client *client, const char *command, json_object *arguments,
	struct error *err)
{
	json_object *object = json_object_new_object();
	const char *text;
	size_t left;
	int code = 0;

	json_object_object_add(object, "execute", json_object_new_string(command));
	if (arguments)
		json_object_object_add(object, "arguments", arguments);
	text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
	for (left = strlen(text); left && !code;) {
		ssize_t sent = send(client->fd, text, left, MSG_NOSIGNAL);

		if (sent >= 0) {
			text += sent;
			left -= sent;
		} else if (errno != EINTR) {
			code = -EPIPE;
		}
	}
	json_object_put(object);
	return code ? fail_client(client, code, err) : 0;
}

/* What is neither is dropped. */
static int receive_answer(struct control_client *client, int64_t deadline, json_object **answer)
{
	for (;;) {
		int code = receive(client, deadline, answer);

		if (code)
			return code;
		if (json_object_object_get(*answer, "return") ||
			json_object_object_get(*answer, "error"))
			return 0;
		if (json_object_object_get(*answer, "event"))
			json_object_array_add(client->events, *answer);
		else
			json_object_put(*answer);
	}
}

/* The error's text has what to do next behind a mark: see monitor_fail(). */
static void take_error(const struct control_client *client, json_object *answer, struct error *err)
{
	static const char mark[] = "; next: ";
	json_object *error = json_object_object_get(answer, "error");
	const char *text = json_object_get_string(json_object_object_get(error, "desc"));
	const char *next = text ? strstr(text, mark) : NULL;
	int length = next ? (int)(next - text) : (int)(text ? strlen(text) : 0);

	error_set(err, -EIO, client->name, "%.*s", length, text ? text : "");
	if (next)
		error_hint(err, "%s", next + sizeof(mark) - 1);
}

json_object *control_client_answer(struct control_client *client, int limit_ms, struct error *err)
{
	json_object *answer, *result = NULL;
	int code = receive_answer(client, deadline_of(limit_ms), &answer);

	if (code) {
		fail_client(client, code, err);
		return NULL;
	}
	if (json_object_object_get_ex(answer, "return", &result))
		json_object_get(result);
	else
		take_error(client, answer, err);
	json_object_put(answer);
	return result;
}

json_object *control_client_run(struct control_client *client, const char *command,
	json_object *arguments, int limit_ms, struct error *err)
{
	return control_client_send(client, command, arguments, err)
		       ? NULL
		       : control_client_answer(client, limit_ms, err);
}

int control_client_event(struct control_client *client, int limit_ms, json_object **event)
{
	int64_t deadline = deadline_of(limit_ms);
	int code;

	if (json_object_array_length(client->events)) {
		*event = json_object_get(json_object_array_get_idx(client->events, 0));
		json_object_array_del_idx(client->events, 0, 1);
		return 1;
	}
	while (!(code = receive(client, deadline, event))) {
		if (json_object_object_get(*event, "event"))
			return 1;
		json_object_put(*event);
	}
	return code == -ETIMEDOUT ? 0 : -EPIPE;
}

int control_client_open(struct control_client *client, const char *path, const char *name,
	unsigned limit_ms, struct error *err)
{
	json_object *greeting, *nothing;
	int code;

	*client = (struct control_client){ .fd = control_connect(path), .name = name };
	if (client->fd == -ENOENT || client->fd == -ECONNREFUSED)
		return -ENOENT;
	if (client->fd < 0) {
		error_sys(err, client->fd, name, "cannot reach the machine");
		if (client->fd == -EACCES)
			error_hint(err, "it is another user's: use that user's account, or root");
		return err->code;
	}
	client->tokener = json_tokener_new();
	client->events = json_object_new_array();
	if (!client->tokener || !client->events)
		return error_sys(err, -ENOMEM, name, "cannot reach the machine");
	code = receive(client, deadline_of(limit_ms), &greeting);
	if (code == -EPIPE)
		return error_set(
			err, -EBUSY, name, "the machine takes no more clients, or has just ended");
	if (code)
		return fail_client(client, code, err);
	json_object_put(greeting);
	nothing = control_client_run(client, "qmp_capabilities", NULL, limit_ms, err);
	json_object_put(nothing);
	return err->code;
}

void control_client_close(struct control_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	if (client->tokener)
		json_tokener_free(client->tokener);
	json_object_put(client->events);
	*client = (struct control_client){ .fd = -1 };
}

pid_t control_client_peer(const struct control_client *client)
{
	return control_peer(client->fd);
}
