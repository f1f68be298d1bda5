/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <sys/types.h>

/* The other end of a monitor: one connection, one command at a time. */

struct control_client {
	int fd;
	const char *name; /* of the machine, for messages; the caller's */
	json_tokener *tokener;
	char input[4096];
	size_t input_start, input_end;
	json_object *events; /* an array: that have come while something else was waited for */
};

/*
 * Connect and negotiate, within limit_ms. -ENOENT, without an error, where nobody listens; -EACCES where it is
 * another user's; -ETIMEDOUT where nobody answers. Close it in each case.
 */
int control_client_open(struct control_client *client, const char *path, const char *name,
	unsigned limit_ms, struct error *err);
void control_client_close(struct control_client *client);

/* The process of the machine's broker; 0 where it cannot be told. */
pid_t control_client_peer(const struct control_client *client);

/* Send a command. arguments are taken; NULL: none. */
int control_client_send(struct control_client *client, const char *command, json_object *arguments,
	struct error *err);

/*
 * What it returns, the caller's; NULL with err set. -ETIMEDOUT: not within limit_ms (-1: for ever), and it can
 * be waited for again.
 */
json_object *control_client_answer(struct control_client *client, int limit_ms, struct error *err);

/* Both. */
json_object *control_client_run(struct control_client *client, const char *command,
	json_object *arguments, int limit_ms, struct error *err);

/*
 * 1: the next event, the caller's; 0: none within limit_ms; -EPIPE: the machine has closed the connection, which
 * it does at its end.
 */
int control_client_event(struct control_client *client, int limit_ms, json_object **event);
