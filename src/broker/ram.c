/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/ram.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/*
 * A file of a tmpfs of its own, which has huge pages whatever the host is set to
 * (transparent_hugepage/shmem_enabled, which holds for memfds, is "never" by default). It is mounted
 * nowhere, and gone with the file.
 */
static int open_huge(uint64_t size)
{
	cleanup_fd int context = fsopen("tmpfs", FSOPEN_CLOEXEC), mount = -1, file = -1;
	char limit[24];

	/* Without it, it were half of the host's memory. */
	snprintf(limit, sizeof(limit), "%llu", (unsigned long long)align_up(size, 2 * MIB));
	if (context < 0 || fsconfig(context, FSCONFIG_SET_STRING, "huge", "within_size", 0) < 0 ||
		fsconfig(context, FSCONFIG_SET_STRING, "size", limit, 0) < 0 ||
		fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mount = fsmount(
		context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (mount < 0)
		return -errno;
	file = openat(mount, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (file < 0 || ftruncate(file, size) < 0)
		return -errno;
	return take_fd(&file);
}

/* In a new namespace we have no ids, and whoever has none may make no file. */
static int keep_ids(uid_t uid, gid_t gid)
{
	char users[32], groups[32];
	int code;

	snprintf(users, sizeof(users), "%u %u 1", uid, uid);
	snprintf(groups, sizeof(groups), "%u %u 1", gid, gid);
	code = fd_write_file("/proc/self/uid_map", users);
	if (!code)
		code = fd_write_file("/proc/self/setgroups", "deny");
	return code ? code : fd_write_file("/proc/self/gid_map", groups);
}

/*
 * Who may not mount may do so in a user namespace of his own, where the host has not forbidden these. A
 * child makes it, which shares our descriptors: it puts the file in the place of one of them.
 */
static int open_huge_in_namespace(uint64_t size)
{
	cleanup_fd int place = open("/dev/null", O_RDWR | O_CLOEXEC);
	uid_t uid = geteuid();
	gid_t gid = getegid();
	pid_t child;
	int status;

	if (place < 0)
		return -errno;
	/* No signal at its end, which would be taken for the machine's. */
	child = syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | CLONE_FILES, NULL, NULL, NULL, 0);
	if (child == 0) {
		int file = keep_ids(uid, gid) ? -1 : open_huge(size);

		_exit(file < 0 || dup3(file, place, O_CLOEXEC) < 0 || close(file) < 0);
	}
	if (child < 0 || waitpid(child, &status, __WALL) < 0 || status)
		return -EPERM;
	return take_fd(&place);
}

int broker_ram_open(struct broker_ram *ram, const struct broker_config *config, struct error *err)
{
	unsigned page = config->hugepages == GIB ? MFD_HUGE_1GB : MFD_HUGE_2MB;
	char text[24];

	ram->page = config->hugepages ? config->hugepages : MEMORY_PAGE;
	if (config->hugepages) {
		ram->kind = MEMORY_HUGETLB;
		ram->fd = memory_file(config->memory, MFD_HUGETLB | page);
	} else {
		ram->kind = MEMORY_HUGE;
		ram->fd = open_huge(config->memory);
		if (ram->fd < 0)
			ram->fd = open_huge_in_namespace(config->memory);
	}
	/* Then the machine puts huge pages together itself. */
	if (ram->fd < 0 && !config->hugepages) {
		ram->kind = MEMORY_COLLAPSE;
		ram->fd = memory_file(config->memory, 0);
	}
	if (ram->fd >= 0)
		return 0;
	return error_sys(err, ram->fd, NULL, "cannot get %s of memory for the guest",
		size_format(config->memory, text));
}
