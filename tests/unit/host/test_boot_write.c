/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "boot_host.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MODPROBE "/etc/modprobe.d/penstock.conf"
#define LOAD     "/etc/modules-load.d/penstock.conf"

/*
 * A disk that is full, and a file system that is read-only, from the n-th call on; and files that
 * cannot be replaced, each at the n-th call only. 0: never.
 */
static int disk_fails_from, rename_fails_at, disk_calls, renames;

static void set_failures(int disk, int rename)
{
	disk_fails_from = disk;
	rename_fails_at = rename;
	disk_calls = renames = 0;
}

static bool disk_fails(void)
{
	return ++disk_calls >= disk_fails_from && disk_fails_from;
}

/* The process kills itself before this call of those that change anything. 0: it does not. */
static int stop_at;

static void step(void)
{
	if (stop_at && --stop_at == 0)
		raise(SIGKILL);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	step();
	if (!disk_fails())
		return __real_fsync(fd);
	errno = ENOSPC;
	return -1;
}

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode)
{
	struct stat stat;

	step();
	/* What is there already is said to be there also on a read-only file system. */
	if (lstat(path, &stat) == 0 || !disk_fails())
		return __real_mkdir(path, mode);
	errno = EROFS;
	return -1;
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
	step();
	if (++renames != rename_fails_at)
		return __real_rename(from, to);
	errno = EPERM;
	return -1;
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path)
{
	step();
	return __real_unlink(path);
}

int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);
int __wrap_rmdir(const char *path)
{
	step();
	return __real_rmdir(path);
}

/* Writing and putting back. */

static void write_and_undo(struct fixture *fixture, const char *program)
{
	struct snapshot before;
	struct error err = { 0 };

	boot_host_make(fixture, program);
	before = boot_host_take(fixture);
	assert_int_equal(boot_host_write(fixture, &boot_card, true, &err), 0);
	assert_true(boot_host_is_unchanged(fixture, &before));
	assert_false(boot_host_has(fixture, "/var"));
	boot_host_write_card(fixture);
	boot_host_assert_contains(fixture, GRUB, "=\"quiet splash intel_iommu=on\"\n");
	boot_host_assert_contains(fixture, MODPROBE, "\nsoftdep amdgpu pre: vfio-pci\n");
	assert_null(strstr(boot_host_content(fixture, MODPROBE), "snd_hda_intel"));
	boot_host_assert_contains(fixture, LOAD, "\nvfio-pci\n");
	assert_true(boot_host_has(fixture, BOOT_STATE));
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_true(boot_host_is_unchanged(fixture, &before));
	assert_false(boot_host_has(fixture, BOOT_STATE));
	assert_int_equal(boot_host_undo(fixture), 0);
	free(before.data);
}

static unsigned mode_of(const struct fixture *fixture, const char *path)
{
	char full[PATH_MAX];
	struct stat stat;

	assert_int_equal(host_path(&fixture->host, full, "%s", path), 0);
	assert_int_equal(lstat(full, &stat), 0);
	return stat.st_mode & 07777;
}

static void initramfs_tools(void **state)
{
	struct fixture *fixture = *state;

	write_and_undo(fixture, boot_programs[0]);
	boot_host_write_card(fixture);
	boot_host_assert_contains(
		fixture, "/etc/initramfs-tools/hooks/penstock", "\nmanual_add_modules vfio-pci\n");
	boot_host_assert_contains(fixture, "/etc/initramfs-tools/scripts/init-top/penstock",
		"\treserve 0000:2f:00.0 0x1002 0x73df\n");
	/* mkinitramfs runs only what is executable. */
	assert_int_equal(mode_of(fixture, "/etc/initramfs-tools/scripts/init-top/penstock"), 0755);
	assert_int_equal(mode_of(fixture, "/etc/initramfs-tools/hooks/penstock"), 0755);
	assert_int_equal(mode_of(fixture, MODPROBE), 0644);
}

static void dracut(void **state)
{
	struct fixture *fixture = *state;

	write_and_undo(fixture, boot_programs[1]);
	boot_host_write_card(fixture);
	boot_host_assert_contains(fixture, "/usr/lib/dracut/modules.d/90penstock/module-setup.sh",
		"inst_hook pre-udev 00 \"$moddir/penstock.sh\"\n");
	boot_host_assert_contains(fixture, "/usr/lib/dracut/modules.d/90penstock/penstock.sh",
		"\treserve 0000:2f:00.0 0x1002 0x73df\n");
}

static void mkinitcpio(void **state)
{
	struct fixture *fixture = *state;

	write_and_undo(fixture, boot_programs[2]);
	boot_host_write_card(fixture);
	boot_host_assert_contains(
		fixture, "/etc/mkinitcpio.conf.d/penstock.conf", "\nHOOKS+=(penstock)\n");
	boot_host_assert_contains(fixture, "/etc/initcpio/install/penstock", "\tadd_runscript\n");
	boot_host_assert_contains(
		fixture, "/etc/initcpio/hooks/penstock", "\treserve 0000:2f:00.0 0x1002 0x73df\n");
}

static void a_second_write_changes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct snapshot before, written;

	boot_host_make(fixture, boot_programs[0]);
	before = boot_host_take(fixture);
	boot_host_write_card(fixture);
	written = boot_host_take(fixture);
	boot_host_write_card(fixture);
	assert_true(boot_host_is_unchanged(fixture, &written));
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_true(boot_host_is_unchanged(fixture, &before));
	free(before.data);
	free(written.data);
}

static void a_write_replaces_another(void **state)
{
	const char *script = "/etc/initramfs-tools/scripts/init-top/penstock";
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct snapshot before;

	boot_host_make(fixture, boot_programs[0]);
	before = boot_host_take(fixture);
	boot_host_write_card(fixture);
	/* The next boot has the IOMMU, thanks to a word that must stay. */
	fixture_file(fixture, "/sys/kernel/iommu_groups/1/type", "DMA\n");
	assert_int_equal(boot_host_write(fixture, &boot_sound, false, &err), 0);
	boot_host_assert_contains(fixture, GRUB, "intel_iommu=on");
	boot_host_assert_contains(fixture, script, "\treserve 0000:2f:00.1 0x1002 0xab28\n");
	assert_null(strstr(boot_host_content(fixture, script), "0000:2f:00.0"));
	boot_host_assert_contains(fixture, MODPROBE, "\nsoftdep snd_hda_intel pre: vfio-pci\n");
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_true(boot_host_is_unchanged(fixture, &before));
	free(before.data);
}

/* From dracut to mkinitcpio: the first one's files go, and its command is among the next ones. */
static void a_write_for_another_program(void **state)
{
	struct fixture *fixture = *state;
	struct boot_result result;
	struct error err = { 0 };
	struct snapshot before;
	struct boot_plan plan;
	char path[PATH_MAX];

	boot_host_make(fixture, boot_programs[1]);
	boot_host_write_card(fixture);
	snprintf(path, sizeof(path), "%s%s", fixture->tree, boot_programs[1]);
	assert_int_equal(unlink(path), 0);
	fixture_file(fixture, boot_programs[2], "");
	assert_int_equal(boot_host_plan(fixture, &boot_card, 1, &plan, &err), 0);
	assert_int_equal(boot_apply(&fixture->host, &plan, false, &result, &err), 0);
	assert_true(boot_list_has(&result.next, "dracut --force --regenerate-all"));
	assert_true(boot_list_has(&result.next, "mkinitcpio -P"));
	boot_result_free(&result);
	boot_plan_free(&plan);
	assert_false(boot_host_has(fixture, "/usr/lib/dracut/modules.d/90penstock/penstock.sh"));
	assert_int_equal(boot_host_undo(fixture), 0);
	before = boot_host_take(fixture);
	assert_null(memmem(before.data, before.size, "90penstock", 10));
	free(before.data);
}

/* Files that somebody has changed in between. */

static void an_edited_file_keeps_its_edits(void **state)
{
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[0]);
	boot_host_write_card(fixture);
	fixture_file(fixture, GRUB,
		"GRUB_DEFAULT=1\n"
		"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet intel_iommu=on nomodeset\"\n");
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_string_equal(boot_host_content(fixture, GRUB),
		"GRUB_DEFAULT=1\n"
		"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet nomodeset\"\n");
	assert_false(boot_host_has(fixture, BOOT_STATE));
}

static void a_word_at_the_start_goes_with_its_blank(void **state)
{
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[0]);
	boot_host_write_card(fixture);
	fixture_file(fixture, GRUB, "GRUB_CMDLINE_LINUX_DEFAULT='intel_iommu=on  a b'\n");
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_string_equal(boot_host_content(fixture, GRUB), "GRUB_CMDLINE_LINUX_DEFAULT='a b'\n");
}

static void a_write_after_edits_keeps_them_too(void **state)
{
	static const char edited[] = "GRUB_CMDLINE_LINUX_DEFAULT='nomodeset'\n# mine\n";
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[0]);
	boot_host_write_card(fixture);
	fixture_file(fixture, GRUB, edited);
	boot_host_write_card(fixture);
	assert_string_equal(boot_host_content(fixture, GRUB),
		"GRUB_CMDLINE_LINUX_DEFAULT='nomodeset intel_iommu=on'\n# mine\n");
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_string_equal(boot_host_content(fixture, GRUB), edited);
}

static void an_edited_file_of_ours_is_left(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct snapshot before;
	char path[PATH_MAX];

	boot_host_make(fixture, boot_programs[0]);
	before = boot_host_take(fixture);
	boot_host_write_card(fixture);
	fixture_file(fixture, MODPROBE, "options vfio-pci disable_vga=1\n");
	assert_int_equal(boot_host_write(fixture, &boot_card, false, &err), -EEXIST);
	assert_non_null(strstr(err.what, "has been changed since"));
	assert_int_equal(boot_host_undo(fixture), 1);
	assert_string_equal(
		boot_host_content(fixture, MODPROBE), "options vfio-pci disable_vga=1\n");
	assert_string_equal(boot_host_content(fixture, GRUB), boot_grub);
	assert_false(boot_host_has(fixture, LOAD));
	/* It is told again until it is gone, and then all is as before. */
	assert_int_equal(boot_host_undo(fixture), 1);
	snprintf(path, sizeof(path), "%s" MODPROBE, fixture->tree);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_true(boot_host_is_unchanged(fixture, &before));
	assert_false(boot_host_has(fixture, BOOT_STATE));
	free(before.data);
}

static void files_removed_in_between(void **state)
{
	static const char *const paths[] = { GRUB, MODPROBE };
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[0]);
	boot_host_write_card(fixture);
	for (int i = 0; i < 2; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s%s", fixture->tree, paths[i]);
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_false(boot_host_has(fixture, GRUB));
	assert_false(boot_host_has(fixture, LOAD));
	assert_false(boot_host_has(fixture, BOOT_STATE));
}

static void a_file_of_others_is_not_overwritten(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct snapshot before;

	boot_host_make(fixture, boot_programs[0]);
	fixture_file(fixture, LOAD, "kvm\n");
	before = boot_host_take(fixture);
	assert_int_equal(boot_host_write(fixture, &boot_card, false, &err), -EEXIST);
	assert_string_equal(err.object, LOAD);
	assert_non_null(strstr(err.what, "not penstock's"));
	assert_true(boot_host_is_unchanged(fixture, &before));
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_true(boot_host_is_unchanged(fixture, &before));
	free(before.data);
}

static void permissions_and_links_are_kept(void **state)
{
	struct fixture *fixture = *state;
	struct snapshot before;
	char path[PATH_MAX];

	boot_host_make(fixture, boot_programs[0]);
	fixture_file(fixture, "/etc/local/grub", boot_grub);
	snprintf(path, sizeof(path), "%s/etc/local/grub", fixture->tree);
	assert_int_equal(chmod(path, 0640), 0);
	snprintf(path, sizeof(path), "%s" GRUB, fixture->tree);
	assert_int_equal(unlink(path), 0);
	fixture_link(fixture, GRUB, "/etc/local/grub");
	before = boot_host_take(fixture);
	boot_host_write_card(fixture);
	boot_host_assert_contains(fixture, "/etc/local/grub", "splash intel_iommu=on\"");
	assert_int_equal(mode_of(fixture, "/etc/local/grub"), 0640);
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_true(boot_host_is_unchanged(fixture, &before));
	free(before.data);
}

static void a_link_out_of_the_tree_is_not_followed(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct boot_bytes bytes;
	char path[PATH_MAX];

	fixture_file(fixture, "/etc/placeholder", "");
	snprintf(path, sizeof(path), "%s/etc/passwd", fixture->tree);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(boot_files_read(&fixture->host, "/etc/passwd", &bytes, &err), -EXDEV);
}

/* Neither a file nor a directory is made outside. */
static void a_directory_out_of_the_tree_is_not_followed(void **state)
{
	struct fixture *fixture = *state;
	struct fixture outside = *fixture;
	struct snapshot before;
	struct error err = { 0 };
	char from[PATH_MAX], to[PATH_MAX];

	boot_host_make(fixture, boot_programs[0]);
	strcat(outside.tree, "2");
	assert_int_equal(mkdir(outside.tree, 0755), 0);
	snprintf(from, sizeof(from), "%s/etc", fixture->tree);
	snprintf(to, sizeof(to), "%s/etc", outside.tree);
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(symlink(to, from), 0);
	before = boot_host_take(&outside);
	assert_int_equal(boot_host_write(fixture, &boot_card, false, &err), -EXDEV);
	assert_true(boot_host_is_unchanged(&outside, &before));
	free(before.data);
	assert_int_equal(unlink(from), 0);
	assert_int_equal(rename(to, from), 0);
	assert_int_equal(rmdir(outside.tree), 0);
}

static void a_directory_elsewhere_in_the_tree_is_followed(void **state)
{
	struct fixture *fixture = *state;
	struct snapshot before;

	boot_host_make(fixture, boot_programs[0]);
	fixture_file(fixture, "/usr/local/etc/placeholder", "");
	fixture_link(fixture, "/etc/initramfs-tools", "/usr/local/etc");
	fixture_file(fixture, "/data/placeholder", "");
	fixture_link(fixture, "/var", "/data");
	before = boot_host_take(fixture);
	boot_host_write_card(fixture);
	assert_true(boot_host_has(fixture, "/usr/local/etc/scripts/init-top/penstock"));
	assert_true(boot_host_has(fixture, "/data/lib/penstock/boot-config.json"));
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_true(boot_host_is_unchanged(fixture, &before));
	free(before.data);
}

/* Bytes of all values but NUL survive the state; a file with a NUL is no text, and is not touched. */
static void odd_bytes_are_put_back(void **state)
{
	struct fixture *fixture = *state;
	struct snapshot before;
	char text[512];
	size_t used;

	boot_host_make(fixture, boot_programs[0]);
	used = sprintf(text, "GRUB_CMDLINE_LINUX_DEFAULT=\"\"\n#");
	for (int c = 1; c < 256; c++)
		text[used++] = (char)c;
	text[used] = '\0';
	fixture_file(fixture, GRUB, text);
	before = boot_host_take(fixture);
	boot_host_write_card(fixture);
	assert_false(boot_host_is_unchanged(fixture, &before));
	boot_host_assert_contains(fixture, GRUB, "=\"intel_iommu=on\"\n#\1\2\3");
	assert_int_equal(boot_host_undo(fixture), 0);
	assert_true(boot_host_is_unchanged(fixture, &before));
	free(before.data);
}

/* Failures. */

/* Whichever call fails, the write does nothing, or all of it. The number of those that failed. */
static int write_with_failures(
	struct fixture *fixture, const struct bdf *first, const struct bdf *second, bool disk)
{
	struct snapshot before = boot_host_take(fixture), written;
	int failures = 0;

	for (int n = 1; n < 40; n++) {
		struct error err = { 0 };
		bool had_state;
		int code;

		if (first)
			assert_int_equal(boot_host_write(fixture, first, false, &err), 0);
		written = boot_host_take(fixture);
		had_state = boot_host_has(fixture, BOOT_STATE);
		set_failures(disk ? n : 0, disk ? 0 : n);
		code = boot_host_write(fixture, second, false, &err);
		set_failures(0, 0);
		failures += code != 0;
		if (code && !boot_host_is_unchanged(fixture, &written))
			fail_msg("changed although call %d failed", n);
		if (code && boot_host_has(fixture, BOOT_STATE) != had_state)
			fail_msg("the state is another after call %d failed", n);
		assert_int_equal(boot_host_undo(fixture), 0);
		assert_true(boot_host_is_unchanged(fixture, &before));
		assert_false(boot_host_has(fixture, BOOT_STATE));
		free(written.data);
	}
	free(before.data);
	return failures;
}

static void a_failed_first_write_changes_nothing(void **state)
{
	for (int i = 0; i < 3; i++) {
		boot_host_make(*state, boot_programs[i]);
		assert_in_range(write_with_failures(*state, NULL, &boot_card, true), 8, 30);
		assert_in_range(write_with_failures(*state, NULL, &boot_card, false), 6, 30);
		fixture_teardown(state);
		fixture_setup(state);
	}
}

static void a_failed_second_write_changes_nothing(void **state)
{
	boot_host_make(*state, boot_programs[0]);
	assert_in_range(write_with_failures(*state, &boot_card, &boot_sound, true), 3, 30);
	assert_in_range(write_with_failures(*state, &boot_card, &boot_sound, false), 3, 30);
}

/* Permissions included: a hook that cannot be executed is none. */
static void a_failed_undo_changes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct snapshot written;

	boot_host_make(fixture, boot_programs[0]);
	boot_host_write_card(fixture);
	written = boot_host_take(fixture);
	set_failures(0, 1);
	assert_true(boot_host_undo(fixture) < 0);
	set_failures(0, 0);
	assert_true(boot_host_is_unchanged(fixture, &written));
	free(written.data);
}

static void a_failed_undo_can_be_repeated(void **state)
{
	struct fixture *fixture = *state;
	struct snapshot before;
	int failures = 0;

	boot_host_make(fixture, boot_programs[0]);
	before = boot_host_take(fixture);
	for (int n = 1; n < 20; n++) {
		boot_host_write_card(fixture);
		set_failures(n / 2, n % 2);
		failures += boot_host_undo(fixture) != 0;
		set_failures(0, 0);
		assert_int_equal(boot_host_undo(fixture), 0);
		assert_true(boot_host_is_unchanged(fixture, &before));
		assert_false(boot_host_has(fixture, BOOT_STATE));
	}
	assert_true(failures > 1);
	free(before.data);
}

/* In a process that kills itself before step n of what it does. True when it came to its end. */
static bool stopped_at(struct fixture *fixture, const struct bdf *device, int n)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct error err = { 0 };

		stop_at = n;
		_exit(device ? -boot_host_write(fixture, device, false, &err)
			     : -boot_host_undo(fixture));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	else
		assert_int_equal(WTERMSIG(status), SIGKILL);
	return WIFEXITED(status);
}

/* first is done whole, second is killed; both may be NULL: no first, or an undo as the second. */
static void kill_at_each_step(
	struct fixture *fixture, const struct bdf *first, const struct bdf *second)
{
	struct snapshot before;
	bool ended = false;
	int n;

	before = boot_host_take(fixture);
	for (n = 1; !ended && n < 100; n++) {
		struct error err = { 0 };

		if (first)
			assert_int_equal(boot_host_write(fixture, first, false, &err), 0);
		ended = stopped_at(fixture, second, n);
		assert_int_equal(boot_host_undo(fixture), 0);
		if (!boot_host_is_unchanged(fixture, &before))
			fail_msg("not put back after a kill at step %d", n);
		assert_false(boot_host_has(fixture, BOOT_STATE));
	}
	assert_in_range(n, 8, 99);
	free(before.data);
}

static void a_killed_write_is_undone(void **state)
{
	boot_host_make(*state, boot_programs[1]);
	kill_at_each_step(*state, NULL, &boot_card);
}

static void a_killed_second_write_is_undone(void **state)
{
	boot_host_make(*state, boot_programs[0]);
	kill_at_each_step(*state, &boot_sound, &boot_card);
}

static void a_killed_undo_is_undone(void **state)
{
	boot_host_make(*state, boot_programs[2]);
	kill_at_each_step(*state, &boot_card, NULL);
}

/* The initramfs of before may have been rebuilt with the old hook, and after with the new one. */
static void a_killed_write_remembers_all_commands(void **state)
{
	struct fixture *fixture = *state;
	char dracut[PATH_MAX], mkinitcpio[PATH_MAX];
	unsigned half_done = 0;
	bool ended = false;

	boot_host_make(fixture, boot_programs[1]);
	snprintf(dracut, sizeof(dracut), "%s%s", fixture->tree, boot_programs[1]);
	snprintf(mkinitcpio, sizeof(mkinitcpio), "%s%s", fixture->tree, boot_programs[2]);
	for (int n = 1; !ended; n++) {
		struct boot_result result;
		struct error err = { 0 };
		bool mixed;

		boot_host_write_card(fixture);
		assert_int_equal(rename(dracut, mkinitcpio), 0);
		ended = stopped_at(fixture, &boot_card, n);
		mixed = boot_host_has(fixture, "/etc/initcpio/hooks/penstock") &&
			boot_host_has(fixture, "/usr/lib/dracut/modules.d/90penstock/penstock.sh");
		half_done += mixed;
		assert_int_equal(boot_apply(&fixture->host, NULL, false, &result, &err), 0);
		assert_true(
			!mixed || boot_list_has(&result.next, "dracut --force --regenerate-all"));
		assert_true(!mixed || boot_list_has(&result.next, "mkinitcpio -P"));
		boot_result_free(&result);
		assert_int_equal(rename(mkinitcpio, dracut), 0);
	}
	assert_true(half_done > 0);
}

/* A kill must not make the next write fail, or forget the originals. */
static void a_killed_write_is_written_again(void **state)
{
	struct fixture *fixture = *state;
	struct snapshot before;
	bool ended = false;

	boot_host_make(fixture, boot_programs[0]);
	before = boot_host_take(fixture);
	for (int n = 1; !ended; n++) {
		ended = stopped_at(fixture, &boot_card, n);
		boot_host_write_card(fixture);
		boot_host_assert_contains(fixture, GRUB, "splash intel_iommu=on\"");
		assert_int_equal(boot_host_undo(fixture), 0);
		assert_true(boot_host_is_unchanged(fixture, &before));
	}
	free(before.data);
}

static void a_damaged_state_is_told(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"null",
		"{\"version\":2,\"undo\":[],\"directories\":[],\"files\":[]}",
		"{\"version\":1,\"undo\":[],\"directories\":[],\"files\":{}}",
		"{\"version\":1,\"undo\":[1],\"directories\":[],\"files\":[]}",
		"{\"version\":1,\"undo\":[],\"directories\":[],\"files\":[null]}",
		"{\"version\":1,\"undo\":[],\"directories\":[],\"files\":[{\"path\":\"/etc/x\"}]}",
		"{\"version\":1,\"undo\":[],\"directories\":[],\"files\":[{\"path\":\"x\",\"edit\":"
		"\"whole\",\"words\":\"\",\"original\":null,\"before\":null,\"written\":\"\"}]}",
		"{\"version\":1,\"undo\":[],\"directories\":[],\"files\":[{\"path\":\"/x\",\"edit\":"
		"\"other\",\"words\":\"\",\"original\":null,\"before\":null,\"written\":\"\"}]}",
		"{\"version\":1,\"undo\":[],\"directories\":[],\"files\":[{\"path\":\"/x\",\"edit\":"
		"\"whole\",\"words\":\"\",\"original\":7,\"before\":null,\"written\":\"\"}]}",
		"{\"version\":1,\"undo\":[],\"directories\":[],\"files\":[{\"path\":\"/x/../y\","
		"\"edit\":\"whole\",\"words\":\"\",\"original\":null,\"before\":null,"
		"\"written\":\"\"}]}",
		"{\"version\":1,\"undo\":[],\"directories\":[],\"files\":[]} and more",
	};
	struct fixture *fixture = *state;

	boot_host_make(fixture, boot_programs[0]);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct error err = { 0 };

		fixture_file(fixture, BOOT_STATE, texts[i]);
		if (boot_host_undo(fixture) != -EBADMSG)
			fail_msg("state %zu was taken", i);
		assert_int_equal(boot_host_write(fixture, &boot_card, false, &err), -EBADMSG);
		assert_string_equal(boot_host_content(fixture, GRUB), boot_grub);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(initramfs_tools),
		TEST(dracut),
		TEST(mkinitcpio),
		TEST(a_second_write_changes_nothing),
		TEST(a_write_replaces_another),
		TEST(a_write_for_another_program),
		TEST(an_edited_file_keeps_its_edits),
		TEST(a_word_at_the_start_goes_with_its_blank),
		TEST(a_write_after_edits_keeps_them_too),
		TEST(an_edited_file_of_ours_is_left),
		TEST(files_removed_in_between),
		TEST(a_file_of_others_is_not_overwritten),
		TEST(permissions_and_links_are_kept),
		TEST(a_link_out_of_the_tree_is_not_followed),
		TEST(a_directory_out_of_the_tree_is_not_followed),
		TEST(a_directory_elsewhere_in_the_tree_is_followed),
		TEST(odd_bytes_are_put_back),
		TEST(a_failed_first_write_changes_nothing),
		TEST(a_failed_second_write_changes_nothing),
		TEST(a_failed_undo_changes_nothing),
		TEST(a_failed_undo_can_be_repeated),
		TEST(a_killed_write_is_undone),
		TEST(a_killed_second_write_is_undone),
		TEST(a_killed_undo_is_undone),
		TEST(a_killed_write_remembers_all_commands),
		TEST(a_killed_write_is_written_again),
		TEST(a_damaged_state_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
