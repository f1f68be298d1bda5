/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <stdint.h>

/* A process, told apart from later ones with the same id by its start time. */
struct host_holder {
	pid_t pid;            /* 0: held by no process */
	uint64_t start;       /* clock ticks since boot, from /proc/PID/stat */
	char name[HOST_NAME]; /* the machine's name, or the command's */
};

int host_holder_self(const char *name, struct host_holder *holder, struct error *err);
/* In a child that does its parent's work and does not outlive it: what it takes is the parent's, whose own is its own. */
void host_holder_act_for(pid_t parent);
bool host_holder_is_self(const struct host_holder *holder);
bool host_holder_is_alive(const struct host_holder *holder);

/* "penstock 'demo' (pid 712)" into a buffer; returns it. */
#define HOST_HOLDER_TEXT (HOST_NAME + 32)
char *host_holder_describe(const struct host_holder *holder, char text[static HOST_HOLDER_TEXT]);

/* -EBUSY, and says that this device is held. */
int host_holder_refuse(const struct host_holder *holder, const struct bdf *bdf, struct error *err);
