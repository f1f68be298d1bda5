/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "base/loop.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A monitor that clients for QEMU's machine protocol (QMP) speak: JSON objects over local sockets, a
 * greeting, negotiation, commands that are answered in their order, events. What the commands do is the
 * caller's.
 *
 * A client may send what it likes, and read as slowly as it likes: it is the only one to notice. It is
 * dropped where it sends an object of more than 64 KiB or leaves more than 256 KiB unread. All runs on
 * the thread of the loop.
 */

#define MONITOR_CLIENTS_MAX 8
#define MONITOR_SOCKETS_MAX 2
#define MONITOR_OBJECT_MAX  65536
#define MONITOR_UNREAD_MAX  262144

/* The version of QMP that is followed, as clients are told. */
#define MONITOR_QMP_MAJOR 9

struct monitor;

struct monitor_argument {
	const char *name;
	json_type type;
	bool required;
};

struct monitor_command {
	const char *name;
	const struct monitor_argument *arguments; /* up to a name of NULL; NULL: none */
	/*
	 * Arguments are checked, and borrowed. It is answered by monitor_reply() or monitor_fail(), at
	 * once or later; until then the client's next command waits.
	 */
	void (*run)(void *opaque, uint32_t request, json_object *arguments);
};

/* commands: up to a name of NULL; they must outlive the monitor. NULL with err set where it fails. */
struct monitor *monitor_new(
	struct loop *loop, const struct monitor_command *commands, void *opaque, struct error *err);
/* Closes sockets and clients; what is answered then is dropped. */
void monitor_free(struct monitor *monitor);

int monitor_listen(struct monitor *monitor, const char *path, struct error *err);

/* A client of its own, for a connected socket that it then owns. -EBUSY, and it is closed: too many. */
int monitor_add_client(struct monitor *monitor, int fd);

/* Answers once; a request whose client is gone is not there any more. result is taken; NULL: nothing. */
void monitor_reply(struct monitor *monitor, uint32_t request, json_object *result);

enum monitor_class { MONITOR_GENERIC, MONITOR_COMMAND_NOT_FOUND, MONITOR_DEVICE_NOT_FOUND };
/* The error's hint is told, too. */
void monitor_fail(struct monitor *monitor, uint32_t request, enum monitor_class class,
	const struct error *why);

/* To all clients that have negotiated. data is taken; NULL: none. */
void monitor_event(struct monitor *monitor, const char *name, json_object *data);
