/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "base/loop.h"

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The monitor of a program that we have started, by QEMU's machine protocol: one command at a time, from the loop. What
 * it says is read while it has a command to answer, is bounded, and is believed as far as whether that was done.
 */

#define BROKER_QMP_LIMIT_S 60

/* It has been done: no code; -EIO: the program says why it has not; -ETIMEDOUT: it may yet be; or another errno. */
typedef void (*broker_qmp_done)(void *opaque, const struct error *why);

struct broker_qmp {
	int fd;    /* -1: there is none, or nothing good is heard by it any more */
	int timer; /* until when there has to be an answer; -1: nothing is asked */
	struct loop *loop;
	json_tokener *tokener;
	size_t heard; /* bytes since the last answer */
	uint32_t id;  /* of the last command */
	broker_qmp_done done;
	void *opaque;
};

#define BROKER_QMP_NONE                \
	{                              \
		.fd = -1, .timer = -1, \
	}

/* theirs is the program's end, and the caller's to close. */
int broker_qmp_open(struct broker_qmp *qmp, int *theirs, struct error *err);
/* The same as if the program had ended. */
void broker_qmp_close(struct broker_qmp *qmp);

/* arguments are taken. 0: done() will be called, once; not before this returns. */
int broker_qmp_ask(struct broker_qmp *qmp, struct loop *loop, const char *command,
	json_object *arguments, broker_qmp_done done, void *opaque, struct error *err);
