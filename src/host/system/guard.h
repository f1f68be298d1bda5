/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <stdint.h>

/*
 * Calls that can hang in the kernel, as a driver's unbind or probe does when its device does not
 * answer or is in use. Each is made in a child process, so that only the child hangs. The user is
 * told every progress_ms, and after limit_ms the child is given up and -ETIMEDOUT is returned. It is
 * left alone to finish its work whenever the kernel lets it, also to put back what it changed for
 * that. Nobody waits for it.
 *
 * Until the child has ended it keeps copies of locks, descriptors with a flock(2) or -1, one for
 * each device that is changed: whoever takes one of them knows that no such call is under way, even
 * when this process was killed.
 */
struct guard {
	const struct host *host;
	const char *object; /* for messages, as a PCI address */
	const char *doing;  /* and what is waited for, as "nvme to let go of it" */
	const int *locks;
	size_t lock_count;
};

/* Write text to a file of sysfs. 0 or a negative errno. */
int guard_write(const struct guard *guard, const char *path, const char *text);

/* Run call(argument) in the child, with all other descriptors closed; returns what it returns. */
int guard_call(const struct guard *guard, int (*call)(const void *), const void *argument);

/* Milliseconds that do not jump. */
uint64_t guard_now(void);

/* Tell the user that a wait goes on, when the time has come for that. */
void guard_progress(const struct guard *guard, uint64_t start, uint64_t *told);
