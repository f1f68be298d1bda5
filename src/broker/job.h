/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/bdf.h"
#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * Work that may stand still in the kernel for as long as a driver likes: taking devices, and giving them back. A
 * child does it, one job at a time, and the loop goes on. It has what the broker has as it starts, but no
 * descriptor; it holds devices in the broker's name, and is killed with it, so that the journal tells of both alike.
 */

struct broker;

/* What a job is about; what does not matter is 0. */
struct broker_job_subject {
	uint32_t request;
	struct bdf bdf;
};

/* In the child: nothing that it changes in the broker stays. */
typedef void (*broker_job_work)(
	struct broker *broker, const struct broker_job_subject *subject, struct error *err);
/* In the loop. -ECHILD: the child was killed in the midst of its work. */
typedef void (*broker_job_done)(
	struct broker *broker, const struct broker_job_subject *subject, const struct error *err);

struct broker_job {
	pid_t pid;     /* of the child; 0: there is no job */
	int result_fd; /* it sends how it went */
	struct broker_job_subject subject;
	broker_job_done done;
	struct error *result; /* of broker_job_call() */
};

bool broker_job_is_busy(const struct broker *broker);

/* While none is under way. Without a child, for want of memory, the loop waits, and all is done on return. */
void broker_job_start(struct broker *broker, const struct broker_job_subject *subject,
	broker_job_work work, broker_job_done done);

/* The same, and wait for it, and before for the one that is under way, while the loop goes on. */
int broker_job_call(struct broker *broker, broker_job_work work, struct error *err);
