/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <dirent.h>

/* For the journal's own files: the small files, entries, that it is made of, below RUN. */

#define JOURNAL_ENTRY_SIZE 1024 /* no sound entry comes near it */

/* error_sys() for a failure at the journal, with what to do next. Returns code. */
int journal_tell(const struct host *host, int code, const char *what, struct error *err);

/*
 * A directory below RUN, made, with make, where it is missing. A symbolic link anywhere, or a RUN that
 * others may write to, is refused. A descriptor or a negative errno.
 */
int journal_open_directory(const struct host *host, const char *name, bool make);

/* The same to be read; NULL with errno set. */
DIR *journal_read_directory(const struct host *host, const char *name);

/* Length, or a negative errno. */
ssize_t journal_read_entry(const struct host *host, const char *directory, const char *name,
	char text[static JOURNAL_ENTRY_SIZE]);

/* The old entry or the new one is there at every moment, also after a loss of power. 0 or a negative errno. */
int journal_replace_entry(
	const struct host *host, const char *directory, const char *name, const char *text);

/* 0, also where there is none, or a negative errno. */
int journal_remove_entry(const struct host *host, const char *directory, const char *name);
