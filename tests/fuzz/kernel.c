/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel.h"

#include "base/fd.h"
#include "base/size.h"
#include "kvm/vm.h"
#include "vfio/kernel_api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define DEVICES     2
#define FDS_MAX     65536
#define VECTORS_MAX 2048
#define REGION_ROOM (64 * KIB) /* what the file of a device holds of each region */
#define CAPS_ROOM   512

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_eventfd(unsigned count, int flags);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t size);
int __real_eventfd(unsigned count, int flags);
void *__real_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t size);

struct kernel kernel;

struct slot {
	uint64_t gpa, size;
};

struct message {
	uint64_t address;
	uint32_t data;
};

/* A device's interrupts: one of INTx, MSI and MSI-X, and how many vectors of it. */
struct interrupts {
	int fd;
	int index; /* -1: none */
	unsigned count;
};

static struct slot slots[KVM_SLOTS_MAX];
static unsigned gsi_of[FDS_MAX]; /* of the irqfd at an eventfd, plus 1 */
static struct message messages[KVM_ROUTES_MAX];
static struct interrupts devices[DEVICES];
static unsigned irqfds;
static uint64_t lines, mapped;

void kernel_reset(struct fuzz_input *answers)
{
	kernel = (struct kernel){ .answers = answers, .vectors = VECTORS_MAX };
	memset(slots, 0, sizeof(slots));
	memset(messages, 0, sizeof(messages));
	for (unsigned i = 0; i < DEVICES; i++)
		devices[i] = (struct interrupts){ .fd = -1, .index = -1 };
	if (irqfds) /* one that could not be detached is gone with its eventfd */
		memset(gsi_of, 0, sizeof(gsi_of));
	irqfds = 0;
	lines = 0;
}

static int fail(int code)
{
	errno = code;
	return -1;
}

static bool fails(void)
{
	if (!kernel.fail_in || --kernel.fail_in)
		return false;
	kernel.failed++;
	errno = kernel.fail_code;
	return true;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* KVM. */

static int set_slot(const struct kvm_userspace_memory_region *region)
{
	struct slot new = { region->guest_phys_addr, region->memory_size };

	fuzz_check(region->slot < KVM_SLOTS_MAX);
	if (!new.size) {
		fuzz_check(slots[region->slot].size);
		slots[region->slot] = new;
		return 0;
	}
	fuzz_check(!((new.gpa | new.size | region->userspace_addr) & (4 * KIB - 1)));
	fuzz_check(region->userspace_addr && new.gpa + new.size > new.gpa);
	for (unsigned i = 0; i < KVM_SLOTS_MAX; i++)
		if (slots[i].size && new.gpa < slots[i].gpa + slots[i].size &&
			slots[i].gpa < new.gpa + new.size)
			return fail(EEXIST);
	slots[region->slot] = new;
	kernel.slots++;
	return 0;
}

static int set_irqfd(const struct kvm_irqfd *irqfd)
{
	fuzz_check(irqfd->fd < FDS_MAX && is_open(irqfd->fd) && irqfd->gsi < KVM_ROUTES_MAX);
	if (irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN) {
		fuzz_check(gsi_of[irqfd->fd] == irqfd->gsi + 1);
		gsi_of[irqfd->fd] = 0;
		irqfds--;
		return 0;
	}
	if (irqfd->flags & KVM_IRQFD_FLAG_RESAMPLE)
		fuzz_check(is_open(irqfd->resamplefd));
	if (gsi_of[irqfd->fd])
		return fail(EBUSY);
	gsi_of[irqfd->fd] = irqfd->gsi + 1;
	irqfds++;
	kernel.irqfds++;
	return 0;
}

static int set_routes(const struct kvm_irq_routing *routing)
{
	fuzz_check(routing->nr <= KVM_ROUTES_MAX);
	memset(messages, 0, sizeof(messages));
	for (unsigned i = 0; i < routing->nr; i++) {
		const struct kvm_irq_routing_entry *entry = &routing->entries[i];

		fuzz_check(entry->gsi < KVM_ROUTES_MAX);
		if (entry->type == KVM_IRQ_ROUTING_MSI)
			messages[entry->gsi] = (struct message){
				entry->u.msi.address_lo | (uint64_t)entry->u.msi.address_hi << 32,
				entry->u.msi.data,
			};
	}
	return 0;
}

bool kernel_delivers(int eventfd, uint64_t *address, uint32_t *data)
{
	unsigned gsi = gsi_of[eventfd] - 1;

	if (!gsi_of[eventfd])
		return false;
	*address = messages[gsi].address;
	*data = messages[gsi].data;
	return true;
}

static int set_line(const struct kvm_irq_level *line)
{
	fuzz_check(line->irq < KVM_IOAPIC_PINS);
	lines = (lines & ~(1ULL << line->irq)) | (uint64_t)(line->level & 1) << line->irq;
	return 0;
}

bool kernel_line(unsigned gsi)
{
	return lines >> gsi & 1;
}

/* One leaf of CPUID for each byte that the input has for it. */
static int get_cpuid(struct kvm_cpuid2 *cpuid)
{
	static const uint32_t functions[] = { 0, 1, 4, 0xb, 0x1f, 0x80000001, 0x80000008,
		0x8000001d, 0x8000001e, 0x80000026 };
	unsigned count = fuzz_byte(kernel.answers) % ARRAY_SIZE(functions);

	for (unsigned i = 0; i < count; i++) {
		fuzz_bytes(kernel.answers, &cpuid->entries[i], sizeof(cpuid->entries[i]));
		cpuid->entries[i].function = functions[i];
	}
	cpuid->nent = count;
	return 0;
}

/* VFIO: interrupts. */

static struct interrupts *find_device(int fd)
{
	for (unsigned i = 0; i < DEVICES; i++)
		if (devices[i].fd == fd)
			return &devices[i];
	for (unsigned i = 0; i < DEVICES; i++)
		if (devices[i].index < 0) {
			devices[i].fd = fd;
			return &devices[i];
		}
	return NULL;
}

static void check_eventfds(const struct vfio_irq_set *set)
{
	const int32_t *fds = (const int32_t *)set->data;

	fuzz_check(set->argsz >= sizeof(*set) + set->count * sizeof(*fds));
	for (unsigned i = 0; i < set->count; i++)
		if (fds[i] >= 0 && (i < 8 || i + 1 == set->count))
			fuzz_check(is_open(fds[i]));
}

static int enable(struct interrupts *device, const struct vfio_irq_set *set)
{
	unsigned end = set->start + set->count;

	if (device->index >= 0 && device->index != (int)set->index)
		return fail(EINVAL);
	if (set->index != VFIO_PCI_INTX_IRQ_INDEX && device->index < 0 && end > kernel.vectors)
		return kernel.vectors ? (int)kernel.vectors : fail(ENOSPC);
	device->index = set->index;
	device->count = max_u64(device->count, end);
	kernel.enabled += set->count;
	return 0;
}

static int set_irqs(int fd, const struct vfio_irq_set *set)
{
	struct interrupts *device = find_device(fd);

	fuzz_check(device && set->index < VFIO_PCI_NUM_IRQS);
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		check_eventfds(set);
	if (set->start + (uint64_t)set->count > VECTORS_MAX)
		return fail(EINVAL);
	if (set->index > VFIO_PCI_MSIX_IRQ_INDEX) /* a request or an error: not of these */
		return 0;
	if (!(set->flags & VFIO_IRQ_SET_ACTION_TRIGGER))
		return device->index == VFIO_PCI_INTX_IRQ_INDEX ? 0 : fail(EINVAL);
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return enable(device, set);
	if (device->index == (int)set->index)
		*device = (struct interrupts){ .fd = -1, .index = -1 };
	return 0;
}

/* VFIO: what it tells. The answers are the input's, but for the sizes of what is written. */

/* Capabilities behind an answer of size bytes, in a buffer of argsz. Their offset, or 0. */
static uint32_t answer_chain(void *info, uint32_t size, uint32_t argsz, uint32_t *wanted)
{
	uint8_t bytes[CAPS_ROOM];
	uint32_t length = fuzz_byte(kernel.answers) * 2;

	*wanted = size + length;
	if (!length || argsz <= size)
		return 0;
	fuzz_bytes(kernel.answers, bytes, length);
	memcpy((char *)info + size, bytes, min_u64(length, argsz - size));
	kernel.chains++;
	return size;
}

/* An answer with a chain, whose offset and whose own length may be any. */
static void answer_size(void *info, uint32_t size, uint8_t flags, uint32_t *argsz, uint32_t *offset)
{
	uint32_t wanted;

	*offset = answer_chain(info, size, *argsz, &wanted);
	*argsz = wanted;
	if (flags & 0x20)
		*offset = fuzz_number(kernel.answers, 2);
	if (flags & 0x10)
		*argsz = fuzz_number(kernel.answers, 2);
}

static int get_device_info(struct vfio_device_info *info)
{
	uint8_t byte = fuzz_byte(kernel.answers);

	info->flags = byte & 1 ? VFIO_DEVICE_FLAGS_RESET : VFIO_DEVICE_FLAGS_PCI;
	info->num_regions = byte & 2 ? byte : VFIO_PCI_NUM_REGIONS;
	info->num_irqs = byte & 4 ? byte : VFIO_PCI_NUM_IRQS;
	return 0;
}

/* The size of a BAR by its power of two, or with the highest bit any. */
static uint64_t region_size(uint8_t byte)
{
	return byte & 0x80 ? fuzz_number(kernel.answers, 8) : byte ? 1ULL << byte % 64 : 0;
}

static int get_region(struct vfio_region_info *info)
{
	uint8_t flags = fuzz_byte(kernel.answers);

	if (flags & 0x80)
		return fail(EINVAL);
	info->size = region_size(fuzz_byte(kernel.answers));
	info->offset = flags & 0x40 ? fuzz_number(kernel.answers, 8) : info->index * REGION_ROOM;
	info->flags = flags & 0xf;
	answer_size(info, sizeof(*info), flags, &info->argsz, &info->cap_offset);
	return 0;
}

static int get_irq(struct vfio_irq_info *info)
{
	info->flags = fuzz_byte(kernel.answers);
	info->count = fuzz_number(kernel.answers, info->flags & 0x80 ? 4 : 1);
	return 0;
}

static int get_iommu_info(struct vfio_iommu_type1_info *info)
{
	uint8_t flags = fuzz_byte(kernel.answers);

	info->flags = flags & 3;
	answer_size(info, sizeof(*info), flags, &info->argsz, &info->cap_offset);
	return 0;
}

/* As many as there is room for; how many there are may be any number. */
static int get_ranges(struct iommu_ioas_iova_ranges *query)
{
	struct iommu_iova_range *ranges = (void *)(uintptr_t)query->allowed_iovas;
	uint8_t count = fuzz_byte(kernel.answers);
	unsigned room = query->num_iovas;

	for (unsigned i = 0; i < min_u64(count & 0x3f, room); i++) {
		ranges[i].start = fuzz_number(kernel.answers, 8);
		ranges[i].last = fuzz_number(kernel.answers, 8);
	}
	query->num_iovas = count & 0x80 ? fuzz_number(kernel.answers, 4) : count & 0x3f;
	return count & 0x40 ? fail(EMSGSIZE) : 0;
}

/* Its configuration space is the input's; of all else there are zeros. */
int kernel_open_device(void)
{
	cleanup_fd int fd = memfd_create("device", MFD_CLOEXEC);
	uint8_t config[512];

	fuzz_bytes(kernel.answers, config, sizeof(config));
	fuzz_check(fd >= 0 && ftruncate(fd, VFIO_PCI_NUM_REGIONS * REGION_ROOM) == 0);
	fuzz_check(pwrite(fd, config, sizeof(config), VFIO_PCI_CONFIG_REGION_INDEX * REGION_ROOM) ==
		   sizeof(config));
	return take_fd(&fd);
}

static int open_any(void)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	fuzz_check(fd >= 0 && ftruncate(fd, 8 * KIB) == 0);
	return fd;
}

static int answer(int fd, unsigned long request, void *argument)
{
	switch (request) {
	case KVM_GET_API_VERSION:
		return KVM_API_VERSION;
	case KVM_CREATE_VM:
	case KVM_CREATE_VCPU:
		return open_any();
	case KVM_CREATE_DEVICE:
		((struct kvm_create_device *)argument)->fd = open_any();
		return 0;
	case KVM_GET_VCPU_MMAP_SIZE:
		return 12 * KIB; /* one page more than there is: an access behind the data kills */
	case KVM_CHECK_EXTENSION:
	case KVM_SET_MSRS:
	case VFIO_CHECK_EXTENSION:
		return 1;
	case KVM_GET_SUPPORTED_CPUID:
		return get_cpuid(argument);
	case KVM_RUN:
		return kernel.run(fd);
	case KVM_SET_USER_MEMORY_REGION:
		return set_slot(argument);
	case KVM_IRQFD:
		return set_irqfd(argument);
	case KVM_SET_GSI_ROUTING:
		return set_routes(argument);
	case KVM_IRQ_LINE:
		return set_line(argument);
	case VFIO_GROUP_GET_STATUS:
		((struct vfio_group_status *)argument)->flags = VFIO_GROUP_FLAGS_VIABLE;
		return 0;
	case VFIO_GROUP_GET_DEVICE_FD:
		return kernel_open_device();
	case VFIO_DEVICE_GET_INFO:
		return get_device_info(argument);
	case VFIO_DEVICE_GET_REGION_INFO:
		return get_region(argument);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return get_irq(argument);
	case VFIO_IOMMU_GET_INFO:
		return get_iommu_info(argument);
	case IOMMU_IOAS_IOVA_RANGES:
		return get_ranges(argument);
	case VFIO_DEVICE_FEATURE:
		return open_any();
	case VFIO_DEVICE_SET_IRQS:
		return set_irqs(fd, argument);
	default:
		return 0;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	return fails() ? -1 : answer(fd, request, argument);
}

int __wrap_eventfd(unsigned count, int flags)
{
	return fails() ? -1 : __real_eventfd(count, flags);
}

void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	void *there = fails() ? MAP_FAILED : __real_mmap64(at, size, protection, flags, fd, offset);

	if (there != MAP_FAILED && !(flags & MAP_FIXED))
		mapped += align_up(size, 4 * KIB);
	return there;
}

int __wrap_munmap(void *at, size_t size)
{
	mapped -= align_up(size, 4 * KIB);
	return __real_munmap(at, size);
}

void kernel_check_idle(void)
{
	fuzz_check(!mapped);
	fuzz_check(!irqfds || kernel.failed);
	for (unsigned i = 0; i < DEVICES; i++)
		fuzz_check(devices[i].index < 0 || kernel.failed);
}
