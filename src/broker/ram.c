/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/ram.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/mount.h>

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

int broker_ram_open(struct broker_ram *ram, const struct broker_config *config, struct error *err)
{
	char text[24];

	if (config->hugepages) {
		ram->kind = MEMORY_HUGETLB;
		ram->fd = memory_file(config->memory, MFD_HUGETLB | MFD_HUGE_2MB);
	} else {
		ram->kind = MEMORY_HUGE;
		ram->fd = open_huge(config->memory);
	}
	/* Not everybody may mount: then the machine puts huge pages together itself. */
	if (ram->fd < 0 && !config->hugepages) {
		ram->kind = MEMORY_COLLAPSE;
		ram->fd = memory_file(config->memory, 0);
	}
	if (ram->fd >= 0)
		return 0;
	return error_sys(err, ram->fd, NULL, "cannot get %s of memory for the guest",
		size_format(config->memory, text));
}
