/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <stdint.h>

/*
 * The journal: what has been changed on the host, so that it can be put back.
 *
 *   RUN/devices/ADDRESS   one record a device that is, or is about to be, taken from its driver
 *   RUN/names/NAME        one record a running machine
 *   RUN/binds/HOLDER      empty; while this process is in the midst of a "penstock bind"
 *   RUN/locks/ADDRESS     empty; flock(2)ed while the device is being changed
 *
 * A record is written, and is on disk, before the change that it is about. It names the process
 * that holds the device, so that two penstocks do not take one device, and so that a device whose
 * holder was killed can be told from one that is in use.
 */

/* A process, told apart from later ones with the same id by its start time. */
struct host_holder {
	pid_t pid;            /* 0: held by no process */
	uint64_t start;       /* clock ticks since boot, from /proc/PID/stat */
	char name[HOST_NAME]; /* the machine's name, or the command's */
};

struct host_record {
	struct bdf bdf;
	char driver[HOST_NAME];   /* the driver to give it back to, "": none */
	char override[HOST_NAME]; /* the driver_override to leave it with, "": not set */
	struct host_holder holder;
	bool persist; /* bound by "penstock bind": it stays so when its holder ends, if that was done */
	bool companion; /* bound only because another device of its group was */
	bool makes_vfs; /* a PF: unless the bind comes to its end, its VFs are to go */
	uid_t user;     /* "bind --user": has the node of its group; 0: nobody but root */
};

/* 0 or -EINVAL with the reason. A name is 1 to 63 letters, digits, '.', '_' and '-'. */
int host_check_name(const char *name, struct error *err);

int host_holder_self(const char *name, struct host_holder *holder, struct error *err);
bool host_holder_is_self(const struct host_holder *holder);
bool host_holder_is_alive(const struct host_holder *holder);

/* "penstock 'demo' (pid 712)" into a buffer; returns it. */
#define HOST_HOLDER_TEXT (HOST_NAME + 32)
char *host_holder_describe(const struct host_holder *holder, char text[static HOST_HOLDER_TEXT]);

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

/*
 * 0; -ENOENT, without an error, where there is no record; -EBADMSG where there is one that cannot
 * be understood.
 */
int host_journal_read(const struct host *host, const struct bdf *bdf, struct host_record *record,
	struct error *err);

/* Both need the device's lock. Removing a record that is not there succeeds. */
int host_journal_write(
	const struct host *host, const struct host_record *record, struct error *err);
int host_journal_remove(const struct host *host, const struct bdf *bdf, struct error *err);

/* The addresses of all records, sound or not, to be freed. Their number or a negative errno. */
ssize_t host_journal_list(const struct host *host, struct bdf **devices, struct error *err);

/*
 * "penstock bind" binds all of its devices or none. Between these two calls none is bound for good: if
 * the process dies, its devices are stale, and the second call is what makes them stay.
 */
int host_journal_begin_bind(const struct host *host, struct error *err);
int host_journal_end_bind(const struct host *host, struct error *err);

/* Bound for good, by a "penstock bind" that has come to its end. */
bool host_journal_is_kept(const struct host *host, const struct host_record *record);

/* End those of this process and of dead ones that have no record any more: their devices are back. */
void host_journal_forget_binds(const struct host *host);

/* Remove what processes left that were killed while they wrote a record. */
void host_journal_forget_halves(const struct host *host);

/* Take a name for a machine of this process; -EEXIST where a living one has it. */
int host_claim_name(const struct host *host, const char *name, struct error *err);

/* Give it up. A name that this process does not have is left alone. */
void host_release_name(const struct host *host, const char *name);

/* Give up the names that dead processes had. */
void host_forget_names(const struct host *host);
