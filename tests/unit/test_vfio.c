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
 * What VFIO tells of a device, and is told. The linker hands us the ioctls (-Wl,--wrap=ioctl): the
 * device, which is a file, answers as the kernel does. The IOMMU that it joins is our own.
 */

#define SOURCE 1001
#define NAME   "0000:01:00.0"

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
	int device;        /* what opens */
	uint32_t device_flags, regions, irqs;
	struct answer region;
	bool no_vga;
	uint32_t irq_flags, irq_count;
	/* What was asked. */
	int source;
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
	int code = host.no_vga && index == VFIO_PCI_VGA_REGION_INDEX
			   ? refuse(EINVAL)
			   : give(&host.region, info, sizeof(*info));

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

static int answer(unsigned long request, void *argument)
{
	struct vfio_device_info *device = argument;

	switch (request) {
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
	assert_int_equal(fd, host.device);
	return answer(request, argument);
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

static struct vfio_region_info *region_info(void)
{
	return (void *)host.region.bytes;
}

static int setup(void **state)
{
	(void)state;
	memset(&host, 0, sizeof(host));
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

/* A device */

static int add_device(struct vfio_iommu *iommu, struct vfio_device *device,
	const struct vfio_source *source, struct error *err)
{
	(void)iommu;
	host.source = source->fd;
	if (host.device < 0)
		return error_set(err, host.device, device->name, "does not join");
	device->fd = host.device;
	return 0;
}

static void remove_device(struct vfio_iommu *iommu, struct vfio_device *device)
{
	assert_ptr_equal(iommu, device->iommu);
	close(device->fd);
}

static const struct vfio_iommu_ops iommu_ops = {
	.add_device = add_device,
	.remove_device = remove_device,
};

static int try_device(struct vfio_device *device, struct error *err)
{
	static struct vfio_iommu iommu = { .ops = &iommu_ops };
	const struct vfio_source source = { { .bus = 1 }, SOURCE };

	return vfio_device_open(device, &iommu, &source, err);
}

static struct vfio_device open_device(void)
{
	struct vfio_device device;
	struct error err = { 0 };

	if (try_device(&device, &err))
		fail_msg("%s", err.what);
	return device;
}

static void a_device_opens_by_the_iommu(void **state)
{
	struct vfio_device device;

	(void)state;
	device = open_device();
	assert_string_equal(device.name, NAME);
	assert_int_equal(host.source, SOURCE);
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
	assert_int_equal(device.regions[VFIO_PCI_VGA_REGION_INDEX].fd_offset, 0x80000);
	/* Most devices have none there, and then there is no such index. */
	host.no_vga = true;
	device = open_device();
	assert_int_equal(device.regions[VFIO_PCI_VGA_REGION_INDEX].size, 0);
	/* A device may have fewer. */
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

/* A call that fails the at-th time, and what is told then. */
struct failure {
	unsigned long request;
	int error;
	unsigned at;
	const char *what;
};

static void a_device_fails(void **state)
{
	static const struct failure failures[] = {
		{ VFIO_DEVICE_GET_INFO, EIO, 1, "does not tell about the device" },
		{ VFIO_DEVICE_GET_REGION_INFO, EIO, 1, "cannot read its region 0" },
		{ VFIO_DEVICE_GET_REGION_INFO, EPERM, 2, "cannot read its region 0" },
		{ VFIO_DEVICE_GET_REGION_INFO, EIO, 3, "cannot read its region 1" },
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
		assert_int_equal(try_device(&device, &err), -failures[i].error);
		assert_int_equal(err.code, -failures[i].error);
		assert_string_equal(err.object, NAME);
		assert_non_null(strstr(err.what, failures[i].what));
		vfio_device_close(&device);
		assert_int_equal(fcntl(host.device, F_GETFD), -1);
		host.device = memfd_create("device", MFD_CLOEXEC);
	}
}

static void a_device_that_does_not_join_is_not_open(void **state)
{
	struct vfio_device device;
	struct error err = { 0 };

	(void)state;
	close(host.device);
	host.device = -EPERM;
	assert_int_equal(try_device(&device, &err), -EPERM);
	assert_int_equal(device.fd, -1);
	vfio_device_close(&device);
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
		VFIO_TEST(a_device_opens_by_the_iommu),
		VFIO_TEST(regions_are_as_vfio_says),
		VFIO_TEST(sparse_areas_take_the_place_of_the_whole),
		VFIO_TEST(interrupts_are_as_vfio_says),
		VFIO_TEST(a_device_fails),
		VFIO_TEST(a_device_that_does_not_join_is_not_open),
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
