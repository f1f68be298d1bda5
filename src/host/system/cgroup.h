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

#define HOST_CGROUP_LEVELS 32

/*
 * What the kernel has counted so far of memory that ran out. A group counts for as long as it is there, so two of
 * these tell what has happened in between. -1: it does not count.
 */
struct host_cgroup_counts {
	char name[256]; /* of this process's group; "": it cannot be told */
	long kills;     /* processes of it that were killed */
	long ooms
		[HOST_CGROUP_LEVELS]; /* how often a group's own ran out: its, then those above it */
};

void host_cgroup_count(const struct host *host, struct host_cgroup_counts *counts);

/* Since then, has the kernel killed a process of the group because memory ran out? */
bool host_cgroup_has_killed(const struct host *host, const struct host_cgroup_counts *before);

/* The innermost whose own memory has run out since. False: none of them, so it was the host's. */
bool host_cgroup_exhausted(const struct host *host, const struct host_cgroup_counts *before,
	struct host_cgroup *group);

/*
 * The one with memory.oom.group: where memory runs out, the kernel kills all that is in it, not one process. False:
 * there is none.
 */
bool host_cgroup_dies_as_one(const struct host *host, struct host_cgroup *group);
