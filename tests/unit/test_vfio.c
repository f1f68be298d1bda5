/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "test.h"
#include "vfio/capability.h"
#include "vfio/device.h"
#include "vfio/iommu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * What VFIO tells and is told. The linker hands us the ioctls (-Wl,--wrap=ioctl): a container (CONTAINER),
 * groups (GROUP and up) and a device, which is a file, answer as the kernel does.
 */

#define CONTAINER 1000
#define GROUP     1001
#define NAME      "0000:01:00.0"

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_munmap(void *at, size_t size);
int __real_munmap(void *at, size_t size);

/* A header with its chain of capabilities behind it, as long as bytes says. */
struct answer {
	_Alignas(8) uint8_t bytes[1024];
	unsigned size;
};

static struct {
	unsigned long failing; /* this ioctl fails, with this errno */
	int error;
	unsigned fails_at; /* not before its so manieth call */
	bool no_type1;
	uint32_t group_flags[4];
	struct answer iommu;
	int device; /* what it opens */
	uint32_t device_flags, regions, irqs;
	struct answer region;
	uint32_t irq_flags, irq_count;
	/* What was asked. */
	unsigned attached[4], set_iommu;
	struct vfio_iommu_type1_dma_map map;
	char opened[32];
	int opened_of;
	struct {
		uint32_t argsz, flags, index, start, count;
		int fds[4];
	} set; /* struct vfio_irq_set */
	unsigned calls;
} host;

static int refuse(int error)
{
	errno = error;
	return -1;
}

/* As the kernel: what fits, and the size of all. */
static int give(const struct answer *from, void *to, size_t head)
{
	uint32_t argsz;

	memcpy(&argsz, to, sizeof(argsz));
	if (argsz < head)
		return refuse(EINVAL);
	memcpy(to, from->bytes, argsz < from->size ? head : from->size);
	memcpy(to, &from->size, sizeof(from->size));
	return 0;
}

static int answer_region(struct vfio_region_info *info)
{
	uint32_t index = info->index;
	int code = give(&host.region, info, sizeof(*info));

	info->index = index;
	info->offset = index * 0x10000ULL;
	if (index != 1)
		info->flags = 0, info->size = index == 2 ? 0x100 : 0;
	return code;
}

static int answer_irq(struct vfio_irq_info *info)
{
	if (info->index == VFIO_PCI_ERR_IRQ_INDEX)
		return refuse(EINVAL);
	info->flags = host.irq_flags;
	info->count = host.irq_count;
	return 0;
}

static int answer_set(const struct vfio_irq_set *set)
{
	assert_true(set->argsz <= sizeof(host.set));
	memcpy(&host.set, set, set->argsz);
	return host.irq_count < set->start + set->count ? (int)host.irq_count : 0;
}

static int answer(int fd, unsigned long request, void *argument)
{
	struct vfio_group_status *status = argument;
	struct vfio_device_info *device = argument;

	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		status->flags = host.group_flags[fd - GROUP];
		return 0;
	case VFIO_GROUP_SET_CONTAINER:
		assert_int_equal(*(int *)argument, CONTAINER);
		host.attached[fd - GROUP]++;
		return 0;
	case VFIO_CHECK_EXTENSION:
		assert_int_equal(fd, CONTAINER);
		return !host.no_type1 && (uintptr_t)argument == VFIO_TYPE1v2_IOMMU;
	case VFIO_SET_IOMMU:
		assert_int_equal((uintptr_t)argument, VFIO_TYPE1v2_IOMMU);
		assert_true(host.attached[0] > 0); /* the kernel wants a group first */
		host.set_iommu++;
		return 0;
	case VFIO_IOMMU_GET_INFO:
		assert_int_equal(fd, CONTAINER);
		return give(&host.iommu, argument, 20);
	case VFIO_IOMMU_MAP_DMA:
		host.map = *(struct vfio_iommu_type1_dma_map *)argument;
		return 0;
	case VFIO_GROUP_GET_DEVICE_FD:
		strcpy(host.opened, argument);
		host.opened_of = fd;
		return host.device;
	case VFIO_DEVICE_GET_INFO:
		device->flags = host.device_flags;
		device->num_regions = host.regions;
		device->num_irqs = host.irqs;
		return 0;
	case VFIO_DEVICE_GET_REGION_INFO:
		return answer_region(argument);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return answer_irq(argument);
	case VFIO_DEVICE_SET_IRQS:
		return answer_set(argument);
	default:
		fail_msg("ioctl %#lx", request);
		return -1;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (request == host.failing && ++host.calls >= host.fails_at)
		return refuse(host.error);
	return answer(fd, request, argument);
}

/* A call that succeeds may change errno. */
int __wrap_munmap(void *at, size_t size)
{
	int code = __real_munmap(at, size);

	errno = EXDEV;
	return code;
}

static void *append(struct answer *answer, size_t size)
{
	void *at = &answer->bytes[answer->size];

	answer->size += align_up(size, 8);
	assert_true(answer->size <= sizeof(answer->bytes));
	return at;
}

/* A capability behind all that is there; the one before leads to it. */
static void *append_cap(struct answer *answer, uint32_t *link, uint16_t id, size_t size)
{
	struct vfio_info_cap_header *header;

	*link = answer->size;
	header = append(answer, size);
	*header = (struct vfio_info_cap_header){ .id = id, .version = 1 };
	return header;
}

static struct vfio_iommu_type1_info *iommu_info(void)
{
	return (void *)host.iommu.bytes;
}

static struct vfio_region_info *region_info(void)
{
	return (void *)host.region.bytes;
}

static int setup(void **state)
{
	(void)state;
	memset(&host, 0, sizeof(host));
	for (unsigned i = 0; i < ARRAY_SIZE(host.group_flags); i++)
		host.group_flags[i] = VFIO_GROUP_FLAGS_VIABLE;
	append(&host.iommu, sizeof(struct vfio_iommu_type1_info));
	append(&host.region, sizeof(struct vfio_region_info));
	host.device = memfd_create("device", MFD_CLOEXEC);
	host.device_flags = VFIO_DEVICE_FLAGS_PCI;
	host.regions = VFIO_PCI_NUM_REGIONS;
	host.irqs = VFIO_PCI_NUM_IRQS;
	host.irq_flags = VFIO_IRQ_INFO_EVENTFD;
	host.irq_count = 4;
	region_info()->size = 0x8000;
	region_info()->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	return ftruncate(host.device, 0x20000);
}

static int teardown(void **state)
{
	(void)state;
	close(host.device);
	return 0;
}

/* The container */

static struct vfio_iommu *try_open(size_t groups, struct error *err)
{
	static const int fds[] = { GROUP, GROUP + 1, GROUP + 2 };
	static const char *const names[] = { NAME, "0000:02:00.0", "0000:03:00.0" };

	return vfio_type1_open(CONTAINER, fds, names, groups, err);
}

static struct vfio_iommu *open_iommu(size_t groups)
{
	struct error err = { 0 };
	unsigned before = host.set_iommu;
	struct vfio_iommu *iommu = try_open(groups, &err);

	if (!iommu)
		fail_msg("%s", err.what);
	assert_int_equal(host.set_iommu, before + 1);
	return iommu;
}

static void groups_are_attached_once(void **state)
{
	struct vfio_iommu *iommu;

	(void)state;
	host.group_flags[1] |= VFIO_GROUP_FLAGS_CONTAINER_SET; /* it is the first one's */
	iommu = open_iommu(3);
	assert_int_equal(host.attached[0], 1);
	assert_int_equal(host.attached[1], 0);
	assert_int_equal(host.attached[2], 1);
	assert_int_equal(host.set_iommu, 1);
	iommu->ops->close(iommu);
}

static void a_kernel_without_ranges_maps_everywhere(void **state)
{
	struct vfio_iommu_type1_info_cap_iova_range *cap;
	struct vfio_iommu *iommu;

	(void)state;
	cap = append_cap(&host.iommu, &iommu_info()->cap_offset,
		VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, sizeof(*cap) + 16);
	cap->nr_iovas = 1; /* which means nothing without the flag, */
	iommu = open_iommu(1);
	assert_int_equal(iommu->range_count, 1);
	assert_true(iommu->ranges[0].first == 0 && iommu->ranges[0].last == UINT64_MAX);
	iommu->ops->close(iommu);
	iommu_info()->flags = VFIO_IOMMU_INFO_CAPS; /* as do others with it */
	cap->header.id = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION;
	iommu = open_iommu(1);
	assert_int_equal(iommu->range_count, 1);
	assert_true(iommu->ranges[0].first == 0 && iommu->ranges[0].last == UINT64_MAX);
	iommu->ops->close(iommu);
}

/* The host's reserved regions, that of the MSIs among them, are left out. */
static void the_kernels_ranges_are_taken(void **state)
{
	struct vfio_iommu_type1_info_cap_iova_range *cap;
	struct vfio_info_cap_header *other;
	struct vfio_iommu *iommu;

	(void)state;
	iommu_info()->flags = VFIO_IOMMU_INFO_CAPS;
	other = append_cap(
		&host.iommu, &iommu_info()->cap_offset, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, 32);
	cap = append_cap(&host.iommu, &other->next, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
		sizeof(*cap) + 2 * sizeof(cap->iova_ranges[0]));
	cap->nr_iovas = 2;
	cap->iova_ranges[0].end = 0xfedfffff;
	cap->iova_ranges[1].start = 0xfef00000;
	cap->iova_ranges[1].end = 0x7fffffffffff;
	iommu = open_iommu(1);
	assert_int_equal(iommu->range_count, 2);
	assert_true(iommu->ranges[0].first == 0 && iommu->ranges[0].last == 0xfedfffff);
	assert_true(iommu->ranges[1].first == 0xfef00000);
	assert_true(iommu->ranges[1].last == 0x7fffffffffff);
	/* More than there is room for, and more than the kernel's answer holds. */
	cap->nr_iovas = 1000;
	iommu->ops->close(iommu);
	iommu = open_iommu(1);
	assert_int_equal(iommu->range_count, 2);
	iommu->ops->close(iommu);
}

static void no_more_ranges_than_there_is_room_for(void **state)
{
	struct vfio_iommu_type1_info_cap_iova_range *cap;
	struct vfio_iommu *iommu;

	(void)state;
	host.iommu.size = 24;
	iommu_info()->flags = VFIO_IOMMU_INFO_CAPS;
	cap = append_cap(&host.iommu, &iommu_info()->cap_offset,
		VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, sizeof(*cap));
	cap->nr_iovas = IOVA_RANGES_MAX + 1;
	host.iommu.size = 24 + sizeof(*cap) + 29 * sizeof(cap->iova_ranges[0]);
	iommu = open_iommu(1);
	assert_int_equal(iommu->range_count, 29);
	iommu->ops->close(iommu);
	host.iommu.size = 24 + sizeof(*cap) + 40 * sizeof(cap->iova_ranges[0]);
	iommu = open_iommu(1);
	assert_int_equal(iommu->range_count, IOVA_RANGES_MAX);
	iommu->ops->close(iommu);
}

/* A call that fails the at-th time, and what is told then. */
struct failure {
	unsigned long request;
	int error;
	unsigned at;
	const char *what, *hint;
};

static void the_container_fails(void **state)
{
	static const struct failure failures[] = {
		{ VFIO_GROUP_GET_STATUS, EIO, 1, "status", "" },
		{ VFIO_GROUP_SET_CONTAINER, EBUSY, 1, "attach its group", "" },
		{ VFIO_SET_IOMMU, EPERM, 1, "cannot remap interrupts", "interrupt remapping" },
		{ VFIO_SET_IOMMU, ENODEV, 1, "cannot set up the IOMMU", "" },
		{ VFIO_IOMMU_GET_INFO, EIO, 1, "what it can map", "" },
		{ VFIO_IOMMU_GET_INFO, EINVAL, 2, "what it can map", "" },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(failures); i++) {
		struct error err = { 0 };

		host.failing = failures[i].request;
		host.error = failures[i].error;
		host.fails_at = failures[i].at;
		host.calls = 0;
		memset(host.attached, 0, sizeof(host.attached));
		assert_null(try_open(2, &err));
		assert_int_equal(err.code, -failures[i].error);
		assert_non_null(strstr(err.what, failures[i].what));
		assert_non_null(strstr(err.hint, failures[i].hint));
		assert_int_equal(!*err.hint, !*failures[i].hint);
		if (failures[i].request != VFIO_IOMMU_GET_INFO)
			assert_string_equal(err.object, NAME);
	}
}

static void a_group_that_is_not_viable_is_refused(void **state)
{
	struct error err = { 0 };

	(void)state;
	host.group_flags[1] = 0;
	assert_null(try_open(2, &err));
	assert_int_equal(err.code, -EPERM);
	assert_string_equal(err.object, "0000:02:00.0");
	assert_non_null(strstr(err.hint, "penstock bind --group 0000:02:00.0"));
	assert_int_equal(host.attached[1], 0);
}

static void a_kernel_without_type_1_is_refused(void **state)
{
	struct error err = { 0 };

	(void)state;
	host.no_type1 = true;
	assert_null(try_open(1, &err));
	assert_int_equal(err.code, -ENOTSUP);
	assert_int_equal(host.set_iommu, 0);
}

static void memory_is_mapped_for_reads_and_writes(void **state)
{
	struct vfio_iommu *iommu = open_iommu(1);
	struct error err = { 0 };
	void *hva = (void *)0x7f0000200000;

	(void)state;
	assert_int_equal(iommu->ops->map(iommu, 4 * GIB, 2 * MIB, hva, &err), 0);
	assert_int_equal(host.map.argsz, sizeof(host.map));
	assert_int_equal(host.map.flags, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
	assert_true(host.map.iova == 4 * GIB && host.map.size == 2 * MIB);
	assert_true(host.map.vaddr == 0x7f0000200000);
	host.failing = VFIO_IOMMU_MAP_DMA;
	host.error = ENOMEM;
	assert_int_equal(iommu->ops->map(iommu, 4 * GIB, 2 * MIB, hva, &err), -ENOMEM);
	assert_non_null(strstr(err.what, "2 MiB of guest RAM for DMA at IOVA 0x100000000"));
	assert_non_null(strstr(err.what, "Cannot allocate memory"));
	assert_non_null(strstr(err.hint, "ulimit -l"));
	host.error = EEXIST;
	err = (struct error){ 0 };
	assert_int_equal(iommu->ops->map(iommu, 4 * GIB, 2 * MIB, hva, &err), -EEXIST);
	assert_string_equal(err.hint, "");
	iommu->ops->close(iommu);
}

/* A device */

static const struct bdf bdf = { .bus = 1 };

static int try_device(struct vfio_device *device, struct error *err)
{
	struct vfio_iommu *iommu = open_iommu(1);
	int code = vfio_device_open(device, iommu, GROUP, &bdf, err);

	iommu->ops->close(iommu);
	return code;
}

static struct vfio_device open_device(void)
{
	struct vfio_device device;
	struct error err = { 0 };

	if (try_device(&device, &err))
		fail_msg("%s", err.what);
	return device;
}

static void a_device_is_opened_by_its_address(void **state)
{
	struct vfio_device device;

	(void)state;
	device = open_device();
	assert_string_equal(host.opened, NAME);
	assert_string_equal(device.name, NAME);
	assert_int_equal(host.opened_of, GROUP);
	assert_int_equal(device.fd, host.device);
	vfio_device_close(&device);
	assert_int_equal(device.fd, -1);
	assert_int_equal(fcntl(host.device, F_GETFD), -1);
	vfio_device_close(&device);
}

static void regions_are_as_vfio_says(void **state)
{
	struct vfio_device device;

	(void)state;
	region_info()->flags |= VFIO_REGION_INFO_FLAG_MMAP;
	device = open_device();
	assert_int_equal(device.regions[0].size, 0);
	assert_int_equal(device.regions[1].size, 0x8000);
	assert_int_equal(device.regions[1].fd_offset, 0x10000);
	assert_true(device.regions[1].readable && device.regions[1].writable);
	assert_int_equal(device.regions[1].area_count, 1);
	assert_int_equal(device.regions[1].areas[0].offset, 0);
	assert_int_equal(device.regions[1].areas[0].size, 0x8000);
	assert_int_equal(device.regions[2].size, 0x100);
	assert_false(device.regions[2].readable || device.regions[2].writable);
	assert_int_equal(device.regions[2].area_count, 0);
	assert_int_equal(device.regions[VFIO_PCI_CONFIG_REGION_INDEX].fd_offset, 0x70000);
	/* VGA's is behind what we know of; a device may have fewer. */
	host.regions = 2;
	device = open_device();
	assert_int_equal(device.regions[1].size, 0x8000);
	assert_int_equal(device.regions[2].size, 0);
	region_info()->flags = VFIO_REGION_INFO_FLAG_READ;
	device = open_device();
	assert_true(device.regions[1].readable && !device.regions[1].writable);
	assert_int_equal(device.regions[1].area_count, 0);
}

/* Instead of the whole; before it may come what we do not know. */
static void sparse_areas_take_the_place_of_the_whole(void **state)
{
	struct vfio_region_info_cap_sparse_mmap *cap;
	struct vfio_info_cap_header *other;
	struct vfio_device device;

	(void)state;
	region_info()->flags |= VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
	other = append_cap(&host.region, &region_info()->cap_offset,
		VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, sizeof(*other));
	device = open_device();
	assert_int_equal(device.regions[1].area_count, 1);
	assert_int_equal(device.regions[1].areas[0].size, 0x8000);
	cap = append_cap(&host.region, &other->next, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
		sizeof(*cap) + 10 * sizeof(cap->areas[0]));
	cap->nr_areas = 2;
	cap->areas[0].size = 0x1000;
	cap->areas[1].offset = 0x3000;
	cap->areas[1].size = 0x5000;
	device = open_device();
	assert_int_equal(device.regions[1].area_count, 2);
	assert_int_equal(device.regions[1].areas[0].size, 0x1000);
	assert_int_equal(device.regions[1].areas[1].offset, 0x3000);
	assert_int_equal(device.regions[1].areas[1].size, 0x5000);
	cap->nr_areas = 10;
	device = open_device();
	assert_int_equal(device.regions[1].area_count, VFIO_AREAS_MAX);
	host.region.size -= 9 * sizeof(cap->areas[0]); /* the answer holds but one */
	device = open_device();
	assert_int_equal(device.regions[1].area_count, 1);
	cap->nr_areas = 0;
	device = open_device();
	assert_int_equal(device.regions[1].area_count, 0);
	/* Without the flag it means nothing. */
	region_info()->flags &= ~VFIO_REGION_INFO_FLAG_CAPS;
	device = open_device();
	assert_int_equal(device.regions[1].area_count, 1);
}

static void interrupts_are_as_vfio_says(void **state)
{
	struct vfio_device device;

	(void)state;
	device = open_device();
	for (unsigned i = 0; i < VFIO_PCI_NUM_IRQS; i++)
		assert_int_equal(device.irqs[i].count, i == VFIO_PCI_ERR_IRQ_INDEX ? 0 : 4);
	assert_true(device.irqs[VFIO_PCI_MSIX_IRQ_INDEX].can_grow);
	host.irq_flags |= VFIO_IRQ_INFO_NORESIZE;
	host.irq_count = 5000;
	host.irqs = VFIO_PCI_MSIX_IRQ_INDEX + 1;
	device = open_device();
	assert_false(device.irqs[VFIO_PCI_MSIX_IRQ_INDEX].can_grow);
	assert_int_equal(device.irqs[VFIO_PCI_MSIX_IRQ_INDEX].count, 2048);
	assert_int_equal(device.irqs[VFIO_PCI_REQ_IRQ_INDEX].count, 0);
	host.irq_flags = 0; /* no eventfds */
	device = open_device();
	assert_int_equal(device.irqs[VFIO_PCI_MSIX_IRQ_INDEX].count, 0);
}

static void a_device_fails(void **state)
{
	static const struct failure failures[] = {
		{ VFIO_GROUP_GET_DEVICE_FD, EBUSY, 1, "cannot open the device", "dmesg" },
		{ VFIO_DEVICE_GET_INFO, EIO, 1, "does not tell about the device", "" },
		{ VFIO_DEVICE_GET_REGION_INFO, EIO, 1, "cannot read its region 0", "" },
		{ VFIO_DEVICE_GET_REGION_INFO, EPERM, 2, "cannot read its region 0", "" },
		{ VFIO_DEVICE_GET_REGION_INFO, EIO, 3, "cannot read its region 1", "" },
	};

	(void)state;
	append(&host.region, 32); /* so that it takes two calls */
	for (unsigned i = 0; i < ARRAY_SIZE(failures); i++) {
		struct vfio_device device;
		struct error err = { 0 };

		host.failing = failures[i].request;
		host.error = failures[i].error;
		host.fails_at = failures[i].at;
		host.calls = 0;
		memset(host.attached, 0, sizeof(host.attached));
		assert_int_equal(try_device(&device, &err), -failures[i].error);
		assert_int_equal(err.code, -failures[i].error);
		assert_string_equal(err.object, NAME);
		assert_non_null(strstr(err.what, failures[i].what));
		assert_non_null(strstr(err.hint, failures[i].hint));
	}
}

static void what_is_no_pci_device_is_refused(void **state)
{
	struct vfio_device device;
	struct error err = { 0 };

	(void)state;
	host.device_flags = VFIO_DEVICE_FLAGS_PLATFORM;
	assert_int_equal(try_device(&device, &err), -ENODEV);
	assert_non_null(strstr(err.what, "no PCI device"));
}

/* Accesses */

static void a_region_is_read_and_written(void **state)
{
	struct vfio_device device = open_device();
	uint64_t in_file;

	(void)state;
	vfio_region_write(&device, 1, 0x10, 8, 0x1122334455667788);
	assert_int_equal(pread(host.device, &in_file, 8, 0x10010), 8);
	assert_true(in_file == 0x1122334455667788);
	vfio_region_write(&device, 1, 0x12, 2, 0xffffffffffffaaaa);
	assert_true(vfio_region_read(&device, 1, 0x10, 8) == 0x11223344aaaa7788);
	assert_int_equal(vfio_region_read(&device, 1, 0x13, 1), 0xaa);
	/* What the device does not answer. */
	assert_true(vfio_region_read(&device, 1, 0x20000, 4) == UINT64_MAX);
	assert_true(vfio_region_read(&device, 1, 0xfffe, 4) == UINT64_MAX);
	device.fd = -1;
	vfio_region_write(&device, 1, 0, 4, 0);
	assert_true(vfio_region_read(&device, 1, 0, 4) == UINT64_MAX);
}

/* Large pages need both addresses at the same distance from a border of them. */
static void a_mapping_is_aligned_as_the_region_is(void **state)
{
	static const struct {
		uint64_t region, offset, size, alignment;
	} cases[] = {
		{ 0x8000, 0, 0x8000, 0x8000 },
		{ 0x8000, 0x3000, 0x1000, 0x8000 },
		{ 64 * MIB, 0x3000, 0x1000, 64 * MIB },
		{ 0x100, 0, 0x1000, 0x1000 },
		{ 64 * GIB, 0, 0x2000, GIB },
	};
	struct vfio_device device = open_device();

	(void)state;
	vfio_region_write(&device, 1, 0, 4, 0x11111111);
	vfio_region_write(&device, 1, 0x3000, 4, 0x22222222);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t *at;

		device.regions[1].size = cases[i].region;
		at = vfio_region_map(&device, 1, cases[i].offset, cases[i].size);
		assert_non_null(at);
		assert_int_equal(((uintptr_t)at - cases[i].offset) % cases[i].alignment, 0);
		assert_int_equal(*at, cases[i].offset ? 0x22222222 : 0x11111111);
		at[1] = i + 1;
		assert_int_equal(vfio_region_read(&device, 1, cases[i].offset + 4, 4), i + 1);
		munmap(at, cases[i].size);
	}
}

/* Neither behind nor before a mapping does anything stay reserved. */
static void nothing_but_the_mapping_stays(void **state)
{
	struct vfio_device device = open_device();
	unsigned char present;

	(void)state;
	device.regions[1].size = 64 * MIB;
	for (unsigned i = 0; i < 4; i++) {
		char *at = vfio_region_map(&device, 1, 0x3000, 0x1000);

		assert_non_null(at);
		assert_int_equal(mincore(at, 0x1000, &present), 0);
		assert_int_equal(mincore(at - 0x1000, 0x1000, &present), -1);
		assert_int_equal(mincore(at + 0x1000, 0x1000, &present), -1);
		munmap(at, 0x1000);
		assert_int_equal(mincore(at, 0x1000, &present), -1);
		assert_int_equal(errno, ENOMEM);
	}
}

static void a_mapping_is_as_the_region_allows(void **state)
{
	struct vfio_device device = open_device();
	int only_read = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	void *at;

	(void)state;
	device.fd = only_read;
	device.regions[1].fd_offset = 0;
	assert_null(vfio_region_map(&device, 1, 0, 0x1000));
	assert_int_equal(errno, EACCES); /* of the call that failed */
	device.regions[1].writable = false;
	at = vfio_region_map(&device, 1, 0, 0x1000);
	assert_non_null(at);
	assert_int_equal(write(host.device, at, 1), 1);
	close(only_read);
	/* Neither: nobody can read it, the kernel on our behalf neither. */
	device.fd = host.device;
	device.regions[1].readable = false;
	at = vfio_region_map(&device, 1, 0, 0x1000);
	assert_non_null(at);
	assert_int_equal(write(host.device, at, 1), -1);
	assert_int_equal(errno, EFAULT);
	device.regions[1].size = 1ULL << 62;
	assert_null(vfio_region_map(&device, 1, 0, 1ULL << 62));
	assert_int_equal(errno, ENOMEM);
}

/* Interrupts */

static void vectors_are_set_by_one_call(void **state)
{
	struct vfio_device device = open_device();
	const int fds[] = { 10, -1, 12 };

	(void)state;
	assert_int_equal(vfio_irq_set(&device, VFIO_PCI_MSIX_IRQ_INDEX, 1, 3, fds), 0);
	assert_int_equal(host.set.argsz, sizeof(struct vfio_irq_set) + sizeof(fds));
	assert_int_equal(host.set.flags, VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD);
	assert_int_equal(host.set.index, VFIO_PCI_MSIX_IRQ_INDEX);
	assert_int_equal(host.set.start, 1);
	assert_int_equal(host.set.count, 3);
	assert_memory_equal(host.set.fds, fds, sizeof(fds));
	/* The number of those that the host has left. */
	assert_int_equal(vfio_irq_set(&device, VFIO_PCI_MSIX_IRQ_INDEX, 2, 3, fds), 4);
	host.failing = VFIO_DEVICE_SET_IRQS;
	host.error = ENOSPC;
	assert_int_equal(vfio_irq_set(&device, VFIO_PCI_MSIX_IRQ_INDEX, 0, 3, fds), -ENOSPC);
}

static void an_index_is_switched_off_whole(void **state)
{
	struct vfio_device device = open_device();

	(void)state;
	assert_int_equal(vfio_irq_disable(&device, VFIO_PCI_MSI_IRQ_INDEX), 0);
	assert_int_equal(host.set.argsz, sizeof(struct vfio_irq_set));
	assert_int_equal(host.set.flags, VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE);
	assert_int_equal(host.set.index, VFIO_PCI_MSI_IRQ_INDEX);
	assert_int_equal(host.set.start + host.set.count, 0);
}

static void intx_is_masked_and_unmasked(void **state)
{
	struct vfio_device device = open_device();

	(void)state;
	assert_int_equal(vfio_intx_mask(&device, true), 0);
	assert_int_equal(host.set.argsz, sizeof(struct vfio_irq_set));
	assert_int_equal(host.set.flags, VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_DATA_NONE);
	assert_int_equal(host.set.index, VFIO_PCI_INTX_IRQ_INDEX);
	assert_int_equal(host.set.start, 0);
	assert_int_equal(host.set.count, 1);
	assert_int_equal(vfio_intx_mask(&device, false), 0);
	assert_int_equal(host.set.flags, VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_NONE);
	assert_int_equal(vfio_intx_unmask_by(&device, 11), 0);
	assert_int_equal(host.set.flags, VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_EVENTFD);
	assert_int_equal(host.set.index, VFIO_PCI_INTX_IRQ_INDEX);
	assert_int_equal(host.set.count, 1);
	assert_int_equal(host.set.start, 0);
	assert_int_equal(host.set.fds[0], 11);
}

/* Chains that the kernel does not make */

static void a_chain_ends(void **state)
{
	struct answer answer = { 0 };
	struct vfio_info_cap_header *header;
	uint32_t first = 0;
	size_t room;

	(void)state;
	append(&answer, 16);
	header = append_cap(&answer, &first, 5, 24);
	assert_ptr_equal(vfio_capability(&answer, answer.size, first, 5, 24, &room), header);
	assert_int_equal(room, 24);
	assert_null(vfio_capability(&answer, answer.size, first, 5, 25, &room));
	assert_null(vfio_capability(&answer, answer.size, first, 6, 8, &room));
	assert_null(vfio_capability(&answer, answer.size, 0, 0, 8, &room));
	/* Back, to itself, to no border, behind the end. */
	for (unsigned i = 0; i < 5; i++) {
		static const uint32_t next[] = { 8, 16, 20, 40, UINT32_MAX };

		header->next = next[i];
		assert_null(vfio_capability(&answer, answer.size, first, 6, 8, &room));
		assert_null(vfio_capability(&answer, answer.size, next[i], 6, 8, &room));
	}
	assert_ptr_equal(vfio_capability(&answer, 24, first, 5, 8, &room), header);
	assert_null(vfio_capability(&answer, 23, first, 5, 8, &room));
}

#define VFIO_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		VFIO_TEST(groups_are_attached_once),
		VFIO_TEST(a_kernel_without_ranges_maps_everywhere),
		VFIO_TEST(the_kernels_ranges_are_taken),
		VFIO_TEST(no_more_ranges_than_there_is_room_for),
		VFIO_TEST(the_container_fails),
		VFIO_TEST(a_group_that_is_not_viable_is_refused),
		VFIO_TEST(a_kernel_without_type_1_is_refused),
		VFIO_TEST(memory_is_mapped_for_reads_and_writes),
		VFIO_TEST(a_device_is_opened_by_its_address),
		VFIO_TEST(regions_are_as_vfio_says),
		VFIO_TEST(sparse_areas_take_the_place_of_the_whole),
		VFIO_TEST(interrupts_are_as_vfio_says),
		VFIO_TEST(a_device_fails),
		VFIO_TEST(what_is_no_pci_device_is_refused),
		VFIO_TEST(a_region_is_read_and_written),
		VFIO_TEST(a_mapping_is_aligned_as_the_region_is),
		VFIO_TEST(nothing_but_the_mapping_stays),
		VFIO_TEST(a_mapping_is_as_the_region_allows),
		VFIO_TEST(vectors_are_set_by_one_call),
		VFIO_TEST(an_index_is_switched_off_whole),
		VFIO_TEST(intx_is_masked_and_unmasked),
		VFIO_TEST(a_chain_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
