/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake_program.h"

#include "test.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void fake_program_make(char *directory, const char *name)
{
	char self[PATH_MAX] = "", program[PATH_MAX];

	strcpy(directory + strlen(directory) - 6, "XXXXXX"); /* of the test before */
	assert_non_null(mkdtemp(directory));
	/* Whoever it runs as may come to it. */
	assert_int_equal(chmod(directory, 0755), 0);
	snprintf(program, sizeof(program), "%s/%s", directory, name);
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	assert_int_equal(symlink(self, program), 0);
	setenv("PATH", directory, 1);
}

static int remove_fake(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	(void)stat, (void)type, (void)walk;
	return remove(path);
}

void fake_program_remove(const char *directory)
{
	nftw(directory, remove_fake, 8, FTW_DEPTH | FTW_PHYS);
}
