/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/oom.h"

#include "base/fd.h"

#define FILE_NAME "/proc/self/oom_score_adj"
#define NEVER     "-1000" /* OOM_SCORE_ADJ_MIN */

static char before[16]; /* "": not protected */

void broker_oom_protect(void)
{
	if (fd_read_file(FILE_NAME, before, sizeof(before)) < 0 || fd_write_file(FILE_NAME, NEVER))
		before[0] = '\0';
}

bool broker_oom_is_protected(void)
{
	return before[0];
}

void broker_oom_unprotect(void)
{
	if (before[0])
		fd_write_file(FILE_NAME, before);
}
