/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

/*
 * Lock one device against changes by other processes, waiting for a change under way. A descriptor
 * to close, or a negative errno: -EBUSY where a living process that is not this one holds it.
 */
int host_journal_lock(const struct host *host, const struct bdf *bdf, struct error *err);

/*
 * The same for several devices that one change hits. They are locked in the order of their addresses, and
 * who holds the lock of a device takes none of one before it: so no two processes wait for each other.
 */
struct host_locks {
	int *fds;
	size_t count;
};
int host_journal_lock_all(const struct host *host, const struct bdf *devices, size_t count,
	struct host_locks *locks, struct error *err);
void host_journal_unlock(struct host_locks *locks);

/* Remove what processes left that were killed while they wrote a record. */
void host_journal_forget_halves(const struct host *host);

/* For the journal's own files: a descriptor of a lock file to flock(2), or a negative errno. */
int journal_open_lock(const struct host *host, const char *name);
