/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vfio/device.h"

#include "base/fd.h"
#include "base/size.h"
#include "vfio/capability.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define IRQS_IN_ONE_CALL 2048 /* the most vectors that MSI-X has */

/* Instead of the whole region these parts of it may be mapped. */
static void take_sparse(
	struct vfio_region *region, const struct vfio_region_info *info, size_t size)
{
	const struct vfio_region_info_cap_sparse_mmap *cap;
	size_t room;

	cap = vfio_capability(info, size, info->cap_offset, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
		sizeof(*cap), &room);
	if (!cap)
		return;
	region->area_count = min_u64(cap->nr_areas, (room - sizeof(*cap)) / sizeof(cap->areas[0]));
	region->area_count = min_u64(region->area_count, VFIO_AREAS_MAX);
	for (unsigned i = 0; i < region->area_count; i++)
		region->areas[i] = (struct vfio_area){ cap->areas[i].offset, cap->areas[i].size };
}

static int read_region(struct vfio_device *device, unsigned index, struct error *err)
{
	struct vfio_region *region = &device->regions[index];
	struct vfio_region_info head = { .argsz = sizeof(head), .index = index };
	cleanup_free struct vfio_region_info *info = NULL;
	size_t size;

	/* Where there is no such region, or not for user space, there is no such index. */
	if (ioctl(device->fd, VFIO_DEVICE_GET_REGION_INFO, &head) < 0)
		return index == VFIO_PCI_VGA_REGION_INDEX
			       ? 0
			       : error_sys(err, -errno, device->name, "cannot read its region %u",
					 index);
	size = max_u64(head.argsz, sizeof(head));
	info = calloc(1, size);
	if (!info)
		return error_sys(err, -ENOMEM, device->name, "cannot read its region %u", index);
	*info = head;
	if (size > sizeof(head) && ioctl(device->fd, VFIO_DEVICE_GET_REGION_INFO, info) < 0)
		return error_sys(err, -errno, device->name, "cannot read its region %u", index);
	region->size = info->size;
	region->fd_offset = info->offset;
	region->readable = info->flags & VFIO_REGION_INFO_FLAG_READ;
	region->writable = info->flags & VFIO_REGION_INFO_FLAG_WRITE;
	if (info->flags & VFIO_REGION_INFO_FLAG_MMAP) {
		region->areas[0] = (struct vfio_area){ 0, info->size };
		region->area_count = 1;
	}
	if (info->flags & VFIO_REGION_INFO_FLAG_CAPS)
		take_sparse(region, info, size);
	return 0;
}

/* A kind of interrupt that this kernel or device does not know is simply absent. */
static void read_irq(struct vfio_device *device, unsigned index)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(device->fd, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0 ||
		!(info.flags & VFIO_IRQ_INFO_EVENTFD))
		return;
	device->irqs[index] = (struct vfio_irq){
		.count = min_u64(info.count, IRQS_IN_ONE_CALL),
		.can_grow = !(info.flags & VFIO_IRQ_INFO_NORESIZE),
	};
}

static int read_all(struct vfio_device *device, struct error *err)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };

	if (ioctl(device->fd, VFIO_DEVICE_GET_INFO, &info) < 0)
		return error_sys(err, -errno, device->name, "VFIO does not tell about the device");
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return error_set(err, -ENODEV, device->name, "is no PCI device to VFIO");
	for (unsigned i = 0; i < VFIO_REGIONS && i < info.num_regions; i++)
		if (read_region(device, i, err))
			return err->code;
	for (unsigned i = 0; i < VFIO_PCI_NUM_IRQS && i < info.num_irqs; i++)
		read_irq(device, i);
	return 0;
}

/* VFIO has switched its line on, which nobody hears yet. See vfio_device_open(). */
static void switch_intx_off(struct vfio_device *device)
{
	uint64_t command = vfio_region_read(device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, 2);

	if (device->irqs[VFIO_PCI_INTX_IRQ_INDEX].count && command != UINT64_MAX)
		vfio_region_write(device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, 2,
			command | PCI_COMMAND_INTX_DISABLE);
}

int vfio_device_open(struct vfio_device *device, struct vfio_iommu *iommu,
	const struct vfio_source *source, struct error *err)
{
	*device = (struct vfio_device){ .fd = -1, .iommu = iommu };
	bdf_format(&source->bdf, device->name);
	if (iommu->ops->add_device(iommu, device, source, err))
		return err->code;
	__atomic_add_fetch(&iommu->devices, 1, __ATOMIC_RELEASE);
	if (read_all(device, err) == 0)
		switch_intx_off(device);
	return err->code;
}

void vfio_device_close(struct vfio_device *device)
{
	if (device->fd < 0)
		return;
	device->iommu->ops->remove_device(device->iommu, device);
	__atomic_sub_fetch(&device->iommu->devices, 1, __ATOMIC_RELEASE);
	device->fd = -1;
}

uint64_t vfio_region_read(
	struct vfio_device *device, unsigned region, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	if (pread(device->fd, &value, size, device->regions[region].fd_offset + offset) !=
		(ssize_t)size)
		return UINT64_MAX;
	return value;
}

void vfio_region_write(
	struct vfio_device *device, unsigned region, uint64_t offset, unsigned size, uint64_t value)
{
	if (pwrite(device->fd, &value, size, device->regions[region].fd_offset + offset) < 0)
		return; /* lost, as a write to a device that does not answer */
}

int vfio_region_copy(struct vfio_device *device, unsigned region, void *bytes, uint64_t size)
{
	return fd_pread_all(device->fd, bytes, size, device->regions[region].fd_offset);
}

/* Reserve addresses so that one with the wanted remainder modulo alignment is among them. */
static void *reserve(uint64_t size, uint64_t alignment, uint64_t remainder)
{
	uint64_t total = size + alignment;
	char *base =
		mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t skip;

	if (base == MAP_FAILED)
		return NULL;
	skip = (remainder - (uintptr_t)base) & (alignment - 1);
	if (skip)
		munmap(base, skip);
	if (alignment - skip)
		munmap(base + skip + size, alignment - skip);
	return base + skip;
}

void *vfio_region_map(struct vfio_device *device, unsigned region, uint64_t offset, uint64_t size)
{
	const struct vfio_region *info = &device->regions[region];
	uint64_t alignment = min_u64(max_u64(info->size, 4 * KIB), GIB);
	int protection = (info->readable ? PROT_READ : 0) | (info->writable ? PROT_WRITE : 0);
	void *at = reserve(size, alignment, offset & (alignment - 1));
	void *mapped;

	if (!at)
		return NULL;
	mapped = mmap(
		at, size, protection, MAP_SHARED | MAP_FIXED, device->fd, info->fd_offset + offset);
	if (mapped == MAP_FAILED) {
		int code = errno;

		munmap(at, size);
		errno = code;
		return NULL;
	}
	return mapped;
}

/* One VFIO_DEVICE_SET_IRQS with count descriptors behind the header, or none. */
static int set_irqs(struct vfio_device *device, uint32_t flags, unsigned index, unsigned first,
	unsigned count, const int *fds)
{
	size_t size = sizeof(struct vfio_irq_set) + (fds ? count * sizeof(*fds) : 0);
	cleanup_free struct vfio_irq_set *set = calloc(1, size);
	int result;

	if (!set)
		return -ENOMEM;
	*set = (struct vfio_irq_set){
		.argsz = size,
		.flags = flags | (fds ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
		.index = index,
		.start = first,
		.count = count,
	};
	if (fds)
		memcpy(set->data, fds, count * sizeof(*fds));
	result = ioctl(device->fd, VFIO_DEVICE_SET_IRQS, set);
	return result < 0 ? -errno : result;
}

int vfio_irq_set(struct vfio_device *device, unsigned index, unsigned first, unsigned count,
	const int *eventfds)
{
	return set_irqs(device, VFIO_IRQ_SET_ACTION_TRIGGER, index, first, count, eventfds);
}

int vfio_irq_disable(struct vfio_device *device, unsigned index)
{
	return set_irqs(device, VFIO_IRQ_SET_ACTION_TRIGGER, index, 0, 0, NULL);
}

int vfio_intx_mask(struct vfio_device *device, bool masked)
{
	uint32_t action = masked ? VFIO_IRQ_SET_ACTION_MASK : VFIO_IRQ_SET_ACTION_UNMASK;

	return set_irqs(device, action, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL);
}

int vfio_intx_unmask_by(struct vfio_device *device, int eventfd)
{
	return set_irqs(
		device, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &eventfd);
}
