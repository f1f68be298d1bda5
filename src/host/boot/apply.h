/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/boot/files.h"
#include "host/boot/plan.h"

/* One file, as it was found and as it should be. */
struct boot_change {
	char *path;
	const char *why; /* NULL: it is no longer needed */
	enum boot_edit edit;
	unsigned mode; /* permissions, those of the file that was found before those of the plan */
	char *words;   /* that are added to a file of others */
	struct boot_bytes now, wanted;
	struct boot_bytes original; /* as it is without penstock */
	bool edited;                /* somebody has changed it since penstock wrote it */
	bool left;                  /* and that is why it is left as it is */
};

struct boot_result {
	struct boot_change *changes;
	size_t count;
	struct boot_list next;
};

/*
 * Make the host's files as the plan wants them, whatever plan was there before, or with NULL as
 * they were before the first. Either all files are changed or none.
 *
 * A file that somebody has changed in between keeps these changes: from a file of others, only
 * penstock's words are taken out; one of penstock's own is left, or with a plan -EEXIST is
 * returned.
 *
 * The result is freed by boot_result_free(), also after a failure.
 */
int boot_apply(const struct host *host, const struct boot_plan *plan, bool dry_run,
	struct boot_result *result, struct error *err);
void boot_result_free(struct boot_result *result);
