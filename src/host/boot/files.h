/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

/* What a file holds. */
struct boot_bytes {
	char *data; /* NULL: there is no such file */
	size_t size;
};

/* Do they hold the same, or are both no file? */
bool boot_bytes_equal(const struct boot_bytes *a, const struct boot_bytes *b);

/* No file that is read or written is larger; those of configuration do not come near it. */
#define BOOT_SIZE_MAX (4u << 20)

/* A copy; without memory false. */
bool boot_bytes_copy(struct boot_bytes *to, const struct boot_bytes *from);

/*
 * The real path of a file or directory of the host, that need not be there: what a symbolic link
 * points to is changed, not the link. -EXDEV: it leads out of the host's root.
 */
int boot_files_resolve(const struct host *host, const char *path, char full[static PATH_MAX]);

/* No file is no error. */
int boot_files_read(
	const struct host *host, const char *path, struct boot_bytes *bytes, struct error *err);

/*
 * Replacing a file in two steps, so that a full disk is found out before anything has changed.
 * Owner and permissions of a file that is there are kept.
 */
int boot_files_prepare(const char *full, const struct boot_bytes *bytes, unsigned mode);
int boot_files_replace(const char *full);
void boot_files_discard(const char *full);

/* error_sys() with what to do next. */
int boot_files_tell(struct error *err, int code, const char *path, const char *what);
