/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kvm/vm.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

/* Newer than the headers of the oldest distribution that we build on. */
#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
#endif
#ifndef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define KVM_X86_QUIRK_SLOT_ZAP_ALL (1 << 7)
#endif

/* For real mode on CPUs that cannot run it directly: four pages below the local APICs' and the MSIs'
 * addresses, where neither RAM nor firmware lies. */
#define IDENTITY_MAP_ADDRESS 0xfeffc000ULL
#define TSS_ADDRESS          0xfeffd000

static const struct {
	int cap;
	const char *name;
} needed[] = {
	{ KVM_CAP_USER_MEMORY, "user memory slots" },
	{ KVM_CAP_IRQCHIP, "in-kernel interrupt controllers" },
	{ KVM_CAP_PIT2, "an in-kernel timer" },
	{ KVM_CAP_IRQFD, "irqfd" },
	{ KVM_CAP_IRQFD_RESAMPLE, "irqfd with resampling" },
	{ KVM_CAP_IRQ_ROUTING, "interrupt routing" },
	{ KVM_CAP_SIGNAL_MSI, "MSIs from user space" },
	{ KVM_CAP_READONLY_MEM, "read-only memory slots" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
	{ KVM_CAP_EXT_CPUID, "CPUID" },
};

static int check(int kvm_fd, struct error *err)
{
	int version = ioctl(kvm_fd, KVM_GET_API_VERSION, 0);

	if (version != KVM_API_VERSION)
		return error_set(err, -ENOTSUP, "/dev/kvm", "speaks API version %d, Penstock %d",
			version, KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			return error_set(err, -ENOTSUP, "/dev/kvm", "this kernel's KVM lacks %s",
				needed[i].name);
	return 0;
}

static struct kvm_irq_routing_entry *add_route(struct kvm_vm *vm, unsigned gsi)
{
	struct kvm_irq_routing_entry *entry = &vm->routing->entries[vm->routing->nr++];

	*entry = (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP };
	return entry;
}

/*
 * The lines of a PC: 0 to 15 at both 8259s and the IOAPIC, 16 to 23 at the IOAPIC alone. The timer's
 * line 0 arrives at pin 2, as the MADT says; line 2 is the cascade of the 8259s.
 */
static void add_pc_routes(struct kvm_vm *vm)
{
	for (unsigned gsi = 0; gsi < KVM_IOAPIC_PINS; gsi++) {
		struct kvm_irq_routing_entry *entry;

		if (gsi == 2)
			continue;
		entry = add_route(vm, gsi);
		entry->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		entry->u.irqchip.pin = gsi ? gsi : 2;
		if (gsi >= 16)
			continue;
		entry = add_route(vm, gsi);
		entry->u.irqchip.irqchip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
		entry->u.irqchip.pin = gsi % 8;
	}
}

static int set_up(struct kvm_vm *vm)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_enable_cap quirks = {
		.cap = KVM_CAP_DISABLE_QUIRKS2,
		.args = { KVM_X86_QUIRK_SLOT_ZAP_ALL },
	};
	uint64_t identity_map = IDENTITY_MAP_ADDRESS;
	int supported = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);

	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
		ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0 ||
		ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0 ||
		ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
		return -errno;
	/*
	 * Without this, deleting the slot of one BAR drops the second-level entries of all guest
	 * RAM, and each page of it faults again.
	 */
	if (supported > 0 && supported & KVM_X86_QUIRK_SLOT_ZAP_ALL)
		ioctl(vm->fd, KVM_ENABLE_CAP, &quirks);
	vm->can_prefault = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_PRE_FAULT_MEMORY) > 0;
	vm->vcpu_mmap_size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	add_pc_routes(vm);
	return kvm_routes_commit(vm);
}

struct kvm_vm *kvm_vm_new(int kvm_fd, struct error *err)
{
	struct kvm_vm *vm;
	int code;

	if (check(kvm_fd, err))
		return NULL;
	vm = calloc(1, sizeof(*vm));
	if (!vm) {
		error_sys(err, -ENOMEM, NULL, "cannot make a VM");
		return NULL;
	}
	*vm = (struct kvm_vm){ .fd = -1, .kvm_fd = kvm_fd, .vfio_fd = -1 };
	pthread_mutex_init(&vm->lock, NULL);
	vm->routing = calloc(
		1, sizeof(*vm->routing) + KVM_ROUTES_MAX * sizeof(struct kvm_irq_routing_entry));
	vm->fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0 || !vm->routing) {
		error_sys(err, vm->routing ? -errno : -ENOMEM, "/dev/kvm", "cannot make a VM");
		error_hint(err, "is another hypervisor using the CPU's virtualisation? See dmesg");
		goto fail;
	}
	code = set_up(vm);
	if (code) {
		error_sys(err, code, "/dev/kvm", "cannot set up the VM's interrupt controllers");
		goto fail;
	}
	return vm;
fail:
	kvm_vm_free(vm);
	return NULL;
}

#define IDLE_EXITS (KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE)

/* Bits of KVM_X86_DISABLE_EXITS_*; a negative one is a kernel that does not know the question. */
static unsigned spared_exits(int kvm_fd)
{
	int can = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS);

	return can < 0 ? 0 : can & (IDLE_EXITS | KVM_X86_DISABLE_EXITS_MWAIT);
}

bool kvm_leaves_mwait(int kvm_fd)
{
	return spared_exits(kvm_fd) & KVM_X86_DISABLE_EXITS_MWAIT;
}

int kvm_dedicate_check(int kvm_fd, struct error *err)
{
	if ((spared_exits(kvm_fd) & IDLE_EXITS) == IDLE_EXITS)
		return 0;
	error_set(err, -ENOTSUP, "/dev/kvm",
		"this host's KVM does not leave HLT and PAUSE to guests, which --dedicated needs");
	error_hint(err,
		"on AMD's CPUs with SMT it may be for safety: mitigate_smt_rsb of the module kvm");
	return err->code;
}

int kvm_vm_dedicate(struct kvm_vm *vm, struct error *err)
{
	struct kvm_enable_cap exits = {
		.cap = KVM_CAP_X86_DISABLE_EXITS,
		.args = { spared_exits(vm->kvm_fd) },
	};

	return ioctl(vm->fd, KVM_ENABLE_CAP, &exits) < 0
		       ? error_sys(
				 err, -errno, "/dev/kvm", "cannot leave HLT and PAUSE to the guest")
		       : 0;
}

void kvm_vm_free(struct kvm_vm *vm)
{
	if (!vm)
		return;
	if (vm->vfio_fd >= 0)
		close(vm->vfio_fd);
	if (vm->fd >= 0)
		close(vm->fd);
	pthread_mutex_destroy(&vm->lock);
	free(vm->routing);
	free(vm);
}

/* The first clear bit of a bitmap from first on, set; -ENOSPC where there is none. */
static int take_bit(uint64_t *bitmap, unsigned first, unsigned end)
{
	for (unsigned bit = first; bit < end; bit++) {
		if (bitmap[bit / 64] >> bit % 64 & 1)
			continue;
		bitmap[bit / 64] |= 1ULL << bit % 64;
		return bit;
	}
	return -ENOSPC;
}

static void clear_bit(uint64_t *bitmap, unsigned bit)
{
	bitmap[bit / 64] &= ~(1ULL << bit % 64);
}

int kvm_slot_map(struct kvm_vm *vm, uint64_t gpa, uint64_t size, void *hva, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
		.flags = flags,
	};
	int slot;

	pthread_mutex_lock(&vm->lock);
	slot = take_bit(vm->slots_used, 0, KVM_SLOTS_MAX);
	if (slot >= 0) {
		region.slot = slot;
		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
			clear_bit(vm->slots_used, slot);
			slot = -errno;
		}
	}
	pthread_mutex_unlock(&vm->lock);
	return slot;
}

void kvm_slot_unmap(struct kvm_vm *vm, int slot)
{
	struct kvm_userspace_memory_region region = { .slot = slot }; /* size 0 deletes */

	pthread_mutex_lock(&vm->lock);
	ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
	clear_bit(vm->slots_used, slot);
	pthread_mutex_unlock(&vm->lock);
}

void kvm_irq_line(struct kvm_vm *vm, unsigned gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	ioctl(vm->fd, KVM_IRQ_LINE, &line);
}

void kvm_signal_msi(struct kvm_vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = address, .address_hi = address >> 32, .data = data };

	ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

static int change_irqfd(struct kvm_vm *vm, const struct kvm_irqfd *irqfd)
{
	return ioctl(vm->fd, KVM_IRQFD, irqfd) < 0 ? -errno : 0;
}

int kvm_irqfd_attach(struct kvm_vm *vm, unsigned gsi, int eventfd, int resamplefd)
{
	struct kvm_irqfd irqfd = { .fd = eventfd, .gsi = gsi };

	if (resamplefd >= 0) {
		irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
		irqfd.resamplefd = resamplefd;
	}
	return change_irqfd(vm, &irqfd);
}

void kvm_irqfd_detach(struct kvm_vm *vm, unsigned gsi, int eventfd)
{
	struct kvm_irqfd irqfd = { .fd = eventfd, .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN };

	change_irqfd(vm, &irqfd);
}

/* Without a length KVM does not look at what is written, nor decode the instruction where the CPU can do that. */
static int change_ioeventfd(struct kvm_vm *vm, uint64_t gpa, int eventfd, uint32_t flags)
{
	struct kvm_ioeventfd doorbell = { .addr = gpa, .fd = eventfd, .flags = flags };

	return ioctl(vm->fd, KVM_IOEVENTFD, &doorbell) < 0 ? -errno : 0;
}

int kvm_ioeventfd_attach(struct kvm_vm *vm, uint64_t gpa, int eventfd)
{
	return change_ioeventfd(vm, gpa, eventfd, 0);
}

void kvm_ioeventfd_detach(struct kvm_vm *vm, uint64_t gpa, int eventfd)
{
	change_ioeventfd(vm, gpa, eventfd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

int kvm_gsi_alloc(struct kvm_vm *vm)
{
	int gsi;

	pthread_mutex_lock(&vm->lock);
	gsi = take_bit(vm->gsis_used, KVM_IOAPIC_PINS, KVM_GSI_MAX);
	pthread_mutex_unlock(&vm->lock);
	return gsi;
}

static struct kvm_irq_routing_entry *find_msi(struct kvm_vm *vm, unsigned gsi)
{
	for (unsigned i = 0; i < vm->routing->nr; i++)
		if (vm->routing->entries[i].gsi == gsi &&
			vm->routing->entries[i].type == KVM_IRQ_ROUTING_MSI)
			return &vm->routing->entries[i];
	return NULL;
}

void kvm_gsi_free(struct kvm_vm *vm, unsigned gsi)
{
	struct kvm_irq_routing_entry *entry;

	pthread_mutex_lock(&vm->lock);
	entry = find_msi(vm, gsi);
	if (entry)
		*entry = vm->routing->entries[--vm->routing->nr];
	clear_bit(vm->gsis_used, gsi);
	pthread_mutex_unlock(&vm->lock);
}

void kvm_route_msi(struct kvm_vm *vm, unsigned gsi, uint64_t address, uint32_t data)
{
	struct kvm_irq_routing_entry *entry;

	pthread_mutex_lock(&vm->lock);
	entry = find_msi(vm, gsi);
	if (!entry)
		entry = add_route(vm, gsi);
	entry->type = KVM_IRQ_ROUTING_MSI;
	entry->u.msi = (struct kvm_irq_routing_msi){
		.address_lo = address,
		.address_hi = address >> 32,
		.data = data,
	};
	pthread_mutex_unlock(&vm->lock);
}

int kvm_routes_commit(struct kvm_vm *vm)
{
	int code = 0;

	pthread_mutex_lock(&vm->lock);
	if (ioctl(vm->fd, KVM_SET_GSI_ROUTING, vm->routing) < 0)
		code = -errno;
	pthread_mutex_unlock(&vm->lock);
	return code;
}

/* KVM_DEV_VFIO_FILE and what is done with it have the numbers of the group's, which are older. */
static int change_vfio_file(struct kvm_vm *vm, uint64_t change, int fd)
{
	struct kvm_device_attr attr = {
		.group = KVM_DEV_VFIO_GROUP,
		.attr = change,
		.addr = (uintptr_t)&fd,
	};

	return ioctl(vm->vfio_fd, KVM_SET_DEVICE_ATTR, &attr) < 0 ? -errno : 0;
}

int kvm_add_vfio_file(struct kvm_vm *vm, int fd)
{
	struct kvm_create_device create = { .type = KVM_DEV_TYPE_VFIO };
	int code = 0;

	pthread_mutex_lock(&vm->lock);
	if (vm->vfio_fd < 0) {
		if (ioctl(vm->fd, KVM_CREATE_DEVICE, &create) < 0)
			code = -errno;
		else
			vm->vfio_fd = create.fd;
	}
	pthread_mutex_unlock(&vm->lock);
	return code ? code : change_vfio_file(vm, KVM_DEV_VFIO_GROUP_ADD, fd);
}

void kvm_remove_vfio_file(struct kvm_vm *vm, int fd)
{
	change_vfio_file(vm, KVM_DEV_VFIO_GROUP_DEL, fd);
}
