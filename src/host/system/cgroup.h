/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <stdint.h>

/*
 * The control groups (version 2) that this process is in, its own and those above it, as they limit its
 * memory: RAM of a guest counts there, too.
 */

struct host_cgroup {
	char name[256];    /* as the process sees it: "/system.slice/backup.service", or "/" */
	const char *limit; /* the file of the limit, "memory.max" or "memory.high"; NULL: none */
	uint64_t bytes;
};

/* The one that gives the least. False: none of them has a limit. */
bool host_cgroup_least(const struct host *host, struct host_cgroup *group);

/* How many processes of its group the kernel has killed so far because memory ran out. */
long host_cgroup_kills(const struct host *host);

/* The innermost whose own memory has run out before. False: none of them, so it was the host's. */
bool host_cgroup_exhausted(const struct host *host, struct host_cgroup *group);
