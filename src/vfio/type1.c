/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "vfio/capability.h"
#include "vfio/iommu.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

struct type1 {
	struct vfio_iommu iommu;
	int container; /* the caller's */
};

static int type1_open_device(
	struct vfio_iommu *iommu, int group_fd, const char *name, struct error *err)
{
	int fd = ioctl(group_fd, VFIO_GROUP_GET_DEVICE_FD, name);
	int code = -errno;

	(void)iommu;
	if (fd >= 0)
		return fd;
	error_sys(err, code, name, "VFIO cannot open the device");
	error_hint(err,
		"dmesg tells more; a device that does not come back from D3 or from a reset "
		"needs the host to be suspended or restarted");
	return code;
}

static int type1_map(
	struct vfio_iommu *iommu, uint64_t iova, uint64_t size, void *hva, struct error *err)
{
	struct type1 *type1 = (struct type1 *)iommu;
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)hva,
		.iova = iova,
		.size = size,
	};
	char text[24];
	int code;

	if (ioctl(type1->container, VFIO_IOMMU_MAP_DMA, &map) == 0)
		return 0;
	code = -errno;
	error_sys(err, code, NULL, "cannot map %s of guest RAM for DMA at IOVA %#llx",
		size_format(size, text), (unsigned long long)iova);
	if (code == -ENOMEM)
		error_hint(err, "all guest RAM is pinned: the memory-lock limit (ulimit -l, "
				"LimitMEMLOCK=) must be above the guest's memory");
	return code;
}

static void type1_close(struct vfio_iommu *iommu)
{
	free(iommu);
}

static const struct vfio_iommu_ops type1_ops = {
	.open_device = type1_open_device,
	.map = type1_map,
	.close = type1_close,
};

static int attach_group(int container, int group, const char *name, struct error *err)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };

	if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) < 0)
		return error_sys(err, -errno, name, "cannot ask for its group's status");
	if (status.flags & VFIO_GROUP_FLAGS_CONTAINER_SET)
		return 0; /* two devices of one group */
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		error_set(err, -EPERM, name,
			"its IOMMU group is not viable: another device of the group is at a host driver");
		error_hint(err, "penstock bind --group %s binds all of the group", name);
		return -EPERM;
	}
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0)
		return error_sys(err, -errno, name, "cannot attach its group to a container");
	return 0;
}

static int set_iommu(int container, const char *name, struct error *err)
{
	int code;

	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0)
		return error_set(
			err, -ENOTSUP, name, "the kernel's VFIO has no type 1 IOMMU, version 2");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0)
		return 0;
	code = -errno;
	if (code == -EPERM) {
		error_sys(err, code, name,
			"VFIO refuses the IOMMU group: the host cannot remap interrupts, or a reserved "
			"region forbids it");
		error_hint(err,
			"switch interrupt remapping on (firmware: VT-d or AMD-Vi; kernel: no "
			"intremap=off), see dmesg; where every guest is trusted, "
			"vfio_iommu_type1.allow_unsafe_interrupts=1 goes without");
		return code;
	}
	return error_sys(err, code, name, "cannot set up the IOMMU for its group");
}

static void take_ranges(
	struct vfio_iommu *iommu, const struct vfio_iommu_type1_info *info, size_t size)
{
	const struct vfio_iommu_type1_info_cap_iova_range *cap;
	size_t room;

	cap = vfio_capability(info, size, info->cap_offset, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
		sizeof(*cap), &room);
	if (!cap)
		return;
	iommu->range_count =
		min_u64(cap->nr_iovas, (room - sizeof(*cap)) / sizeof(cap->iova_ranges[0]));
	iommu->range_count = min_u64(iommu->range_count, IOVA_RANGES_MAX);
	for (unsigned i = 0; i < iommu->range_count; i++)
		iommu->ranges[i] = (struct iova_range){
			cap->iova_ranges[i].start,
			cap->iova_ranges[i].end,
		};
}

/* Two calls: the kernel says how long its answer is, then gives it. */
static int read_info(struct type1 *type1, struct error *err)
{
	struct vfio_iommu_type1_info head = { .argsz = sizeof(head) };
	cleanup_free struct vfio_iommu_type1_info *info = NULL;
	size_t size;

	if (ioctl(type1->container, VFIO_IOMMU_GET_INFO, &head) < 0)
		return error_sys(err, -errno, NULL, "cannot ask the IOMMU what it can map");
	size = max_u64(head.argsz, sizeof(head));
	info = calloc(1, size);
	if (!info)
		return error_sys(err, -ENOMEM, NULL, "cannot ask the IOMMU what it can map");
	info->argsz = size;
	if (ioctl(type1->container, VFIO_IOMMU_GET_INFO, info) < 0)
		return error_sys(err, -errno, NULL, "cannot ask the IOMMU what it can map");
	type1->iommu.ranges[0] = (struct iova_range){ 0, UINT64_MAX };
	type1->iommu.range_count = 1;
	if (info->flags & VFIO_IOMMU_INFO_CAPS)
		take_ranges(&type1->iommu, info, size);
	return 0;
}

struct vfio_iommu *vfio_type1_open(int container_fd, const int *group_fds, const char *const *names,
	size_t count, struct error *err)
{
	struct type1 *type1 = calloc(1, sizeof(*type1));

	if (!type1) {
		error_sys(err, -ENOMEM, NULL, "cannot set up the IOMMU");
		return NULL;
	}
	type1->iommu.ops = &type1_ops;
	type1->container = container_fd;
	for (size_t i = 0; i < count; i++)
		if (attach_group(container_fd, group_fds[i], names[i], err) ||
			(i == 0 && set_iommu(container_fd, names[0], err)))
			goto fail;
	if (read_info(type1, err) == 0)
		return &type1->iommu;
fail:
	free(type1);
	return NULL;
}
