/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "control/monitor.h"
#include "machine/machine.h"
#include "machine/message.h"

struct broker;
struct broker_device;

/*
 * What clients of the monitor can do to a machine. A command that the machine has to carry out is sent to it
 * as a request, and the client is answered when its reply comes, or the machine's process has ended.
 */

#define BROKER_REQUESTS_MAX (2 * MONITOR_CLIENTS_MAX)

/* One that the machine has not answered yet. */
struct broker_request {
	uint32_t id; /* the monitor's number; 0: none */
	enum message_type type;
	json_object *list; /* of what is told before the reply; NULL */
	unsigned number;   /* of the device, of a MESSAGE_DETACH */
	struct error why;  /* of a MESSAGE_ATTACH: the devices go back, then the client is told */
};

/* opaque is the broker. */
extern const struct monitor_command broker_commands[];

/* A message that answers a request, or a part of the answer. */
void broker_take_answer(struct broker *broker, const struct message *message);
/* Whether it waits for an answer. */
bool broker_request_waits(struct broker *broker, uint32_t request);
/* An attach fails for this reason; the client is told when the devices are back. */
void broker_fail_attach(struct broker *broker, uint32_t request, const struct error *why);
/* Devices are back: tell those clients that wait for that. */
void broker_finish_attaches(struct broker *broker);
/* Tell clients of a device, and what is done about it. */
void broker_tell_device(struct broker *broker, const char *event,
	const struct broker_device *device, enum machine_action action);
/* Tell clients that a device is back. */
void broker_tell_deleted(struct broker *broker, const char *id);
/* A picture of the display is taken: 0, or why not; opaque is the broker. */
void broker_take_picture(void *opaque, uint32_t request, int code);
/* Nobody answers any more. */
void broker_fail_requests(struct broker *broker);

/* The machine holds its vCPUs for what the guest has done: a value of enum machine_end, unless it lies. */
void broker_take_held(struct broker *broker, uint32_t end);
/* Tell clients of a crash: the event's name, and what comes of it, one of QMP's GuestPanicAction. */
void broker_tell_panic(struct broker *broker, const char *event, const char *action);

/* Tell clients how a life of the machine has ended: "SHUTDOWN" or "RESET". */
void broker_tell_end(struct broker *broker, const char *event, bool by_guest, const char *reason);
