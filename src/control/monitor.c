/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/monitor.h"

#include "base/fd.h"
#include "base/size.h"
#include "control/socket.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define DEPTH_MAX  32
#define INPUT_SIZE 4096
/* With so much unread, no more commands are taken: their answers would be too much. */
#define UNREAD_PAUSE 65536

struct client {
	struct monitor *monitor;
	int fd; /* -1: none */
	uint32_t events;
	bool negotiated;
	bool at_end;      /* it sends nothing more */
	bool taking;      /* its input is being looked at, further down the stack */
	uint32_t request; /* that is not answered yet; 0: none */
	json_object *id;  /* of that one, as the client has given it */
	bool has_id;
	json_tokener *tokener;
	size_t object_size; /* of what the tokener has seen of an object */
	bool skipping;      /* to the end of a line that was no JSON */
	size_t input_start, input_end;
	char input[INPUT_SIZE];
	char *unread; /* MONITOR_UNREAD_MAX, from the first answer that did not fit the socket on */
	size_t unread_start, unread_end;
};

struct monitor {
	struct loop *loop;
	const struct monitor_command *commands;
	void *opaque;
	uint32_t last_request;
	struct control_socket sockets[MONITOR_SOCKETS_MAX];
	unsigned socket_count;
	struct client clients[MONITOR_CLIENTS_MAX];
};

/* Output */

static void drop(struct client *client)
{
	struct monitor *monitor = client->monitor;

	if (client->fd < 0)
		return;
	loop_remove(monitor->loop, client->fd);
	close(client->fd);
	json_tokener_free(client->tokener);
	json_object_put(client->id);
	free(client->unread);
	memset(client, 0, sizeof(*client));
	client->monitor = monitor;
	client->fd = -1;
}

static size_t unread(const struct client *client)
{
	return client->unread_end - client->unread_start;
}

/* False: the client is gone. */
static bool flush(struct client *client)
{
	while (unread(client)) {
		ssize_t sent = send(client->fd, client->unread + client->unread_start,
			unread(client), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (sent < 0) {
			drop(client);
			return false;
		}
		client->unread_start += sent;
	}
	client->unread_start = client->unread_end = 0;
	return true;
}

static void put(struct client *client, const char *text, size_t size)
{
	if (size > MONITOR_UNREAD_MAX - unread(client)) {
		drop(client);
		return;
	}
	if (!client->unread)
		client->unread = malloc(MONITOR_UNREAD_MAX);
	if (!client->unread) {
		drop(client);
		return;
	}
	if (size > MONITOR_UNREAD_MAX - client->unread_end) {
		memmove(client->unread, client->unread + client->unread_start, unread(client));
		client->unread_end = unread(client);
		client->unread_start = 0;
	}
	memcpy(client->unread + client->unread_end, text, size);
	client->unread_end += size;
}

static char *format(json_object *object, size_t *size)
{
	const char *text = json_object_to_json_string_ext(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	char *line = NULL;
	int length = text ? asprintf(&line, "%s\r\n", text) : -1;

	json_object_put(object);
	*size = length < 0 ? 0 : length;
	return length < 0 ? NULL : line;
}

/* Takes the object. */
static void send_object(struct client *client, json_object *object)
{
	size_t size;
	cleanup_free char *line = format(object, &size);

	if (!line)
		drop(client);
	else
		put(client, line, size);
	if (client->fd >= 0)
		flush(client);
}

static json_object *object_with(const char *key, json_object *value)
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, key, value);
	return object;
}

static json_object *describe_version(void)
{
	json_object *qemu = json_object_new_object(), *version;

	json_object_object_add(qemu, "major", json_object_new_int(MONITOR_QMP_MAJOR));
	json_object_object_add(qemu, "minor", json_object_new_int(0));
	json_object_object_add(qemu, "micro", json_object_new_int(0));
	version = object_with("qemu", qemu);
	json_object_object_add(
		version, "package", json_object_new_string("penstock-" PENSTOCK_VERSION));
	return version;
}

static void greet(struct client *client)
{
	json_object *greeting = object_with("version", describe_version());

	json_object_object_add(greeting, "capabilities", json_object_new_array());
	send_object(client, object_with("QMP", greeting));
}

static void add_timestamp(json_object *event)
{
	json_object *stamp = json_object_new_object();
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	json_object_object_add(stamp, "seconds", json_object_new_int64(now.tv_sec));
	json_object_object_add(stamp, "microseconds", json_object_new_int64(now.tv_nsec / 1000));
	json_object_object_add(event, "timestamp", stamp);
}

/* Answers */

/* Takes the answer. */
static void answer(struct client *client, json_object *object)
{
	if (client->has_id)
		json_object_object_add(object, "id", client->id);
	client->id = NULL;
	client->has_id = false;
	client->request = 0;
	send_object(client, object);
}

static void answer_error(struct client *client, enum monitor_class class, const char *text)
{
	static const char *const names[] = {
		[MONITOR_GENERIC] = "GenericError",
		[MONITOR_COMMAND_NOT_FOUND] = "CommandNotFound",
		[MONITOR_DEVICE_NOT_FOUND] = "DeviceNotFound",
	};
	json_object *error = object_with("class", json_object_new_string(names[class]));

	json_object_object_add(error, "desc", json_object_new_string(text));
	answer(client, object_with("error", error));
}

static void __attribute__((format(printf, 2, 3)))
refuse(struct client *client, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	answer_error(client, MONITOR_GENERIC, text);
}

static struct client *find_client(struct monitor *monitor, uint32_t request)
{
	for (size_t i = 0; i < ARRAY_SIZE(monitor->clients); i++)
		if (monitor->clients[i].fd >= 0 && monitor->clients[i].request == request)
			return &monitor->clients[i];
	return NULL;
}

/* Commands */

static bool check_argument(
	struct client *client, const struct monitor_argument *argument, json_object *arguments)
{
	json_object *value;

	if (!json_object_object_get_ex(arguments, argument->name, &value)) {
		if (argument->required)
			refuse(client, "Parameter '%s' is missing", argument->name);
		return !argument->required;
	}
	if (json_object_is_type(value, argument->type))
		return true;
	refuse(client, "Invalid parameter type for '%s', expected: %s", argument->name,
		json_type_to_name(argument->type));
	return false;
}

static bool is_argument(const struct monitor_argument *known, const char *name)
{
	for (; known && known->name; known++)
		if (strcmp(known->name, name) == 0)
			return true;
	return false;
}

/* False where it has been refused. */
static bool check_arguments(
	struct client *client, const struct monitor_argument *known, json_object *arguments)
{
	json_object_object_foreach(arguments, name, value)
	{
		(void)value;
		if (!is_argument(known, name)) {
			refuse(client, "Parameter '%.200s' is unexpected", name);
			return false;
		}
	}
	for (; known && known->name; known++)
		if (!check_argument(client, known, arguments))
			return false;
	return true;
}

static void negotiate(struct client *client, json_object *arguments)
{
	static const struct monitor_argument known[] = { { "enable", json_type_array, false },
		{ 0 } };
	json_object *enable;

	if (client->negotiated) {
		answer_error(client, MONITOR_COMMAND_NOT_FOUND,
			"Capabilities negotiation is already complete, command ignored");
		return;
	}
	if (!check_arguments(client, known, arguments))
		return;
	if (json_object_object_get_ex(arguments, "enable", &enable) &&
		json_object_array_length(enable)) {
		refuse(client, "There is no capability to be enabled");
		return;
	}
	client->negotiated = true;
	answer(client, object_with("return", json_object_new_object()));
}

static const char *const own_commands[] = { "qmp_capabilities", "query-commands", "query-version" };

static void add_name(json_object *list, const char *name)
{
	json_object_array_add(list, object_with("name", json_object_new_string(name)));
}

static json_object *list_commands(const struct monitor *monitor)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < ARRAY_SIZE(own_commands); i++)
		add_name(list, own_commands[i]);
	for (const struct monitor_command *command = monitor->commands; command->name; command++)
		add_name(list, command->name);
	return list;
}

static void run_command(struct client *client, const char *name, json_object *arguments)
{
	struct monitor *monitor = client->monitor;
	const struct monitor_command *command = monitor->commands;
	bool version = strcmp(name, "query-version") == 0;

	if (version || strcmp(name, "query-commands") == 0) {
		if (check_arguments(client, NULL, arguments))
			answer(client, object_with("return", version ? describe_version()
								     : list_commands(monitor)));
		return;
	}
	while (command->name && strcmp(command->name, name))
		command++;
	if (!command->name) {
		char text[256];

		snprintf(text, sizeof(text), "The command %.200s has not been found", name);
		answer_error(client, MONITOR_COMMAND_NOT_FOUND, text);
	} else if (check_arguments(client, command->arguments, arguments)) {
		command->run(monitor->opaque, client->request, arguments);
	}
}

static void dispatch(struct client *client, const char *name, json_object *arguments)
{
	if (strcmp(name, "qmp_capabilities") == 0)
		negotiate(client, arguments);
	else if (!client->negotiated)
		answer_error(client, MONITOR_COMMAND_NOT_FOUND,
			"Expecting capabilities negotiation with 'qmp_capabilities'");
	else
		run_command(client, name, arguments);
}

/* The members that a command has; false where it has been refused. */
static bool check_members(struct client *client, json_object *object)
{
	json_object *value;

	json_object_object_foreach(object, name, member)
	{
		(void)member;
		if (strcmp(name, "execute") && strcmp(name, "arguments") && strcmp(name, "id")) {
			refuse(client, "QMP input member '%.200s' is unexpected", name);
			return false;
		}
	}
	if (!json_object_object_get_ex(object, "execute", &value)) {
		refuse(client, "QMP input lacks member 'execute'");
		return false;
	}
	if (!json_object_is_type(value, json_type_string)) {
		refuse(client, "QMP input member 'execute' must be a string");
		return false;
	}
	if (json_object_object_get_ex(object, "arguments", &value) &&
		!json_object_is_type(value, json_type_object)) {
		refuse(client, "QMP input member 'arguments' must be an object");
		return false;
	}
	return true;
}

static void begin_request(struct client *client, json_object *object)
{
	struct monitor *monitor = client->monitor;
	json_object *id;

	if (!++monitor->last_request)
		monitor->last_request = 1;
	client->request = monitor->last_request;
	client->has_id = json_object_is_type(object, json_type_object) &&
			 json_object_object_get_ex(object, "id", &id);
	client->id = client->has_id ? json_object_get(id) : NULL;
}

static void take_object(struct client *client, json_object *object)
{
	json_object *arguments, *none = NULL;

	begin_request(client, object);
	if (!json_object_is_type(object, json_type_object)) {
		refuse(client, "QMP input must be a JSON object");
		return;
	}
	if (!check_members(client, object))
		return;
	if (!json_object_object_get_ex(object, "arguments", &arguments))
		arguments = none = json_object_new_object();
	dispatch(client, json_object_get_string(json_object_object_get(object, "execute")),
		arguments);
	json_object_put(none);
}

/* Input */

static bool has_input(const struct client *client)
{
	return client->input_start < client->input_end;
}

static void skip_line(struct client *client)
{
	const char *start = client->input + client->input_start;
	const char *end = memchr(start, '\n', client->input_end - client->input_start);

	client->input_start = end ? (size_t)(end + 1 - client->input) : client->input_end;
	client->skipping = !end;
}

/* Between two objects: what a tokener that has seen nothing need not see. */
static void skip_spaces(struct client *client)
{
	while (has_input(client) && isspace((unsigned char)client->input[client->input_start]))
		client->input_start++;
}

static void parse_some(struct client *client)
{
	size_t size = client->input_end - client->input_start, used;
	json_object *object = json_tokener_parse_ex(
		client->tokener, client->input + client->input_start, (int)size);
	enum json_tokener_error error = json_tokener_get_error(client->tokener);

	used = json_tokener_get_parse_end(client->tokener);
	if (error == json_tokener_continue) {
		client->object_size += size;
		client->input_start = client->input_end;
		if (client->object_size > MONITOR_OBJECT_MAX)
			drop(client);
		return;
	}
	client->object_size = 0;
	json_tokener_reset(client->tokener);
	if (error == json_tokener_success && used) {
		client->input_start += used;
		take_object(client, object);
	} else {
		client->skipping = true;
		begin_request(client, NULL);
		refuse(client, "JSON parse error, %s", json_tokener_error_desc(error));
	}
	json_object_put(object);
}

static void take_input(struct client *client)
{
	client->taking = true;
	while (client->fd >= 0 && !client->request && has_input(client) &&
		unread(client) < UNREAD_PAUSE) {
		if (client->skipping)
			skip_line(client);
		else if (!client->object_size)
			skip_spaces(client);
		if (!client->skipping && has_input(client))
			parse_some(client);
	}
	client->taking = false;
}

static void read_input(struct client *client)
{
	ssize_t got = recv(client->fd, client->input, sizeof(client->input), MSG_DONTWAIT);

	client->input_start = 0;
	client->input_end = got > 0 ? got : 0;
	client->at_end = got == 0;
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		drop(client);
}

/* What is waited for now; the end of one that has sent its last and has got all. */
static void settle(struct client *client)
{
	uint32_t events = 0;

	if (client->fd < 0)
		return;
	if (client->at_end && !client->request && !unread(client) && !has_input(client)) {
		drop(client);
		return;
	}
	if (!client->request && !client->at_end && !has_input(client))
		events |= EPOLLIN;
	if (unread(client))
		events |= EPOLLOUT;
	if (events != client->events)
		loop_change(client->monitor->loop, client->fd, events);
	client->events = events;
}

static void on_client(void *opaque, uint32_t events)
{
	struct client *client = opaque;

	/* It may have sent its last words before it went. */
	if (events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN)) {
		drop(client);
		return;
	}
	if (events & EPOLLOUT && !flush(client))
		return;
	if (events & EPOLLIN && !has_input(client))
		read_input(client);
	take_input(client);
	settle(client);
}

/* An answer lets the next command run. */
static void go_on(struct client *client)
{
	if (client->fd < 0 || client->taking)
		return;
	take_input(client);
	settle(client);
}

/* The caller's side */

void monitor_reply(struct monitor *monitor, uint32_t request, json_object *result)
{
	struct client *client = find_client(monitor, request);

	if (!request || !client) {
		json_object_put(result);
		return;
	}
	answer(client, object_with("return", result ? result : json_object_new_object()));
	go_on(client);
}

void monitor_fail(struct monitor *monitor, uint32_t request, enum monitor_class class,
	const struct error *why)
{
	struct client *client = request ? find_client(monitor, request) : NULL;
	char text[sizeof(*why) + 16];

	if (!client)
		return;
	snprintf(text, sizeof(text), "%s%s%s%s%s", why->object, why->object[0] ? ": " : "",
		why->what, why->hint[0] ? "; next: " : "", why->hint);
	answer_error(client, class, text);
	go_on(client);
}

void monitor_event(struct monitor *monitor, const char *name, json_object *data)
{
	json_object *event = object_with("event", json_object_new_string(name));
	size_t size;
	cleanup_free char *line = NULL;

	if (data)
		json_object_object_add(event, "data", data);
	add_timestamp(event);
	line = format(event, &size);
	for (size_t i = 0; line && i < ARRAY_SIZE(monitor->clients); i++) {
		struct client *client = &monitor->clients[i];

		if (client->fd < 0 || !client->negotiated)
			continue;
		put(client, line, size);
		if (client->fd >= 0 && flush(client))
			settle(client);
	}
}

int monitor_add_client(struct monitor *monitor, int fd)
{
	struct client *client = monitor->clients, *end = client + MONITOR_CLIENTS_MAX;
	int code = -EBUSY;

	while (client < end && client->fd >= 0)
		client++;
	if (client < end)
		code = loop_add(monitor->loop, fd, EPOLLIN, on_client, client);
	if (code) {
		close(fd);
		return code;
	}
	client->fd = fd;
	client->events = EPOLLIN;
	client->tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!client->tokener) {
		drop(client);
		return -ENOMEM;
	}
	greet(client);
	settle(client);
	return 0;
}

static void on_connection(void *opaque, uint32_t events)
{
	struct monitor *monitor = opaque;

	(void)events;
	for (unsigned i = 0; i < monitor->socket_count; i++) {
		int fd = control_accept(&monitor->sockets[i]);

		if (fd >= 0)
			monitor_add_client(monitor, fd);
	}
}

int monitor_listen(struct monitor *monitor, const char *path, struct error *err)
{
	struct control_socket *listener = &monitor->sockets[monitor->socket_count];
	int code;

	if (monitor->socket_count == MONITOR_SOCKETS_MAX)
		return error_set(err, -ENOSPC, path, "too many sockets for one monitor");
	if (control_listen(listener, path, err))
		return err->code;
	code = loop_add(monitor->loop, listener->fd, EPOLLIN, on_connection, monitor);
	if (code) {
		control_close(listener);
		return error_sys(err, code, path, "cannot listen");
	}
	monitor->socket_count++;
	return 0;
}

struct monitor *monitor_new(
	struct loop *loop, const struct monitor_command *commands, void *opaque, struct error *err)
{
	struct monitor *monitor = calloc(1, sizeof(*monitor));

	if (!monitor) {
		error_sys(err, -ENOMEM, NULL, "cannot make the monitor");
		return NULL;
	}
	monitor->loop = loop;
	monitor->commands = commands;
	monitor->opaque = opaque;
	for (size_t i = 0; i < ARRAY_SIZE(monitor->clients); i++) {
		monitor->clients[i].monitor = monitor;
		monitor->clients[i].fd = -1;
	}
	return monitor;
}

void monitor_free(struct monitor *monitor)
{
	if (!monitor)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(monitor->clients); i++)
		drop(&monitor->clients[i]);
	for (unsigned i = 0; i < monitor->socket_count; i++) {
		loop_remove(monitor->loop, monitor->sockets[i].fd);
		control_close(&monitor->sockets[i]);
	}
	free(monitor);
}
