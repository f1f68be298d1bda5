/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

/* What the kernel has said since it started, as far as it remembers, as text of many lines. */
struct kernel_log {
	char *text; /* NULL: it may not be read (kernel.dmesg_restrict), or was not recorded */
};

/* Of a recorded host it is the file "dmesg" at its root. */
void kernel_log_open(struct kernel_log *log, const struct host *host);
void kernel_log_close(struct kernel_log *log);

/*
 * The last line that has all of these words (NULL: any), cut to size and without its time. True where
 * there is one.
 */
bool kernel_log_find(
	const struct kernel_log *log, const char *word, const char *other, char *line, size_t size);
