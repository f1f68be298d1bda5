/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "passthrough_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

int __wrap_ioctl(int fd, unsigned long request, ...);
ssize_t __wrap_pwrite64(int fd, const void *buffer, size_t size, off_t offset);
ssize_t __real_pwrite64(int fd, const void *buffer, size_t size, off_t offset);
ssize_t __wrap_pread64(int fd, void *buffer, size_t size, off_t offset);
ssize_t __wrap___pread64_chk(int fd, void *buffer, size_t size, off_t offset, size_t room);
ssize_t __real_pread64(int fd, void *buffer, size_t size, off_t offset);

struct fake_host host;
static pthread_mutex_t host_lock = PTHREAD_MUTEX_INITIALIZER;

static int refuse(int error)
{
	errno = error;
	return -1;
}

/* As vfio_msi_set_block(): a call that fails leaves none of its vectors connected. */
static int connect_vectors(const struct vfio_irq_set *set)
{
	const int *fds = (const int *)set->data;

	for (unsigned i = set->start; i < set->start + set->count; i++)
		host.asked[i]++;
	for (unsigned i = set->start; i < set->start + set->count; i++) {
		host.fds[i] = -1;
		if (i < 64 && host.refused >> i & 1 && fds[i - set->start] >= 0) {
			memset(&host.fds[set->start], 0xff, set->count * sizeof(int));
			return refuse(ENOSPC);
		}
		host.fds[i] = fds[i - set->start];
	}
	host.enabled = max_u64(host.enabled, set->start + set->count);
	return 0;
}

static int set_vectors(const struct vfio_irq_set *set)
{
	unsigned end = set->start + set->count;

	host.calls++;
	if (end > VECTORS ||
		(set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) != VFIO_IRQ_SET_ACTION_TRIGGER)
		abort();
	if (!set->count) {

		host.enabled = 0;
		memset(host.fds, 0xff, sizeof(host.fds));
		return 0;
	}
	if (!host.enabled && end > host.offered) {
		unsigned offered = host.offered;

		if (host.offered_next)
			host.offered = host.offered_next;
		return offered;
	}
	if (host.enabled && host.index != set->index)
		return refuse(EINVAL);
	if (host.enabled && end > (host.can_grow ? host.offered : host.enabled))
		return refuse(EINVAL);
	host.index = set->index;
	return connect_vectors(set);
}

static int set_intx(const struct vfio_irq_set *set)
{
	const int *fd = set->flags & VFIO_IRQ_SET_DATA_EVENTFD ? (const int *)set->data : NULL;

	if (host.no_intx)
		return refuse(EBUSY);
	if (set->start || set->count > 1)
		return refuse(EINVAL);
	switch (set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) {
	case VFIO_IRQ_SET_ACTION_TRIGGER:
		if (pread(host.device, &host.intx_command, 2, PCI_COMMAND) != 2)
			return refuse(EIO);
		host.intx_on = set->count;
		host.intx_fd = fd ? *fd : -1;
		host.intx_masked = false;
		break;
	case VFIO_IRQ_SET_ACTION_MASK:
		host.intx_masked = true;
		break;
	default:
		if (fd)
			host.intx_resample = *fd;
		else
			host.intx_masked = false;
	}
	return 0;
}

static int set_irqs(const struct vfio_irq_set *set)
{
	if (set->index >= VFIO_PCI_ERR_IRQ_INDEX && (set->start || set->count != 1))
		return refuse(EINVAL);
	switch (set->index) {
	case VFIO_PCI_INTX_IRQ_INDEX:
		return set_intx(set);
	case VFIO_PCI_ERR_IRQ_INDEX:
		host.error_fd = *(const int *)set->data;
		return 0;
	case VFIO_PCI_REQ_IRQ_INDEX:
		host.request_fd = *(const int *)set->data;
		return 0;
	default:
		return set_vectors(set);
	}
}

/* As KVM: no two slots overlap, and one is deleted before it is made anew. */
static int set_slot(const struct kvm_userspace_memory_region *new)
{
	host.slot_calls++;
	if (new->slot >= FAKE_SLOTS || !new->memory_size == !host.slots[new->slot].memory_size) {
		host.wrong++;
		return refuse(EINVAL);
	}
	for (unsigned i = 0; i < FAKE_SLOTS && new->memory_size; i++) {
		const struct kvm_userspace_memory_region *old = &host.slots[i];

		if (old->memory_size &&
			old->guest_phys_addr <
				new->guest_phys_addr + new->memory_size &&new->guest_phys_addr <
				old->guest_phys_addr + old->memory_size)
			return refuse(EEXIST);
	}
	host.slots[new->slot] = *new;
	return 0;
}

static int set_irqfd(const struct kvm_irqfd *irqfd)
{
	host.irqfd_calls++;
	for (unsigned i = 0; i < VECTORS; i++) {
		struct fake_irqfd *old = &host.irqfds[i];

		if (irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN) {
			if (old->fd == (int)irqfd->fd && old->gsi == irqfd->gsi) {
				*old = (struct fake_irqfd){ 0 };
				return 0;
			}
		} else if (old->fd == (int)irqfd->fd) {
			return refuse(EBUSY);
		}
	}
	for (unsigned i = 0; i < VECTORS && !(irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN); i++)
		if (!host.irqfds[i].fd) {
			host.irqfds[i] = (struct fake_irqfd){ irqfd->fd, irqfd->gsi,
				irqfd->flags & KVM_IRQFD_FLAG_RESAMPLE ? (int)irqfd->resamplefd
								       : -1 };
			return 0;
		}
	host.wrong++;
	return refuse(ENOENT);
}

static int set_routes(const struct kvm_irq_routing *routing)
{
	host.route_calls++;
	if (routing->nr > ARRAY_SIZE(host.routes))
		return refuse(EINVAL);
	host.route_count = routing->nr;
	memcpy(host.routes, routing->entries, routing->nr * sizeof(routing->entries[0]));
	return 0;
}

static int answer(int fd, unsigned long request, const void *argument)
{
	if (request == VFIO_DEVICE_SET_IRQS && fd != host.device)
		return 0; /* of another device nothing is noted */
	if (request == host.failing)
		return refuse(host.error);
	switch (request) {
	case VFIO_DEVICE_SET_IRQS:
		return set_irqs(argument);
	case KVM_SET_USER_MEMORY_REGION:
		return set_slot(argument);
	case KVM_IRQFD:
		return set_irqfd(argument);
	case KVM_SET_GSI_ROUTING:
		return set_routes(argument);
	default:
		return 0;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	const void *argument;
	va_list arguments;
	int result;

	va_start(arguments, request);
	argument = va_arg(arguments, const void *);
	va_end(arguments);
	pthread_mutex_lock(&host_lock);
	result = answer(fd, request, argument);
	pthread_mutex_unlock(&host_lock);
	return result;
}

static void remove_device(struct vfio_iommu *iommu, struct vfio_device *device)
{
	(void)iommu;
	close(device->fd);
}

/* As the kernel: none overlaps another. */
static int add_part(uint64_t iova, const struct vfio_part *part)
{
	unsigned free = FAKE_SLOTS;

	host.part_calls++;
	for (unsigned i = 0; i < FAKE_SLOTS && !host.part_error; i++) {
		if (!host.parts[i].size)
			free = i;
		else if (host.parts[i].iova < iova + part->size &&
			 iova < host.parts[i].iova + host.parts[i].size)
			return -EEXIST;
	}
	if (host.part_error || free == FAKE_SLOTS)
		return host.part_error ? host.part_error : -ENOSPC;
	host.parts[free] =
		(typeof(host.parts[0])){ iova, part->size, part->hva, part->region, part->offset };
	return 0;
}

static int map_part(
	struct vfio_iommu *iommu, uint64_t iova, const struct vfio_part *part, struct error *err)
{
	int code;

	(void)iommu;
	pthread_mutex_lock(&host_lock);
	code = add_part(iova, part);
	pthread_mutex_unlock(&host_lock);
	return code ? error_set(err, code, part->device->name, "cannot be reached") : 0;
}

static int unmap_part(struct vfio_iommu *iommu, uint64_t iova, uint64_t size)
{
	unsigned i = 0;

	(void)iommu;
	pthread_mutex_lock(&host_lock);
	while (i < FAKE_SLOTS && (host.parts[i].iova != iova || host.parts[i].size != size))
		i++;
	if (i < FAKE_SLOTS)
		host.parts[i].size = 0;
	else
		host.wrong++;
	pthread_mutex_unlock(&host_lock);
	return i < FAKE_SLOTS ? 0 : -ENOENT;
}

static const struct vfio_iommu_ops iommu_ops = {
	.remove_device = remove_device,
	.map_part = map_part,
	.unmap = unmap_part,
};
struct vfio_iommu fake_iommu = { .ops = &iommu_ops };

static void note_access(size_t size)
{
	__atomic_add_fetch(&host.accesses, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&host.access, size, __ATOMIC_RELAXED);
}

ssize_t __wrap_pwrite64(int fd, const void *buffer, size_t size, off_t offset)
{
	uint8_t bytes[8], state;

	note_access(size);
	if (host.on_write)
		host.on_write(offset);
	if (!host.pm || size > sizeof(bytes) || offset > host.pm || offset + size <= host.pm)
		return __real_pwrite64(fd, buffer, size, offset);
	/* A state that the device does not have: it stays in its own. */
	memcpy(bytes, buffer, size);
	state = bytes[host.pm - offset] & PCI_PM_CTRL_STATE_MASK;
	if (!(host.pm_states >> state & 1))
		bytes[host.pm - offset] &= ~PCI_PM_CTRL_STATE_MASK;
	return __real_pwrite64(fd, bytes, size, offset);
}

ssize_t __wrap_pread64(int fd, void *buffer, size_t size, off_t offset)
{
	note_access(size);
	return __real_pread64(fd, buffer, size, offset);
}

/* What a hardened build makes of it. */
ssize_t __wrap___pread64_chk(int fd, void *buffer, size_t size, off_t offset, size_t room)
{
	(void)room;
	return __wrap_pread64(fd, buffer, size, offset);
}

unsigned open_files(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

rlim_t set_limit(rlim_t files)
{
	struct rlimit limit;
	rlim_t before;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = files;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return before;
}

int lowest_free(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

void put16(uint8_t *bytes, uint16_t value)
{
	bytes[0] = value;
	bytes[1] = value >> 8;
}

void put32(uint8_t *bytes, uint32_t value)
{
	put16(bytes, value);
	put16(bytes + 2, value >> 16);
}

static unsigned find_line(void *opaque, unsigned slot, unsigned pin)
{
	(void)opaque, (void)slot;
	return 15 + pin;
}

static const struct pci_root_ops root_ops = { .line = find_line };

int setup(void **state)
{
	static const struct pci_windows windows = {
		.io = { 0x6000, 0xa000, 0x6000 },
		.mem32 = { MEM32, 0x60000000, MEM32 },
		.mem64 = { MEM64, 1ULL << 40, MEM64 },
	};
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct error err = { 0 };

	assert_non_null(fixture);
	host = (struct fake_host){ .offered = VECTORS, .can_grow = true, .pm_states = 0xf };
	fake_iommu = (struct vfio_iommu){ .ops = &iommu_ops, .devices = 1 };
	memset(host.fds, 0xff, sizeof(host.fds));
	fixture->vm = (struct kvm_vm){ .fd = -1, .vfio_fd = -1 };
	pthread_mutex_init(&fixture->vm.lock, NULL);
	fixture->vm.routing =
		calloc(1, sizeof(*fixture->vm.routing) +
				  KVM_ROUTES_MAX * sizeof(struct kvm_irq_routing_entry));
	space_init(&fixture->mmio);
	space_init(&fixture->pio);
	pci_root_init(&fixture->root, &fixture->mmio, &fixture->pio, ECAM, 2, &windows, &err);
	fixture->root.ops = &root_ops;
	fixture->root.has_ports = true;
	fixture->place = (struct passthrough_place){ .bus = &fixture->root.bus, .devfn = DEVFN };
	put16(&fixture->config[PCI_VENDOR_ID], 0x1234);
	put16(&fixture->config[PCI_DEVICE_ID], 0x5678);
	put16(&fixture->config[PCI_STATUS], PCI_STATUS_CAP_LIST);
	fixture->device.vfio = (struct vfio_device){
		.fd = memfd_create("device", MFD_CLOEXEC),
		.iommu = &fake_iommu,
		.name = "0000:01:00.0",
	};
	host.device = fixture->device.vfio.fd;
	fixture->device.vfio.regions[VFIO_PCI_CONFIG_REGION_INDEX].size = PCI_CFG_SPACE_SIZE;
	fixture->device.vfio.irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 8;
	fixture->device.vfio.irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = VECTORS;
	add_bar(fixture, 0, 16 * KIB);
	*state = fixture;
	return err.code;
}

int teardown(void **state)
{
	struct fixture *fixture = *state;

	host.failing = 0;
	if (!fixture->detached)
		passthrough_detach(&fixture->device);
	assert_int_equal(host.wrong, 0);
	assert_int_equal(part_count(), 0);
	if (fixture->device.vfio.fd >= 0)
		close(fixture->device.vfio.fd);
	pci_root_destroy(&fixture->root);
	space_destroy(&fixture->mmio);
	space_destroy(&fixture->pio);
	pthread_mutex_destroy(&fixture->vm.lock);
	free(fixture->vm.routing);
	free(fixture);
	return 0;
}

/* The device as it was before anyone looked at it. */
static void start_over(struct fixture *fixture)
{
	struct vfio_device vfio = fixture->device.vfio;
	struct passthrough_rom rom = fixture->device.rom;
	bool vga = fixture->device.vga, plain = fixture->device.plain;

	passthrough_rom_destroy(&fixture->device);
	msix_destroy(&fixture->device.msix);
	pci_device_destroy(&fixture->device.pci);
	fixture->device = (struct passthrough){
		.vfio = vfio, .rom = rom, .vga = vga, .plain = plain, .rom_slot = -1
	};
	fixture->device.request_fd = fixture->device.error_fd = -1;
	fixture->device.vfio.irqs[VFIO_PCI_MSIX_IRQ_INDEX].can_grow = host.can_grow;
	if (fixture->root.bus.devices[DEVFN] == &fixture->device.pci)
		fixture->root.bus.devices[DEVFN] = NULL;
	fixture->root.bus.windows.mem32.next = MEM32;
	assert_int_equal(
		pwrite(vfio.fd, fixture->config, sizeof(fixture->config), 0), PCI_CONFIG_SIZE);
	assert_int_equal(ftruncate(vfio.fd, BAR_AT(PCI_RANGES)), 0);
}

int config_init(struct fixture *fixture, struct error *err)
{
	start_over(fixture);
	pci_device_init(&fixture->device.pci, &passthrough_pci_ops);
	fixture->root.bus.devices[DEVFN] = &fixture->device.pci;
	fixture->device.pci.devfn = DEVFN;
	return passthrough_config_init(&fixture->device, &fixture->place, err);
}

int try_attach(struct fixture *fixture, struct error *err)
{
	start_over(fixture);
	return passthrough_attach(&fixture->device, &fixture->vm, &fixture->place, err) ||
			       pci_bus_place(&fixture->device.pci, err)
		       ? err->code
		       : 0;
}

void attach(struct fixture *fixture)
{
	struct error err = { 0 };

	if (try_attach(fixture, &err))
		fail_msg("%s", err.what);
}

void detach(struct fixture *fixture)
{
	int fd = fixture->device.vfio.fd;

	fixture->device.vfio.fd = dup(fd);
	set(fixture, PCI_COMMAND, 2, 0);
	passthrough_detach(&fixture->device);
	fixture->device.vfio.fd = fd;
	fixture->device.msix.table = NULL;
}

void add_bar(struct fixture *fixture, unsigned i, uint64_t size)
{
	fixture->device.vfio.regions[i] = (struct vfio_region){
		.size = size,
		.fd_offset = BAR_AT(i),
		.readable = true,
		.writable = true,
		.areas = { { 0, size } },
		.area_count = 1,
	};
}

void add_cap(struct fixture *fixture, unsigned at, unsigned next, uint8_t id)
{
	fixture->config[at] = id;
	fixture->config[at + 1] = next;
}

void add_msix(struct fixture *fixture, unsigned at, unsigned next, unsigned vectors)
{
	uint8_t *cap = &fixture->config[at];

	add_cap(fixture, at, next, PCI_CAP_ID_MSIX);
	put16(cap + PCI_MSIX_FLAGS, vectors - 1);
	put32(cap + PCI_MSIX_TABLE, 0x1000);
	put32(cap + PCI_MSIX_PBA, 0x2000);
}

void add_msi(struct fixture *fixture, unsigned at, unsigned next, uint16_t flags)
{
	add_cap(fixture, at, next, PCI_CAP_ID_MSI);
	put16(&fixture->config[at + PCI_MSI_FLAGS], flags);
}

void use_msix(struct fixture *fixture, unsigned vectors)
{
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	for (unsigned i = 0; i < vectors; i++) {
		write_entry(fixture, i, PCI_MSIX_ENTRY_LOWER_ADDR, 0xfee00000);
		write_entry(fixture, i, PCI_MSIX_ENTRY_DATA, 0x40 + i);
	}
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < vectors; i++)
		write_entry(fixture, i, PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
}

void write_entry(struct fixture *fixture, unsigned vector, unsigned offset, uint32_t value)
{
	space_write(&fixture->mmio, MEM32 + 0x1000 + vector * MSIX_ENTRY_SIZE + offset, 4, value);
}

void add_intx(struct fixture *fixture, unsigned pin)
{
	fixture->device.vfio.irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
	fixture->config[PCI_INTERRUPT_PIN] = pin;
}

uint32_t get(struct fixture *fixture, unsigned offset, unsigned size)
{
	return space_read(&fixture->mmio, CONFIG + offset, size) & ((2ULL << (8 * size - 1)) - 1);
}

void set(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value)
{
	space_write(&fixture->mmio, CONFIG + offset, size, value);
}

uint32_t device_get(struct fixture *fixture, unsigned offset, unsigned size)
{
	return vfio_region_read(&fixture->device.vfio, VFIO_PCI_CONFIG_REGION_INDEX, offset, size);
}

void device_put(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value)
{
	vfio_region_write(&fixture->device.vfio, VFIO_PCI_CONFIG_REGION_INDEX, offset, size, value);
}

const struct kvm_userspace_memory_region *slot_at(uint64_t gpa)
{
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		if (gpa - host.slots[i].guest_phys_addr < host.slots[i].memory_size)
			return &host.slots[i];
	return NULL;
}

unsigned slot_count(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		count += host.slots[i].memory_size != 0;
	return count;
}

void *reached_at(uint64_t gpa)
{
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		if (gpa - host.parts[i].iova < host.parts[i].size)
			return (char *)host.parts[i].hva + (gpa - host.parts[i].iova);
	return NULL;
}

unsigned part_count(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		count += host.parts[i].size != 0;
	return count;
}

unsigned connected(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < host.enabled; i++)
		count += host.fds[i] >= 0;
	return count;
}

const struct fake_irqfd *irqfd_of(int fd)
{
	for (unsigned i = 0; i < VECTORS; i++)
		if (host.irqfds[i].fd == fd)
			return &host.irqfds[i];
	return NULL;
}

void raise_vector(unsigned i)
{
	/* VFIO has let go of an eventfd before it is closed. */
	pthread_mutex_lock(&host_lock);
	if (i < host.enabled && host.fds[i] >= 0)
		eventfd_write(host.fds[i], 1);
	pthread_mutex_unlock(&host_lock);
}

const struct kvm_irq_routing_msi *message_of(unsigned gsi)
{
	for (unsigned i = 0; i < host.route_count; i++)
		if (host.routes[i].gsi == gsi && host.routes[i].type == KVM_IRQ_ROUTING_MSI)
			return &host.routes[i].u.msi;
	return NULL;
}
