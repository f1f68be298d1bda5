/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/reset/bus.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/ioctl.h>

/*
 * VFIO resets a bus for one who shows that he has the groups of all devices on it. It takes a whole
 * container to get so far, but no memory is mapped in it. Descriptors go with the child.
 */

static int open_viable_group(int container, int group)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	cleanup_fd int fd = -1;
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, VFIO_GROUP_GET_STATUS, &status) < 0)
		return -errno;
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return -EPERM;
	return ioctl(fd, VFIO_GROUP_SET_CONTAINER, &container) < 0 ? -errno : take_fd(&fd);
}

static int open_group_device(int container, int group, const char *name)
{
	int fd;

	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		return -errno;
	fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
	return fd < 0 ? -errno : fd;
}

int reset_bus_run(const void *reset_bus)
{
	const struct reset_bus *bus = reset_bus;
	size_t size = sizeof(struct vfio_pci_hot_reset) + bus->group_count * sizeof(__s32);
	cleanup_free struct vfio_pci_hot_reset *reset = calloc(1, size);
	cleanup_fd int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	cleanup_fd int device = -1;

	if (container < 0 || !reset)
		return reset ? -errno : -ENOMEM;
	reset->argsz = size;
	reset->count = bus->group_count;
	for (unsigned i = 0; i < bus->group_count; i++) {
		reset->group_fds[i] = open_viable_group(container, bus->groups[i]);
		if (reset->group_fds[i] < 0)
			return reset->group_fds[i];
	}
	device = open_group_device(container, reset->group_fds[0], bus->device);
	if (device < 0)
		return device;
	return ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, reset) < 0 ? -errno : 0;
}
