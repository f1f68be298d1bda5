/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "control/client.h"
#include "host/system/host.h"

/* What the commands that reach a running machine have in common. */

#define MACHINE_ANSWER_MS 5000 /* for what takes no time */

/* The path of a machine's socket. */
#define MACHINE_SOCKET ".sock"

/* Connect to the machine of this name. Close the client in each case. */
int cmd_machine_connect(
	struct control_client *client, struct host *host, const char *name, struct error *err);

/* What is waited for, as the user is told of it: "the guest to power off", and what to do where it is given up. */
struct machine_wait {
	const struct host *host; /* with its limit_ms */
	const char *doing;
	const char *hint;
};

/*
 * Run a command that may take long. 0 or a negative errno. result is what it returns, the caller's; NULL: nobody
 * wants it.
 */
int cmd_machine_run(struct control_client *client, const struct machine_wait *wait,
	const char *command, json_object *arguments, json_object **result, struct error *err);

/*
 * Wait for an event. devices: ids, for each of which there is to be one, and which leave the array by that; NULL:
 * it is about none. 0 or a negative errno; -EPIPE: the machine has ended before.
 */
int cmd_machine_await(struct control_client *client, const struct machine_wait *wait,
	const char *event, json_object *devices, struct error *err);

/* Wait until the machine has ended and given everything back. */
int cmd_machine_await_end(
	struct control_client *client, const struct machine_wait *wait, struct error *err);
