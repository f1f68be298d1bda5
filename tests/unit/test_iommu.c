/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "test.h"
#include "vfio/device.h"
#include "vfio/iommu.h"
#include "vfio/kernel_api.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/*
 * An address space and the devices in it: what is the same for all back ends is asked of each. The linker hands us ioctl() and close() (-Wl,--wrap): the
 * kernel's side keeps what devices reach by now, and lets go of it as the kernel does. A node is a
 * file without a name, so that a duplicate of its descriptor is known for the same one.
 */

#define NODES        4
#define MAPPINGS_MAX 64
#define IOAS         7

/* Where a test has a part of a region; of iommufd's parts the kernel knows no more. */
#define BAR_HVA(region, offset) (0x7e0000000000 + (region)*1024 * GIB + (offset))

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_close(int fd);
int __real_close(int fd);

/* A group, or a device's own node. */
struct node {
	int fd; /* -1: closed */
	bool bound, joined;
	unsigned opened; /* devices of it */
	uint32_t flags;  /* VFIO_GROUP_FLAGS_... */
};

static struct {
	unsigned long failing; /* this ioctl fails, with this errno */
	int error;
	unsigned fails_at; /* not before its so manieth call */
	bool no_type1;
	struct iova_range ranges[40];
	unsigned range_count; /* 0: the kernel does not tell */
	int answer_shorter;   /* by so many ranges than it says */
	unsigned other_caps;  /* before the one that is looked for */
	/* Its state. */
	pthread_mutex_t lock;
	enum vfio_iommu_kind kind;
	int iommu;   /* /dev/vfio/vfio or /dev/iommu */
	bool is_set; /* VFIO_SET_IOMMU, IOMMU_IOAS_ALLOC */
	struct node nodes[NODES];
	struct {
		uint64_t iova, size, hva;
	} mappings[MAPPINGS_MAX];
	unsigned mapping_count, maps;
	/* What was told to whoever must know. */
	unsigned told; /* a bit a node */
	int code;      /* what that says */
	unsigned calls;
	unsigned us_a_mib; /* that mapping takes */
} host;

/* What a descriptor that VFIO gives for a part of a region holds. */
struct exported {
	uint64_t hva, size;
};

static int refuse(int error)
{
	errno = error;
	return -1;
}

static struct node *node_of(int fd)
{
	for (unsigned i = 0; i < NODES; i++)
		if (host.nodes[i].fd == fd)
			return &host.nodes[i];
	fail_msg("%d is no node", fd);
	return NULL;
}

static unsigned joined(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < NODES; i++)
		count += host.nodes[i].joined;
	return count;
}

/* What devices reach at iova, 0: nothing. */
static uint64_t reached(uint64_t iova)
{
	for (unsigned i = 0; i < host.mapping_count && joined(); i++)
		if (iova - host.mappings[i].iova < host.mappings[i].size)
			return host.mappings[i].hva + (iova - host.mappings[i].iova);
	return 0;
}

static int add_mapping(uint64_t iova, uint64_t size, uint64_t hva)
{
	host.maps++;
	assert_true(host.mapping_count < MAPPINGS_MAX);
	for (unsigned i = 0; i < host.mapping_count; i++)
		if (iova < host.mappings[i].iova + host.mappings[i].size &&
			host.mappings[i].iova < iova + size)
			return refuse(EEXIST);
	host.mappings[host.mapping_count].iova = iova;
	host.mappings[host.mapping_count].size = size;
	host.mappings[host.mapping_count++].hva = hva;
	return 0;
}

/* All that is within, and none in part. */
static int drop_mappings(uint64_t iova, uint64_t size)
{
	unsigned before = host.mapping_count;

	for (unsigned i = 0; i < host.mapping_count;) {
		uint64_t first = host.mappings[i].iova, end = first + host.mappings[i].size;

		if (first >= iova + size || end <= iova) {
			i++;
			continue;
		}
		if (first < iova || end > iova + size)
			return refuse(host.kind == VFIO_IOMMU_TYPE1 ? EINVAL : ENOENT);
		host.mappings[i] = host.mappings[--host.mapping_count];
	}
	return host.mapping_count < before ? 0 : refuse(ENOENT);
}

static uint64_t cpu_us(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1000000ULL + time.tv_nsec / 1000;
}

/* Of this CPU, as the kernel needs it. */
static void take_time(uint64_t size)
{
	uint64_t end = cpu_us() + size / MIB * host.us_a_mib;

	while (host.us_a_mib && cpu_us() < end)
		continue;
}

/* Type 1: the answer with a chain behind it, as long as argsz allows. */
static int get_info(struct vfio_iommu_type1_info *info)
{
	struct {
		struct vfio_iommu_type1_info head;
		_Alignas(8) struct vfio_info_cap_header others[2];
		struct {
			struct vfio_info_cap_header header;
			uint32_t nr_iovas, reserved;
		} cap; /* struct vfio_iommu_type1_info_cap_iova_range */
		struct vfio_iova_range ranges[ARRAY_SIZE(host.ranges)];
	} answer = { .cap = { .header.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE } };
	size_t caps = offsetof(typeof(answer), others), cap = offsetof(typeof(answer), cap);
	uint32_t argsz = info->argsz;
	size_t size = sizeof(answer.head);

	assert_true(host.is_set && argsz >= 16);
	if (host.range_count || host.other_caps) {
		answer.head.flags = VFIO_IOMMU_INFO_CAPS;
		answer.head.cap_offset = host.other_caps ? caps : cap;
		answer.others[0] =
			(struct vfio_info_cap_header){ VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, 1,
				host.range_count ? cap : 0 };
		answer.cap.nr_iovas = host.range_count + host.answer_shorter;
		for (unsigned i = 0; i < host.range_count; i++)
			answer.ranges[i] = (struct vfio_iova_range){ host.ranges[i].first,
				host.ranges[i].last };
		size = offsetof(typeof(answer), ranges) +
		       host.range_count * sizeof(answer.ranges[0]);
	}
	answer.head.argsz = size;
	memcpy(info, &answer, argsz < size ? sizeof(answer.head) : size);
	return 0;
}

static int set_container(struct node *node, int container)
{
	assert_int_equal(container, host.iommu);
	assert_false(node->joined);
	node->joined = true;
	return 0;
}

static int open_device(struct node *node)
{
	assert_true(node->joined && host.is_set);
	assert_true(host.told >> (node - host.nodes) & 1);
	node->opened++;
	return memfd_create("device", MFD_CLOEXEC);
}

static int answer_type1(int fd, unsigned long request, void *argument)
{
	const struct vfio_iommu_type1_dma_map *map = argument;
	const struct vfio_iommu_type1_dma_unmap *unmap = argument;

	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		((struct vfio_group_status *)argument)->flags = node_of(fd)->flags;
		return 0;
	case VFIO_GROUP_SET_CONTAINER:
		return set_container(node_of(fd), *(int *)argument);
	case VFIO_GROUP_GET_DEVICE_FD:
		return open_device(node_of(fd));
	}
	assert_int_equal(fd, host.iommu);
	switch (request) {
	case VFIO_CHECK_EXTENSION:
		return !host.no_type1 && (uintptr_t)argument == VFIO_TYPE1v2_IOMMU;
	case VFIO_SET_IOMMU:
		assert_int_equal((uintptr_t)argument, VFIO_TYPE1v2_IOMMU);
		if (host.is_set || !joined())
			return refuse(EINVAL);
		host.is_set = true;
		return 0;
	case VFIO_IOMMU_GET_INFO:
		return get_info(argument);
	case VFIO_IOMMU_MAP_DMA:
		assert_true(host.is_set && map->argsz == sizeof(*map));
		assert_int_equal(map->flags, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
		take_time(map->size);
		return add_mapping(map->iova, map->size, map->vaddr);
	case VFIO_IOMMU_UNMAP_DMA:
		assert_true(host.is_set && unmap->argsz == sizeof(*unmap) && !unmap->flags);
		return drop_mappings(unmap->iova, unmap->size);
	default:
		fail_msg("ioctl %#lx", request);
		return -1;
	}
}

static int bind_device(struct node *node, const struct vfio_device_bind_iommufd *bind)
{
	assert_true(bind->argsz >= 16 && !bind->flags);
	assert_int_equal(bind->iommufd, host.iommu);
	assert_true(host.told >> (node - host.nodes) & 1);
	assert_false(node->bound);
	node->bound = true;
	node->opened++;
	return 0;
}

static int attach_device(struct node *node, struct vfio_device_attach_iommufd_pt *attach)
{
	assert_true(attach->argsz >= 12 && !attach->flags && attach->pt_id == IOAS);
	assert_true(node->bound && !node->joined);
	node->joined = true;
	attach->pt_id = 99; /* of its page table */
	return 0;
}

static int give_ranges(struct iommu_ioas_iova_ranges *query)
{
	struct iommu_iova_range *ranges = (void *)(uintptr_t)query->allowed_iovas;
	unsigned room = query->num_iovas;

	assert_true(query->size == sizeof(*query) && query->ioas_id == IOAS && !query->reserved);
	for (unsigned i = 0; i < room && i < host.range_count; i++)
		ranges[i] = (struct iommu_iova_range){ host.ranges[i].first, host.ranges[i].last };
	query->num_iovas = host.range_count;
	return room < host.range_count ? refuse(EMSGSIZE) : 0;
}

static int export_part(const struct vfio_device_feature *feature)
{
	const struct vfio_device_feature_dma_buf *part = (const void *)feature->data;
	struct exported exported;
	int fd = memfd_create("dma-buf", MFD_CLOEXEC);

	assert_int_equal(
		feature->argsz, sizeof(*feature) + sizeof(*part) + sizeof(part->dma_ranges[0]));
	assert_int_equal(feature->flags, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF);
	assert_true(!part->flags && part->nr_ranges == 1);
	assert_int_equal(part->open_flags, O_RDWR | O_CLOEXEC);
	exported.hva = BAR_HVA(part->region_index, part->dma_ranges[0].offset);
	exported.size = part->dma_ranges[0].length;
	assert_int_equal(pwrite(fd, &exported, sizeof(exported), 0), sizeof(exported));
	return fd;
}

static int map_file(const struct iommu_ioas_map_file *map)
{
	struct exported exported;

	assert_true(map->size == sizeof(*map) && map->ioas_id == IOAS && !map->start);
	assert_int_equal(map->flags,
		IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE);
	assert_int_equal(pread(map->fd, &exported, sizeof(exported), 0), sizeof(exported));
	assert_true(map->length == exported.size);
	return add_mapping(map->iova, map->length, exported.hva);
}

static int answer_iommufd(int fd, unsigned long request, void *argument)
{
	const struct iommu_ioas_map *map = argument;
	const struct iommu_ioas_unmap *unmap = argument;
	const struct iommu_destroy *destroy = argument;

	if (request == VFIO_DEVICE_BIND_IOMMUFD)
		return bind_device(node_of(fd), argument);
	if (request == VFIO_DEVICE_ATTACH_IOMMUFD_PT)
		return attach_device(node_of(fd), argument);
	if (request == VFIO_DEVICE_FEATURE)
		return node_of(fd)->joined ? export_part(argument) : refuse(EINVAL);
	assert_int_equal(fd, host.iommu);
	assert_int_equal(host.is_set, request != IOMMU_IOAS_ALLOC);
	switch (request) {
	case IOMMU_IOAS_ALLOC:
		assert_int_equal(*(uint32_t *)argument, sizeof(struct iommu_ioas_alloc));
		((struct iommu_ioas_alloc *)argument)->out_ioas_id = IOAS;
		host.is_set = true;
		return 0;
	case IOMMU_DESTROY:
		assert_true(destroy->size == sizeof(*destroy) && destroy->id == IOAS);
		assert_int_equal(joined(), 0); /* it would be busy */
		host.is_set = false;
		return 0;
	case IOMMU_IOAS_MAP:
		assert_true(map->size == sizeof(*map) && map->ioas_id == IOAS && !map->reserved);
		assert_int_equal(map->flags, IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
						     IOMMU_IOAS_MAP_READABLE);
		return add_mapping(map->iova, map->length, map->user_va);
	case IOMMU_IOAS_MAP_FILE:
		return map_file(argument);
	case IOMMU_IOAS_UNMAP:
		assert_true(unmap->size == sizeof(*unmap) && unmap->ioas_id == IOAS);
		return drop_mappings(unmap->iova, unmap->length);
	case IOMMU_IOAS_IOVA_RANGES:
		return give_ranges(argument);
	default:
		fail_msg("ioctl %#lx", request);
		return -1;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;
	int code;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	pthread_mutex_lock(&host.lock);
	if (request == host.failing && ++host.calls >= host.fails_at)
		code = refuse(host.error);
	else if (host.kind == VFIO_IOMMU_TYPE1)
		code = answer_type1(fd, request, argument);
	else
		code = answer_iommufd(fd, request, argument);
	pthread_mutex_unlock(&host.lock);
	return code;
}

/* A node leaves with its descriptor; the last group of a container takes the mappings along. */
int __wrap_close(int fd)
{
	pthread_mutex_lock(&host.lock);
	for (unsigned i = 0; i < NODES; i++) {
		struct node *node = &host.nodes[i];

		if (node->fd != fd)
			continue;
		assert_false(host.told >> i & 1); /* it would not be closed */
		node->fd = -1;
		node->bound = node->joined = false;
	}
	if (host.kind == VFIO_IOMMU_TYPE1 && !joined()) {
		host.is_set = false;
		host.mapping_count = 0;
	}
	pthread_mutex_unlock(&host.lock);
	return __real_close(fd);
}

static int opening(void *opaque, int fd)
{
	assert_ptr_equal(opaque, &host);
	if (host.code)
		return host.code;
	pthread_mutex_lock(&host.lock);
	host.told |= 1U << (node_of(fd) - host.nodes);
	pthread_mutex_unlock(&host.lock);
	return 0;
}

static void closed(void *opaque, int fd)
{
	assert_ptr_equal(opaque, &host);
	pthread_mutex_lock(&host.lock);
	host.told &= ~(1U << (node_of(fd) - host.nodes));
	pthread_mutex_unlock(&host.lock);
}

static void make_node(unsigned i)
{
	host.nodes[i] = (struct node){
		.fd = memfd_create("node", MFD_CLOEXEC),
		.flags = VFIO_GROUP_FLAGS_VIABLE,
	};
}

static int setup(enum vfio_iommu_kind kind)
{
	memset(&host, 0, sizeof(host));
	pthread_mutex_init(&host.lock, NULL);
	for (unsigned i = 0; i < NODES; i++)
		make_node(i);
	host.iommu = memfd_create("iommu", MFD_CLOEXEC);
	host.kind = kind;
	return 0;
}

static int setup_type1(void **state)
{
	(void)state;
	return setup(VFIO_IOMMU_TYPE1);
}

static int setup_iommufd(void **state)
{
	(void)state;
	return setup(VFIO_IOMMU_IOMMUFD);
}

static int teardown(void **state)
{
	(void)state;
	host.told = 0;
	for (unsigned i = 0; i < NODES; i++)
		if (host.nodes[i].fd >= 0)
			close(host.nodes[i].fd);
	__real_close(host.iommu);
	pthread_mutex_destroy(&host.lock);
	return 0;
}

static struct vfio_iommu *open_iommu(void)
{
	const struct vfio_file_events files = { opening, closed, &host };
	struct error err = { 0 };
	struct vfio_iommu *iommu = vfio_iommu_open(host.kind, host.iommu, &files, &err);

	assert_non_null(iommu);
	return iommu;
}

static int try_add(
	struct vfio_iommu *iommu, unsigned node, struct vfio_device *device, struct error *err)
{
	const struct vfio_source source = { { .bus = node + 1 }, host.nodes[node].fd };

	*device = (struct vfio_device){ .fd = -1, .iommu = iommu };
	bdf_format(&source.bdf, device->name);
	return iommu->ops->add_device(iommu, device, &source, err);
}

static struct vfio_device add(struct vfio_iommu *iommu, unsigned node)
{
	struct vfio_device device;
	struct error err = { 0 };

	if (try_add(iommu, node, &device, &err))
		fail_msg("%s", err.what);
	assert_true(fcntl(device.fd, F_GETFD) >= 0);
	return device;
}

static void map(struct vfio_iommu *iommu, uint64_t iova, uint64_t size, uint64_t hva)
{
	struct error err = { 0 };

	if (iommu->ops->map(iommu, iova, size, (void *)hva, &err))
		fail_msg("%s", err.what);
}

static void assert_error(const struct error *err, int code, const char *what, const char *hint)
{
	if (err->code != code || !strstr(err->what, what) || !strstr(err->hint, hint) ||
		!*hint != !*err->hint)
		fail_msg("%d: %s; %s", err->code, err->what, err->hint);
}

static unsigned open_files(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Devices */

static void devices_join_and_leave(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device first, second;

	(void)state;
	first = add(iommu, 0);
	second = add(iommu, 1);
	assert_int_equal(joined(), 2);
	assert_int_equal(host.told, 3);
	vfio_device_close(&first);
	assert_int_equal(first.fd, -1);
	assert_int_equal(joined(), 1);
	assert_int_equal(host.told, 2);
	vfio_device_close(&first); /* no more than once */
	vfio_device_close(&second);
	assert_int_equal(joined(), 0);
	assert_int_equal(host.told, 0);
	iommu->ops->close(iommu);
	assert_true(fcntl(host.iommu, F_GETFD) >= 0); /* the caller's */
}

static void what_is_mapped_is_reached_until_it_is_not(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device device = add(iommu, 0);

	(void)state;
	map(iommu, 0, 2 * MIB, 0x7f0000000000);
	map(iommu, 4 * GIB, 4 * MIB, 0x7f1000000000);
	assert_int_equal(reached(0x1000), 0x7f0000001000);
	assert_int_equal(reached(4 * GIB + 0x300000), 0x7f1000300000);
	assert_int_equal(iommu->ops->unmap(iommu, 0, 2 * MIB), 0);
	assert_int_equal(reached(0x1000), 0);
	assert_int_equal(reached(4 * GIB), 0x7f1000000000);
	/* Neither twice nor in part. */
	assert_int_equal(iommu->ops->unmap(iommu, 0, 2 * MIB), -ENOENT);
	assert_int_equal(iommu->ops->unmap(iommu, 4 * GIB, 2 * MIB), -ENOENT);
	map(iommu, 0, 2 * MIB, 0x7f2000000000);
	assert_int_equal(reached(0x1000), 0x7f2000001000);
	vfio_device_close(&device);
	iommu->ops->close(iommu);
}

static void what_is_mapped_stays_without_a_device(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device device;

	(void)state;
	map(iommu, 0, 2 * MIB, 0x7f0000000000); /* before the first one */
	for (unsigned i = 0; i < 20; i++)
		map(iommu, (i + 1) * 4 * MIB, 2 * MIB, 0x7f1000000000 + i * 4 * MIB);
	device = add(iommu, 0);
	assert_int_equal(reached(0x1000), 0x7f0000001000);
	assert_int_equal(reached(80 * MIB), 0x7f1000000000 + 76 * MIB);
	vfio_device_close(&device);
	assert_int_equal(reached(0x1000), 0);
	assert_int_equal(iommu->ops->unmap(iommu, 4 * MIB, 2 * MIB), 0);
	device = add(iommu, 1);
	assert_int_equal(reached(0x1000), 0x7f0000001000);
	assert_int_equal(reached(4 * MIB), 0);
	assert_int_equal(host.mapping_count, 20);
	vfio_device_close(&device);
	iommu->ops->close(iommu);
}

/* A device that joins others has all that is there, by no call of its own. */
static void a_later_device_costs_no_mapping(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device first = add(iommu, 0), second;

	(void)state;
	map(iommu, 0, 2 * MIB, 0x7f0000000000);
	second = add(iommu, 1);
	assert_int_equal(host.maps, 1);
	vfio_device_close(&first);
	assert_int_equal(reached(0x1000), 0x7f0000001000);
	vfio_device_close(&second);
	iommu->ops->close(iommu);
}

static void a_mapping_that_fails_is_none(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device device = add(iommu, 0);
	struct error err = { 0 };
	void *hva = (void *)0x7f0000000000;

	(void)state;
	host.failing = host.kind == VFIO_IOMMU_TYPE1 ? VFIO_IOMMU_MAP_DMA : IOMMU_IOAS_MAP;
	host.error = ENOMEM;
	assert_int_equal(iommu->ops->map(iommu, 4 * GIB, 2 * MIB, hva, &err), -ENOMEM);
	assert_error(&err, -ENOMEM,
		"cannot map 2 MiB of guest RAM for DMA at IOVA 0x100000000: Cannot allocate",
		"ulimit -l");
	host.error = EINVAL;
	err = (struct error){ 0 };
	assert_int_equal(iommu->ops->map(iommu, 4 * GIB, 2 * MIB, hva, &err), -EINVAL);
	assert_error(&err, -EINVAL, "Invalid argument", "");
	host.failing = 0;
	assert_int_equal(iommu->ops->unmap(iommu, 4 * GIB, 2 * MIB), -ENOENT);
	vfio_device_close(&device);
	device = add(iommu, 1);
	assert_int_equal(host.mapping_count, 0);
	vfio_device_close(&device);
	iommu->ops->close(iommu);
}

struct joining {
	pthread_t thread;
	struct vfio_iommu *iommu;
	unsigned node;
	struct vfio_device device;
	struct error err;
};

static void *join_and_leave(void *opaque)
{
	struct joining *joining = opaque;

	try_add(joining->iommu, joining->node, &joining->device, &joining->err);
	vfio_device_close(&joining->device);
	return NULL;
}

static void threads_may_add_devices_at_once(void **state)
{
	struct joining joinings[NODES];
	struct vfio_iommu *iommu = open_iommu();

	(void)state;
	map(iommu, 0, 2 * MIB, 0x7f0000000000);
	for (unsigned i = 0; i < NODES; i++) {
		joinings[i] = (struct joining){ .iommu = iommu, .node = i };
		pthread_create(&joinings[i].thread, NULL, join_and_leave, &joinings[i]);
	}
	for (unsigned i = 0; i < NODES; i++) {
		pthread_join(joinings[i].thread, NULL);
		assert_int_equal(joinings[i].err.code, 0);
		assert_int_equal(host.nodes[i].opened, 1);
	}
	assert_int_equal(joined() + host.told, 0);
	iommu->ops->close(iommu);
}

static void whoever_must_know_may_refuse(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device device;
	struct error err = { 0 };

	(void)state;
	host.code = -EIO;
	assert_int_equal(try_add(iommu, 0, &device, &err), -EIO);
	assert_error(&err, -EIO, "cannot tell KVM", "");
	assert_string_equal(err.object, "0000:01:00.0");
	assert_int_equal(device.fd, -1);
	assert_int_equal(host.nodes[0].fd, -1);
	host.code = 0;
	device = add(iommu, 1);
	vfio_device_close(&device);
	iommu->ops->close(iommu);
}

/* Parts of devices */

#define PART_AT (512 * GIB)

static int try_part(struct vfio_iommu *iommu, uint64_t iova, const struct vfio_device *device,
	uint64_t size, struct error *err)
{
	const struct vfio_part part = { device, 2, 8 * KIB, size, (void *)BAR_HVA(2, 8 * KIB) };

	return iommu->ops->map_part(iommu, iova, &part, err);
}

static void map_part(
	struct vfio_iommu *iommu, uint64_t iova, const struct vfio_device *device, uint64_t size)
{
	struct error err = { 0 };

	if (try_part(iommu, iova, device, size, &err))
		fail_msg("%s", err.what);
}

static void a_part_is_reached_until_it_is_not(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device first = add(iommu, 0), second = add(iommu, 1);
	unsigned before = open_files();

	(void)state;
	map(iommu, 0, 2 * MIB, 0x7f0000000000);
	map_part(iommu, PART_AT, &second, 64 * KIB);
	assert_int_equal(reached(PART_AT + 0x1234), BAR_HVA(2, 8 * KIB + 0x1234));
	assert_int_equal(reached(PART_AT + 64 * KIB), 0);
	assert_int_equal(iommu->ops->unmap(iommu, PART_AT, 64 * KIB), 0);
	assert_int_equal(reached(PART_AT), 0);
	assert_int_equal(iommu->ops->unmap(iommu, PART_AT, 64 * KIB), -ENOENT);
	assert_int_equal(reached(0x1000), 0x7f0000001000);
	assert_int_equal(open_files(), before);
	vfio_device_close(&second);
	vfio_device_close(&first);
	iommu->ops->close(iommu);
}

static void a_part_takes_nothing_from_others(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device first = add(iommu, 0), second = add(iommu, 1);
	struct error err = { 0 };

	(void)state;
	map(iommu, 0, 2 * MIB, 0x7f0000000000);
	assert_int_equal(try_part(iommu, MIB, &first, 64 * KIB, &err), -EEXIST);
	assert_error(
		&err, -EEXIST, "no other device can reach 64 KiB of its BAR 2 by DMA", err.hint);
	assert_string_equal(err.object, "0000:01:00.0");
	assert_int_equal(iommu->ops->unmap(iommu, MIB, 64 * KIB), -ENOENT);
	assert_int_equal(reached(MIB), 0x7f0000000000 + MIB);
	map_part(iommu, PART_AT, &first, 64 * KIB);
	err = (struct error){ 0 };
	assert_int_equal(try_part(iommu, PART_AT + 32 * KIB, &second, 64 * KIB, &err), -EEXIST);
	assert_int_equal(reached(PART_AT + 32 * KIB), BAR_HVA(2, 40 * KIB));
	assert_int_equal(reached(PART_AT + 64 * KIB), 0);
	assert_int_equal(iommu->ops->unmap(iommu, PART_AT, 64 * KIB), 0);
	assert_int_equal(host.mapping_count, 1);
	vfio_device_close(&second);
	vfio_device_close(&first);
	iommu->ops->close(iommu);
}

static void a_part_that_moves_leaves_nothing(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device first = add(iommu, 0), second = add(iommu, 1);
	unsigned before = open_files();

	(void)state;
	for (uint64_t i = 0; i < 5000; i++) {
		map_part(iommu, PART_AT + i * MIB, &first, MIB);
		assert_int_equal(host.mapping_count, 1);
		assert_int_equal(iommu->ops->unmap(iommu, PART_AT + i * MIB, MIB), 0);
	}
	assert_int_equal(host.mapping_count, 0);
	assert_int_equal(open_files(), before);
	vfio_device_close(&second);
	vfio_device_close(&first);
	iommu->ops->close(iommu);
}

static void fail_part(struct vfio_iommu *iommu, const struct vfio_device *device,
	unsigned long request, int error, const char *hint)
{
	unsigned before = open_files();
	struct error err = { 0 };

	host.failing = request;
	host.error = error;
	assert_int_equal(try_part(iommu, PART_AT, device, 64 * KIB, &err), -error);
	assert_error(&err, -error, "no other device can reach 64 KiB", hint);
	host.failing = 0;
	assert_int_equal(host.mapping_count, 0);
	assert_int_equal(iommu->ops->unmap(iommu, PART_AT, 64 * KIB), -ENOENT);
	assert_int_equal(open_files(), before);
}

static void a_part_that_the_kernel_cannot_map_is_told(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device device = add(iommu, 0);

	(void)state;
	if (host.kind == VFIO_IOMMU_TYPE1) {
		fail_part(iommu, &device, VFIO_IOMMU_MAP_DMA, EFAULT, "");
	} else {
		fail_part(iommu, &device, VFIO_DEVICE_FEATURE, ENOTTY, "Linux 6.19");
		fail_part(iommu, &device, IOMMU_IOAS_MAP_FILE, EOPNOTSUPP, "--iommu type1");
	}
	map_part(iommu, PART_AT, &device, 64 * KIB);
	assert_int_equal(host.mapping_count, 1);
	assert_int_equal(iommu->ops->unmap(iommu, PART_AT, 64 * KIB), 0);
	vfio_device_close(&device);
	iommu->ops->close(iommu);
}

static void *map_and_unmap(void *opaque)
{
	struct joining *joining = opaque;

	for (unsigned i = 0; i < 200 && !joining->err.code; i++) {
		uint64_t at = PART_AT + joining->node * GIB;

		if (try_part(joining->iommu, at, &joining->device, MIB, &joining->err) == 0 &&
			joining->iommu->ops->unmap(joining->iommu, at, MIB))
			error_set(&joining->err, -EIO, NULL, "what was mapped is not there");
	}
	return NULL;
}

static void threads_may_map_parts_while_devices_come_and_go(void **state)
{
	struct joining joinings[NODES];
	struct vfio_iommu *iommu = open_iommu();

	(void)state;
	map(iommu, 0, 2 * MIB, 0x7f0000000000);
	for (unsigned i = 0; i < NODES; i++) {
		joinings[i] = (struct joining){ .iommu = iommu, .node = i };
		if (i < 2)
			joinings[i].device = add(iommu, i);
	}
	for (unsigned i = 0; i < NODES; i++)
		pthread_create(&joinings[i].thread, NULL, i < 2 ? map_and_unmap : join_and_leave,
			&joinings[i]);
	for (unsigned i = 0; i < NODES; i++) {
		pthread_join(joinings[i].thread, NULL);
		assert_int_equal(joinings[i].err.code, 0);
	}
	assert_int_equal(host.mapping_count, 1);
	for (unsigned i = 0; i < 2; i++)
		vfio_device_close(&joinings[i].device);
	iommu->ops->close(iommu);
}

/* By few calls where the kernel is fast, and not at all where it is slow. */
static void a_large_part_takes_no_longer(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device device = add(iommu, 0);
	struct error err = { 0 };
	uint64_t before;

	(void)state;
	map_part(iommu, PART_AT, &device, 16 * MIB);
	assert_int_equal(host.maps, 1);
	assert_int_equal(iommu->ops->unmap(iommu, PART_AT, 16 * MIB), 0);
	map_part(iommu, PART_AT, &device, 64 * GIB);
	assert_true(host.maps <= 1 + 13);
	for (uint64_t at = 0; at < 64 * GIB; at += GIB)
		assert_int_equal(reached(PART_AT + at), BAR_HVA(2, 8 * KIB + at));
	assert_int_equal(iommu->ops->unmap(iommu, PART_AT, 64 * GIB), 0);
	assert_int_equal(host.mapping_count, 0);
	if (host.kind == VFIO_IOMMU_TYPE1) {
		host.us_a_mib = 1000;
		before = cpu_us();
		assert_int_equal(try_part(iommu, PART_AT, &device, 64 * GIB, &err), -ETIME);
		assert_error(&err, -ETIME, "64 GiB", "Linux 6.15");
		assert_true(cpu_us() - before < 1000000); /* of 65 s */
		assert_int_equal(host.mapping_count, 0);
		assert_int_equal(iommu->ops->unmap(iommu, PART_AT, 64 * GIB), -ENOENT);
	}
	vfio_device_close(&device);
	iommu->ops->close(iommu);
}

/* Ranges */

static void a_range_is_known_or_not(void **state)
{
	struct vfio_iommu iommu = { .ranges = { { 0, 0xfedfffff }, { 0xfef00000, UINT64_MAX } } };

	(void)state;
	assert_true(vfio_iommu_has_range(&iommu, 0xfee00000, 4 * KIB)); /* nobody has told */
	iommu.range_count = 2;
	assert_true(vfio_iommu_has_range(&iommu, 0, 4 * KIB));
	assert_true(vfio_iommu_has_range(&iommu, 0xfedff000, 4 * KIB));
	assert_false(vfio_iommu_has_range(&iommu, 0xfedff000, 8 * KIB));
	assert_false(vfio_iommu_has_range(&iommu, 0xfee00000, 4 * KIB));
	assert_false(vfio_iommu_has_range(&iommu, 0xfeeff000, 8 * KIB));
	assert_true(vfio_iommu_has_range(&iommu, UINT64_MAX - 4 * KIB + 1, 4 * KIB));
	iommu.ranges[1].last = (1ULL << 39) - 1;
	assert_false(vfio_iommu_has_range(&iommu, 1ULL << 39, 4 * KIB));
}

static void assert_ranges(struct vfio_iommu *iommu, unsigned count)
{
	struct error err = { 0 };

	assert_int_equal(iommu->ops->read_ranges(iommu, &err), 0);
	assert_int_equal(iommu->range_count, count);
	for (unsigned i = 0; i < count; i++)
		assert_memory_equal(&iommu->ranges[i], &host.ranges[i], sizeof(host.ranges[i]));
}

/* The host's reserved regions, that of the MSIs among them, are left out. */
static void the_kernels_ranges_are_taken(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device device = add(iommu, 0);

	(void)state;
	host.ranges[0] = (struct iova_range){ 0, 0xfedfffff };
	host.ranges[1] = (struct iova_range){ 0xfef00000, 0x7fffffffffff };
	host.range_count = 2;
	assert_ranges(iommu, 2);
	host.other_caps = 1; /* before them */
	host.range_count = 1;
	assert_ranges(iommu, 1);
	host.range_count = IOVA_RANGES_MAX + 4; /* more than there is room for */
	assert_ranges(iommu, IOVA_RANGES_MAX);
	vfio_device_close(&device);
	iommu->ops->close(iommu);
}

static void ranges_may_not_be_told(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device device = add(iommu, 0);
	struct error err = { 0 };

	(void)state;
	host.ranges[0] = (struct iova_range){ 0, UINT64_MAX };
	assert_ranges(iommu, 1); /* an old kernel */
	host.other_caps = 1;
	assert_ranges(iommu, 1);
	host.failing = VFIO_IOMMU_GET_INFO;
	host.error = EIO;
	for (unsigned i = 1; i <= 2; i++) {
		host.calls = 0;
		host.fails_at = i;
		err = (struct error){ 0 };
		assert_int_equal(iommu->ops->read_ranges(iommu, &err), -EIO);
		assert_error(&err, -EIO, "what it can map", "");
	}
	vfio_device_close(&device);
	iommu->ops->close(iommu);
}

/* An answer that holds less than it says. */
static void no_more_ranges_than_the_answer_holds(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device device = add(iommu, 0);

	(void)state;
	host.range_count = 2;
	host.answer_shorter = 1000;
	assert_ranges(iommu, 2);
	vfio_device_close(&device);
	iommu->ops->close(iommu);
}

/* Groups, of type 1 alone */

static void a_group_joins_once_and_leaves_with_its_last_device(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device first = add(iommu, 0), second;
	int other = dup(host.nodes[0].fd);
	const struct vfio_source source = { { .bus = 1, .function = 1 }, other };
	unsigned before = open_files();
	struct error err = { 0 };

	(void)state;
	second = (struct vfio_device){ .fd = -1, .iommu = iommu };
	assert_int_equal(iommu->ops->add_device(iommu, &second, &source, &err), 0);
	assert_int_equal(host.nodes[0].opened, 2);
	assert_int_equal(open_files(), before); /* one of the group is enough */
	vfio_device_close(&first);
	assert_int_equal(joined(), 1);
	assert_int_equal(host.told, 1);
	vfio_device_close(&second);
	assert_int_equal(joined(), 0);
	assert_int_equal(host.told, 0);
	iommu->ops->close(iommu);
}

/* A call that fails, and what is told then. */
struct failure {
	unsigned long request;
	int error;
	const char *what, *hint;
};

static void refuse_each(struct vfio_iommu *iommu, const struct failure *failures, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct vfio_device device;
		struct error err = { 0 };

		host.failing = failures[i].request;
		host.error = failures[i].error;
		assert_int_equal(try_add(iommu, 0, &device, &err), -failures[i].error);
		assert_error(&err, -failures[i].error, failures[i].what, failures[i].hint);
		assert_string_equal(err.object, "0000:01:00.0");
		assert_int_equal(device.fd, -1);
		assert_int_equal(host.nodes[0].fd, -1);
		assert_int_equal(host.told & 1, 0);
		make_node(0);
	}
	host.failing = 0;
}

static void a_group_that_cannot_join_is_told(void **state)
{
	static const struct failure first[] = {
		{ VFIO_GROUP_GET_STATUS, EIO, "status", "" },
		{ VFIO_GROUP_SET_CONTAINER, EBUSY, "attach its group", "" },
		{ VFIO_SET_IOMMU, EPERM, "cannot remap interrupts", "interrupt remapping" },
		{ VFIO_SET_IOMMU, ENODEV, "cannot set up the IOMMU", "" },
		{ VFIO_GROUP_GET_DEVICE_FD, EBUSY, "cannot open the device", "dmesg" },
	};
	static const struct failure later[] = {
		{ VFIO_GROUP_SET_CONTAINER, EPERM, "cannot remap interrupts", "intremap" },
		{ VFIO_GROUP_SET_CONTAINER, EINVAL, "attach its group", "reserved_regions" },
		{ VFIO_GROUP_GET_DEVICE_FD, EIO, "cannot open the device", "dmesg" },
	};
	struct vfio_iommu *iommu = open_iommu();
	struct vfio_device other;
	struct error err = { 0 };

	(void)state;
	refuse_each(iommu, first, ARRAY_SIZE(first));
	host.nodes[0].flags = 0;
	assert_int_equal(try_add(iommu, 0, &other, &err), -EPERM);
	assert_error(&err, -EPERM, "not viable", "penstock bind --group 0000:01:00.0");
	make_node(0);
	host.no_type1 = true;
	err = (struct error){ 0 };
	assert_int_equal(try_add(iommu, 0, &other, &err), -ENOTSUP);
	host.no_type1 = false;
	make_node(0);
	map(iommu, 0, 2 * MIB, 0x7f0000000000);
	host.failing = VFIO_IOMMU_MAP_DMA;
	host.error = ENOMEM;
	err = (struct error){ 0 };
	assert_int_equal(try_add(iommu, 0, &other, &err), -ENOMEM);
	assert_error(&err, -ENOMEM, "cannot map 2 MiB", "ulimit -l");
	host.failing = 0;
	make_node(0);
	other = add(iommu, 1);
	refuse_each(iommu, later, ARRAY_SIZE(later));
	assert_int_equal(reached(0x1000), 0x7f0000001000);
	vfio_device_close(&other);
	iommu->ops->close(iommu);
}

/* Devices' own nodes, of iommufd alone */

static void a_device_that_cannot_join_is_told(void **state)
{
	static const struct failure failures[] = {
		{ VFIO_DEVICE_BIND_IOMMUFD, EPERM, "cannot remap interrupts", "intremap" },
		{ VFIO_DEVICE_BIND_IOMMUFD, EBUSY, "another program has it",
			"penstock bind --group 0000:01:00.0" },
		{ VFIO_DEVICE_BIND_IOMMUFD, EIO, "cannot open the device", "dmesg" },
		{ VFIO_DEVICE_ATTACH_IOMMUFD_PT, EADDRINUSE, "address space", "reserved_regions" },
		{ VFIO_DEVICE_ATTACH_IOMMUFD_PT, ENOMEM, "address space", "a user's guests" },
		{ VFIO_DEVICE_ATTACH_IOMMUFD_PT, EINVAL, "address space", "RMRR" },
	};
	struct vfio_iommu *iommu = open_iommu();

	(void)state;
	refuse_each(iommu, failures, ARRAY_SIZE(failures));
	iommu->ops->close(iommu);
}

static void the_address_space_is_made_and_destroyed(void **state)
{
	const struct vfio_file_events files = { opening, closed, &host };
	struct vfio_iommu *iommu = open_iommu();
	struct error err = { 0 };

	(void)state;
	assert_true(host.is_set);
	iommu->ops->close(iommu);
	assert_false(host.is_set);
	host.failing = IOMMU_IOAS_ALLOC;
	host.error = ENOMEM;
	assert_null(vfio_iommu_open(host.kind, host.iommu, &files, &err));
	assert_error(&err, -ENOMEM, "cannot make an address space: Cannot allocate", "");
	assert_string_equal(err.object, "/dev/iommu");
}

static void the_ranges_may_fail(void **state)
{
	struct vfio_iommu *iommu = open_iommu();
	struct error err = { 0 };

	(void)state;
	host.failing = IOMMU_IOAS_IOVA_RANGES;
	host.error = EIO;
	assert_int_equal(iommu->ops->read_ranges(iommu, &err), -EIO);
	assert_error(&err, -EIO, "what it can map", "");
	iommu->ops->close(iommu);
}

#define TYPE1_TEST(test)                                 \
	{                                                \
#test, test, setup_type1, teardown, NULL \
	}
#define IOMMUFD_TEST(test)                                 \
	{                                                  \
#test, test, setup_iommufd, teardown, NULL \
	}
#define EACH_TEST(test)                                                \
	{ "type1: " #test, test, setup_type1, teardown, NULL },        \
	{                                                              \
		"iommufd: " #test, test, setup_iommufd, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH_TEST(devices_join_and_leave),
		EACH_TEST(what_is_mapped_is_reached_until_it_is_not),
		EACH_TEST(what_is_mapped_stays_without_a_device),
		EACH_TEST(a_later_device_costs_no_mapping),
		EACH_TEST(a_mapping_that_fails_is_none),
		EACH_TEST(threads_may_add_devices_at_once),
		EACH_TEST(whoever_must_know_may_refuse),
		EACH_TEST(a_part_is_reached_until_it_is_not),
		EACH_TEST(a_part_takes_nothing_from_others),
		EACH_TEST(a_part_that_moves_leaves_nothing),
		EACH_TEST(a_part_that_the_kernel_cannot_map_is_told),
		EACH_TEST(threads_may_map_parts_while_devices_come_and_go),
		EACH_TEST(a_large_part_takes_no_longer),
		EACH_TEST(the_kernels_ranges_are_taken),
		cmocka_unit_test(a_range_is_known_or_not),
		TYPE1_TEST(ranges_may_not_be_told),
		TYPE1_TEST(no_more_ranges_than_the_answer_holds),
		TYPE1_TEST(a_group_joins_once_and_leaves_with_its_last_device),
		TYPE1_TEST(a_group_that_cannot_join_is_told),
		IOMMUFD_TEST(a_device_that_cannot_join_is_told),
		IOMMUFD_TEST(the_address_space_is_made_and_destroyed),
		IOMMUFD_TEST(the_ranges_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
