/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/journal/journal.h"

/* A made-up host in a temporary directory: TREE/sys, TREE/proc, and TREE/run for the journal. */
struct fixture {
	char tree[64];
	struct host host;
};

/* For cmocka: state becomes a struct fixture. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* A file with its directories; or with NULL these alone, up to the last slash. */
void fixture_file(struct fixture *fixture, const char *path, const char *text);

/* A named pipe: who writes it hangs as one does whom the kernel keeps waiting, until it is unblocked. */
void fixture_pipe(struct fixture *fixture, const char *path);
void fixture_unblock(struct fixture *fixture, const char *path);

/* Another process, "other", as a holder of devices: it lives until it is ended. */
pid_t fixture_start_other(struct host_holder *holder);
void fixture_end_other(pid_t child);

/* Is a change of the device under way, so that its lock cannot be had? */
void fixture_assert_changing(struct fixture *fixture, const struct bdf *bdf, bool changing);

/* A symbolic link to another path of the tree, relative as in sysfs. */
void fixture_link(struct fixture *fixture, const char *path, const char *target);

/*
 * A PCI device at the end of path, as "/sys/devices/pci0000:00/0000:01:00.0", with its class, and
 * with a driver and a group unless these are NULL and -1.
 */
void fixture_device(struct fixture *fixture, const char *path, const char *class_code,
	const char *driver, int group);

/* A disk or partition at path, with its device number; a disk gets its link in /sys/block. */
void fixture_disk(struct fixture *fixture, const char *path, const char *number);
void fixture_partition(struct fixture *fixture, const char *path, const char *number);

/* A link in the holders directory of the block device at path to the one at holder. */
void fixture_holder(struct fixture *fixture, const char *path, const char *holder);

/* A network interface at path, with its link in /sys/class/net. */
void fixture_interface(struct fixture *fixture, const char *path);

/*
 * The recorded host tests/hosts/NAME.host (in $PENSTOCK_HOSTS), as scripts/record-host writes it: an
 * entry a line, each with its path,
 *
 *   /sys/path = text       a file; \\ and \n stand for a backslash and a new line, one more ends it
 *   /sys/path : 8680d310   a file of these bytes
 *   /sys/path -> ../path   a symbolic link
 *   /sys/path/             a directory
 *   # remark
 */
void fixture_load(struct fixture *fixture, const char *name);
