/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * boot-config --write and --undo on a hostile host, and with a system call that fails meanwhile. When
 * all is undone, or could not be done, every file is as it was: content, permissions, owner.
 */
#include "tree.h"

#include "base/fd.h"
#include "base/size.h"
#include "host/boot/apply.h"
#include "host/boot/boot.h"
#include "host/boot/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CHANGES_MAX 10

enum { WRITTEN, EDITED, AGAIN, UNDONE, REFUSED, FAILED };

struct fuzz_goal fuzz_goals[] = {
	[WRITTEN] = { "configurations written", 10, 0 },
	[EDITED] = { "files of others edited", 50, 0 },
	[AGAIN] = { "written over another", 50, 0 },
	[UNDONE] = { "undone", 10, 0 },
	[REFUSED] = { "refused", 50, 0 },
	[FAILED] = { "calls that failed", 20, 0 },
	{ 0 },
};

/* Counts down to the call that fails; 0: none does. */
static unsigned fail_in;
static int fail_code;

static bool foreign_record; /* this input's has not been written by Penstock */

static bool fails(void)
{
	if (!fail_in || --fail_in)
		return false;
	fuzz_goals[FAILED].count++;
	errno = fail_code;
	return true;
}

int __wrap_rename(const char *from, const char *to);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_fsync(int fd);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchown(int fd, uid_t owner, gid_t group);
int __wrap_unlink(const char *path);
int __real_rename(const char *from, const char *to);
int __real_mkdir(const char *path, mode_t mode);
int __real_fsync(int fd);
int __real_fchmod(int fd, mode_t mode);
int __real_fchown(int fd, uid_t owner, gid_t group);
int __real_unlink(const char *path);

int __wrap_rename(const char *from, const char *to)
{
	return fails() ? -1 : __real_rename(from, to);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
	return fails() ? -1 : __real_mkdir(path, mode);
}

int __wrap_fsync(int fd)
{
	return fails() ? -1 : __real_fsync(fd);
}

int __wrap_fchmod(int fd, mode_t mode)
{
	return fails() ? -1 : __real_fchmod(fd, mode);
}

int __wrap_fchown(int fd, uid_t owner, gid_t group)
{
	return fails() ? -1 : __real_fchown(fd, owner, group);
}

int __wrap_unlink(const char *path)
{
	return fails() ? -1 : __real_unlink(path);
}

static int apply(const struct host *host, const struct boot_plan *plan, unsigned failing)
{
	struct boot_result result = { 0 };
	struct error err = { 0 };
	int code;

	fail_in = failing;
	code = boot_apply(host, plan, false, &result, &err);
	fail_in = 0;
	tree_check_outside();
	fuzz_check(code == 0 || (code == err.code && err.what[0]));
	/* Nobody else has changed a file, so far as the record is ours. */
	for (size_t i = 0; i < result.count; i++)
		fuzz_check(!result.changes[i].left || foreign_record);
	for (size_t i = 0; i < result.count && !code && plan; i++)
		fuzz_goals[EDITED].count += result.changes[i].edit != BOOT_WHOLE;
	boot_result_free(&result);
	return code;
}

/* True where it was written. */
static bool write_for(const struct host *host, const struct bdf *device, unsigned failing)
{
	struct boot_plan plan;
	struct error err = { 0 };
	int code = boot_make_plan(&plan, host, device, 1, true, &err);

	if (code == 0)
		code = apply(host, &plan, failing);
	boot_plan_free(&plan);
	fuzz_goals[REFUSED].count += code != 0;
	return code == 0;
}

static void check_same(const char *before)
{
	cleanup_free char *now = tree_snapshot();

	fuzz_check(strcmp(before, now) == 0);
}

static void write_and_undo(const struct host *host, struct fuzz_input *input, uint8_t how)
{
	static const struct bdf card = { .bus = 1 }, disk = { .bus = 2 };
	cleanup_free char *before = tree_snapshot();
	unsigned failing = how & 1 ? fuzz_byte(input) % 64 : 0;
	bool written = write_for(host, &card, how & 2 ? 0 : failing);

	fuzz_goals[WRITTEN].count += written;
	if (!written)
		check_same(before);
	if (written && how & 4)
		fuzz_goals[AGAIN].count += write_for(host, &disk, how & 8 ? 0 : failing);
	if (how & 16)
		apply(host, NULL, failing);
	fuzz_check(apply(host, NULL, 0) == 0);
	fuzz_goals[UNDONE].count += written;
	check_same(before);
}

void fuzz_one(struct fuzz_input *input)
{
	static const int codes[] = { ENOSPC, EROFS, EACCES, EIO, EDQUOT, EPERM };
	uint8_t how = fuzz_byte(input);
	struct error err = { 0 };
	struct host host;

	tree_make();
	fail_code = codes[fuzz_byte(input) % ARRAY_SIZE(codes)];
	for (unsigned i = 0; i < CHANGES_MAX && input->size > 2; i++)
		tree_change(input, true);
	fuzz_check(host_init(&host, tree_root, NULL, &err) == 0);
	foreign_record = how & 32;
	if (foreign_record) {
		/* A record that nobody wrote: what it says may be done, but to no file out of the tree. */
		write_for(&host, &(struct bdf){ .bus = 1 }, 0);
		apply(&host, NULL, 0);
		return;
	}
	tree_remove("/var/lib/penstock/boot-config.json");
	write_and_undo(&host, input, how);
}
