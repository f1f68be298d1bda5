/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/machine.h"

#include "host/journal/names.h"
#include "host/system/guard.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TICK_MS 250

int cmd_machine_connect(
	struct control_client *client, struct host *host, const char *name, struct error *err)
{
	char path[sizeof(host->run) + HOST_NAME + sizeof(MACHINE_SOCKET)];

	*client = (struct control_client){ .fd = -1 };
	if (host_init(host, NULL, NULL, err) || host_name_check(name, err))
		return err->code;
	snprintf(path, sizeof(path), "%s/%s" MACHINE_SOCKET, host->run, name);
	if (control_client_open(client, path, name, MACHINE_ANSWER_MS, err) == -ENOENT) {
		error_set(err, -ENOENT, name, "no machine of this name is running");
		error_hint(err, "'penstock list' shows those that are");
	}
	return err->code;
}

static int give_up_waiting(
	const struct control_client *client, const struct machine_wait *wait, struct error *err)
{
	error_set(err, -ETIMEDOUT, client->name, "gave up after %u seconds of waiting for %s",
		wait->host->limit_ms / 1000, wait->doing);
	error_hint(err, "%s", wait->hint);
	return err->code;
}

int cmd_machine_run(struct control_client *client, const struct machine_wait *wait,
	const char *command, json_object *arguments, json_object **result, struct error *err)
{
	struct guard guard = { .host = wait->host, .object = client->name, .doing = wait->doing };
	uint64_t start = guard_now(), told = start;

	if (result)
		*result = NULL;
	if (control_client_send(client, command, arguments, err))
		return err->code;
	while (guard_now() - start < wait->host->limit_ms) {
		struct error why = { 0 };
		json_object *answer = control_client_answer(client, TICK_MS, &why);

		if (why.code != -ETIMEDOUT) {
			if (result)
				*result = answer;
			else
				json_object_put(answer);
			*err = why;
			return why.code;
		}
		guard_progress(&guard, start, &told);
	}
	return give_up_waiting(client, wait, err);
}

/* Whether with this event all of them have come. */
static bool is_last(json_object *event, const char *name, json_object *devices)
{
	const char *text = json_object_get_string(json_object_object_get(event, "event"));
	json_object *data = json_object_object_get(event, "data"),
		    *device = json_object_object_get(data, "device");

	if (!text || strcmp(text, name))
		return false;
	for (size_t i = 0; devices && i < json_object_array_length(devices); i++)
		if (json_object_equal(json_object_array_get_idx(devices, i), device)) {
			json_object_array_del_idx(devices, i, 1);
			break;
		}
	return !devices || json_object_array_length(devices) == 0;
}

int cmd_machine_await(struct control_client *client, const struct machine_wait *wait,
	const char *event, json_object *devices, struct error *err)
{
	struct guard guard = { .host = wait->host, .object = client->name, .doing = wait->doing };
	uint64_t start = guard_now(), told = start;

	while (guard_now() - start < wait->host->limit_ms) {
		json_object *got;
		int code = control_client_event(client, TICK_MS, &got);
		bool found = code > 0 && is_last(got, event, devices);

		if (code > 0)
			json_object_put(got);
		if (found)
			return 0;
		if (code < 0)
			return error_set(err, code, client->name, "the machine has ended");
		guard_progress(&guard, start, &told);
	}
	return give_up_waiting(client, wait, err);
}

int cmd_machine_await_end(
	struct control_client *client, const struct machine_wait *wait, struct error *err)
{
	struct error why = { 0 };

	if (cmd_machine_await(client, wait, "", NULL, &why) != -EPIPE)
		*err = why;
	return err->code;
}
