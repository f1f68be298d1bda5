/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/journal/record.h"

/*
 * The journal: what has been changed on the host, so that it can be put back.
 *
 *   RUN/devices/ADDRESS   one record a device that is, or is about to be, taken from its driver
 *   RUN/names/NAME        one record a running machine
 *   RUN/binds/HOLDER      empty; while this process is in the midst of a "penstock bind"
 *   RUN/used/ADDRESS      the last machine that had a device which cannot be reset
 *   RUN/locks/ADDRESS     empty; flock(2)ed while the device is being changed
 *
 * A record is written, and is on disk, before the change that it is about. It names the process
 * that holds the device, so that two penstocks do not take one device, and so that a device whose
 * holder was killed can be told from one that is in use.
 */

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
