/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/bdf.h"
#include "base/error.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/*
 * Where the host is read from, and where its journal is kept.
 *
 * The root is "" on a live host, or the directory of a recorded tree that holds sys/ and proc/.
 * Only the description of the host is read below it: who is alive and which files processes have
 * open is always asked of the real /proc, because the journal is about processes that run now.
 *
 * Nothing that is read here is trusted in size or content.
 */

/* Root's journal, below the root. */
#define HOST_RUN "/run/penstock"

/* Bytes that hold the name of a driver, a disk, an interface or a machine. */
#define HOST_NAME 64

struct host {
	char root[PATH_MAX];  /* a real path, without a slash at its end */
	char run[256];        /* the directory of the journal */
	unsigned progress_ms; /* how often a wait for the kernel is told to the user */
	unsigned limit_ms;    /* when such a wait is given up */
};

/*
 * root and run may be NULL. The root then is $PENSTOCK_ROOT, for commands that are to look at a
 * recorded host, or the live one, as with "/"; run is /run/penstock below the root or, on a live host
 * for a user other than root, $XDG_RUNTIME_DIR/penstock, /run/user/UID/penstock, or /tmp/penstock-UID,
 * whichever is the first in a directory that is the user's or, as /tmp, everybody's. -ENOENT: there is no such root.
 */
int host_init(struct host *host, const char *root, const char *run, struct error *err);

bool host_is_live(const struct host *host);

/* The path of a file of the host: format continues the root, as in "/sys/bus/pci". */
int host_path(const struct host *host, char path[static PATH_MAX], const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * A regular file of the host, to be read line by line and no more than 16 MiB of it; NULL where there
 * is none.
 */
FILE *host_open(const struct host *host, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * What real, a path that realpath() has made, is in the host, as "/sys/bus/pci"; "" for the root
 * itself. NULL: it is outside, as where an absolute link in a tree leads.
 */
const char *host_inside(const struct host *host, const char *real);

/*
 * Read a small attribute as one line of printable text without its newline; what does not fit or
 * follows the first line is cut. Length, or a negative errno.
 */
ssize_t host_read(const struct host *host, char *text, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Read a number, decimal or with 0x. The fallback where there is none. */
long host_read_number(const struct host *host, long fallback, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Is there such a file of the host? */
bool host_exists(const struct host *host, const char *path);

/* Does the running kernel's command line have the word, or with "word=" one that begins so? */
bool host_cmdline_has(const struct host *host, const char *word);

/* What on its command line keeps the IOMMU off; NULL: nothing. */
const char *host_iommu_off(const struct host *host);

/* The last component of what a symbolic link points to. 0 or a negative errno. */
int host_read_link(const struct host *host, char *name, size_t size, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* The release of the kernel, "6.12.0-amd64", fit for paths and commands; "" where it is unknown. */
void host_read_kernel(const struct host *host, char release[static HOST_NAME]);

/*
 * Is the file that format names (below the root, symbolic links of sysfs followed) inside directory? By its own name it
 * is not.
 */
bool host_is_below(const struct host *host, const char *directory, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
