/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/container.h"
#include "base/fd.h"
#include "base/size.h"
#include "vfio/capability.h"
#include "vfio/device.h"
#include "vfio/iommu.h"

#include <errno.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

/*
 * Groups in a container. The container is an address space only while a group is in it: with the last
 * one the kernel drops all that is mapped, and before the first one it takes nothing. So what is to be
 * mapped is noted here, and the next first group gets it again.
 */

/*
 * To map a part of a device may take as long as to reset one, and no longer: a vCPU waits for it. The first
 * piece is what slow kernels map in a few milliseconds.
 */
#define PART_TIME_MS 100
#define PART_PIECE   (16 * MIB)

struct vfio_group {
	struct vfio_group *next;
	dev_t device; /* the node, by which two descriptors of one group are known */
	ino_t inode;
	int fd;
	unsigned users; /* devices of it; the group leaves with its descriptor when there is none */
};

struct mapping {
	uint64_t iova;
	uint64_t size;
	void *hva;
};

struct type1 {
	struct vfio_iommu iommu;
	int container;        /* the caller's */
	pthread_mutex_t lock; /* for what follows, and for what the container is told */
	struct vfio_group *groups;
	struct mapping *mappings;
	size_t mapping_count, mapping_room;
};

static struct type1 *to_type1(struct vfio_iommu *iommu)
{
	return container_of(iommu, struct type1, iommu);
}

static int map_dma(struct type1 *type1, const struct mapping *mapping)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)mapping->hva,
		.iova = mapping->iova,
		.size = mapping->size,
	};

	return ioctl(type1->container, VFIO_IOMMU_MAP_DMA, &map) < 0 ? -errno : 0;
}

static int map_ram(struct type1 *type1, const struct mapping *mapping, struct error *err)
{
	int code = map_dma(type1, mapping);

	return code ? vfio_map_error(err, code, mapping->iova, mapping->size, VFIO_MEMLOCK_HINT)
		    : 0;
}

/* For one more mapping. */
static int make_room(struct type1 *type1)
{
	size_t room = max_u64(2 * type1->mapping_room, 16);
	void *more;

	if (type1->mapping_count < type1->mapping_room)
		return 0;
	more = reallocarray(type1->mappings, room, sizeof(*type1->mappings));
	if (!more)
		return -ENOMEM;
	type1->mappings = more;
	type1->mapping_room = room;
	return 0;
}

static int type1_map(
	struct vfio_iommu *iommu, uint64_t iova, uint64_t size, void *hva, struct error *err)
{
	struct type1 *type1 = to_type1(iommu);
	const struct mapping mapping = { iova, size, hva };
	int code;

	pthread_mutex_lock(&type1->lock);
	code = make_room(type1);
	if (code)
		error_sys(err, code, NULL, "cannot map guest RAM for DMA");
	else if (type1->groups)
		code = map_ram(type1, &mapping, err);
	if (!code)
		type1->mappings[type1->mapping_count++] = mapping;
	pthread_mutex_unlock(&type1->lock);
	return code;
}

static int unmap_dma(struct type1 *type1, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	return ioctl(type1->container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0 ? -errno : 0;
}

/* That this thread has run: not what it has waited for others. */
static uint64_t milliseconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1000ULL + time.tv_nsec / 1000000;
}

/*
 * In pieces that double, so that one knows half way whether it takes too long: before Linux 6.15 each page
 * of 4 KiB of a region is looked up and mapped by itself.
 */
static int map_pieces(struct type1 *type1, const struct mapping *part)
{
	uint64_t start = milliseconds(), done = 0;
	int code = 0;

	while (done < part->size) {
		struct mapping piece = *part;

		piece.iova += done;
		piece.hva = (char *)piece.hva + done;
		piece.size = min_u64(max_u64(done, PART_PIECE), part->size - done);
		code = 2 * (milliseconds() - start) > PART_TIME_MS ? -ETIME
								   : map_dma(type1, &piece);
		if (code)
			break;
		done += piece.size;
	}
	if (code && done)
		(void)unmap_dma(type1, part->iova, done);
	return code;
}

static int type1_map_part(
	struct vfio_iommu *iommu, uint64_t iova, const struct vfio_part *part, struct error *err)
{
	struct type1 *type1 = to_type1(iommu);
	const struct mapping mapping = { iova, part->size, part->hva };
	int code;

	pthread_mutex_lock(&type1->lock);
	code = make_room(type1);
	if (!code)
		code = map_pieces(type1, &mapping);
	if (!code)
		type1->mappings[type1->mapping_count++] = mapping;
	pthread_mutex_unlock(&type1->lock);
	if (!code)
		return 0;
	return vfio_part_error(err, code, part,
		code == -ETIME ? "the kernel maps it too slowly: Linux 6.15 and later do not"
			       : NULL);
}

static int type1_unmap(struct vfio_iommu *iommu, uint64_t iova, uint64_t size)
{
	struct type1 *type1 = to_type1(iommu);
	int code = -ENOENT;

	pthread_mutex_lock(&type1->lock);
	for (size_t i = 0; i < type1->mapping_count && code == -ENOENT; i++) {
		struct mapping *mapping = &type1->mappings[i];

		if (mapping->iova != iova || mapping->size != size)
			continue;
		code = type1->groups ? unmap_dma(type1, iova, size) : 0;
		if (!code)
			*mapping = type1->mappings[--type1->mapping_count];
	}
	pthread_mutex_unlock(&type1->lock);
	return code;
}

/* What the kernel says to a group whose devices it may not let loose on memory of ours. */
static int refuse_container(int code, const char *name, struct error *err)
{
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

static int set_container(struct type1 *type1, int group, const char *name, struct error *err)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int code;

	if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) < 0)
		return error_sys(err, -errno, name, "cannot ask for its group's status");
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		error_set(err, -EPERM, name,
			"its IOMMU group is not viable: another device of the group is at a host driver");
		error_hint(err, "penstock bind --group %s binds all of the group", name);
		return -EPERM;
	}
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &type1->container) == 0)
		return 0;
	code = -errno;
	if (code == -EPERM)
		return refuse_container(code, name, err);
	error_sys(err, code, name, "cannot attach its group to a container");
	if (code == -EINVAL && type1->mapping_count)
		error_hint(err, VFIO_RESERVED_HINT);
	return code;
}

/* The first group makes an address space of the container. */
static int set_iommu(struct type1 *type1, const char *name, struct error *err)
{
	if (ioctl(type1->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0)
		return error_set(
			err, -ENOTSUP, name, "the kernel's VFIO has no type 1 IOMMU, version 2");
	if (ioctl(type1->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		return refuse_container(-errno, name, err);
	for (size_t i = 0; i < type1->mapping_count; i++)
		if (map_ram(type1, &type1->mappings[i], err))
			return err->code;
	return 0;
}

/* Let a group join, whose descriptor stays the caller's where that fails. */
static int join_container(struct type1 *type1, int fd, const char *name, struct error *err)
{
	const struct vfio_file_events *files = &type1->iommu.files;
	int code;

	if (set_container(type1, fd, name, err) || (!type1->groups && set_iommu(type1, name, err)))
		return err->code;
	code = files->opening(files->opaque, fd);
	return code ? error_sys(err, code, name, "cannot tell KVM of the VFIO group") : 0;
}

static struct vfio_group *new_group(
	struct type1 *type1, const struct stat *node, int fd, const char *name, struct error *err)
{
	struct vfio_group *group;

	if (join_container(type1, fd, name, err))
		return NULL;
	group = malloc(sizeof(*group));
	if (!group) {
		error_sys(err, -ENOMEM, name, "cannot attach its group to a container");
		return NULL;
	}
	*group = (struct vfio_group){
		.next = type1->groups,
		.device = node->st_dev,
		.inode = node->st_ino,
		.fd = fd,
	};
	type1->groups = group;
	return group;
}

static struct vfio_group *get_group(
	struct type1 *type1, int source_fd, const char *name, struct error *err)
{
	cleanup_fd int fd = source_fd;
	struct vfio_group *group;
	struct stat node;

	if (fstat(fd, &node) < 0) {
		error_sys(err, -errno, name, "cannot look at its group");
		return NULL;
	}
	for (group = type1->groups; group; group = group->next)
		if (group->device == node.st_dev && group->inode == node.st_ino)
			break;
	if (!group) {
		group = new_group(type1, &node, fd, name, err);
		if (!group)
			return NULL;
		take_fd(&fd);
	}
	group->users++;
	return group;
}

static void put_group(struct type1 *type1, struct vfio_group *group)
{
	const struct vfio_file_events *files = &type1->iommu.files;
	struct vfio_group **link = &type1->groups;

	if (--group->users)
		return;
	while (*link != group)
		link = &(*link)->next;
	*link = group->next;
	files->closed(files->opaque, group->fd);
	close(group->fd);
	free(group);
}

/* Opening a device takes long, and is done by several threads at once: without the lock. */
static int type1_add_device(struct vfio_iommu *iommu, struct vfio_device *device,
	const struct vfio_source *source, struct error *err)
{
	struct type1 *type1 = to_type1(iommu);
	int code;

	pthread_mutex_lock(&type1->lock);
	device->group = get_group(type1, source->fd, device->name, err);
	pthread_mutex_unlock(&type1->lock);
	if (!device->group)
		return err->code;
	device->fd = ioctl(device->group->fd, VFIO_GROUP_GET_DEVICE_FD, device->name);
	if (device->fd >= 0)
		return 0;
	code = vfio_open_error(err, -errno, device->name);
	pthread_mutex_lock(&type1->lock);
	put_group(type1, device->group);
	pthread_mutex_unlock(&type1->lock);
	return code;
}

static void type1_remove_device(struct vfio_iommu *iommu, struct vfio_device *device)
{
	struct type1 *type1 = to_type1(iommu);

	close(device->fd);
	pthread_mutex_lock(&type1->lock);
	put_group(type1, device->group);
	pthread_mutex_unlock(&type1->lock);
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
static int type1_read_ranges(struct vfio_iommu *iommu, struct error *err)
{
	struct type1 *type1 = to_type1(iommu);
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
	iommu->ranges[0] = (struct iova_range){ 0, UINT64_MAX };
	iommu->range_count = 1;
	if (info->flags & VFIO_IOMMU_INFO_CAPS)
		take_ranges(iommu, info, size);
	return 0;
}

static void type1_close(struct vfio_iommu *iommu)
{
	struct type1 *type1 = to_type1(iommu);

	pthread_mutex_destroy(&type1->lock);
	free(type1->mappings);
	free(type1);
}

static const struct vfio_iommu_ops type1_ops = {
	.add_device = type1_add_device,
	.remove_device = type1_remove_device,
	.map = type1_map,
	.map_part = type1_map_part,
	.unmap = type1_unmap,
	.read_ranges = type1_read_ranges,
	.close = type1_close,
};

struct vfio_iommu *vfio_type1_open(int container_fd, struct error *err)
{
	struct type1 *type1 = calloc(1, sizeof(*type1));

	if (!type1) {
		error_sys(err, -ENOMEM, "/dev/vfio/vfio", "cannot make an address space");
		return NULL;
	}
	type1->iommu.ops = &type1_ops;
	type1->container = container_fd;
	pthread_mutex_init(&type1->lock, NULL);
	return &type1->iommu;
}
