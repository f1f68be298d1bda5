/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kvm/vcpu.h"

#include "base/fd.h"
#include "base/size.h"
#include "kvm/cpuid.h"
#include "kvm/hyperv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#ifndef KVM_PRE_FAULT_MEMORY
struct kvm_pre_fault_memory {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 padding[5];
};
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

/*
 * At once. As long as such a call takes, no memory slot of the VM can change (it holds the SRCU that a
 * change waits for), and nothing ends it but a signal.
 */
#define PREFAULT_CHUNK (32 * MIB)

#define CODE_SELECTOR 0x10
#define DATA_SELECTOR 0x18

#define CR0_PE   (1ULL << 0)
#define CR0_ET   (1ULL << 4)
#define CR0_PG   (1ULL << 31)
#define CR4_PAE  (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)

#define MSR_MISC_ENABLE          0x1a0
#define MISC_ENABLE_FAST_STRINGS 1
#define MSR_MTRR_DEF_TYPE        0x2ff
#define MTRR_ENABLE              (1U << 11)
#define MTRR_WRITE_BACK          6

/* Flat 64-bit code and flat data, with the accessed bit set as in the segments below. */
const uint64_t kvm_vcpu_gdt[4] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };

static int set_msr(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value)
{
	cleanup_free struct kvm_msrs *msrs =
		calloc(1, sizeof(*msrs) + sizeof(struct kvm_msr_entry));

	if (!msrs)
		return -ENOMEM;
	msrs->nmsrs = 1;
	msrs->entries[0] = (struct kvm_msr_entry){ .index = index, .data = value };
	return ioctl(vcpu->fd, KVM_SET_MSRS, msrs) == 1 ? 0 : -EIO;
}

/*
 * Without firmware nobody sets up the MTRRs. Write-back as the default type with no exceptions is
 * right: the guest's kernel marks device memory uncached in its page tables.
 */
static int set_mtrr(struct kvm_vcpu *vcpu)
{
	return set_msr(vcpu, MSR_MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_WRITE_BACK);
}

/* Firmware leaves this on, too; Linux on an Intel CPU copies memory slowly without. AMD has no such. */
static void allow_fast_strings(struct kvm_vcpu *vcpu)
{
	set_msr(vcpu, MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS);
}

/*
 * One bank for machine checks instead of KVM's 32, of which Linux sets up and reads each. Nothing is
 * lost where it fails: no machine check is ever passed on.
 */
static void limit_machine_checks(struct kvm_vcpu *vcpu)
{
	uint64_t banks = 1;

	ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &banks);
}

int kvm_vcpu_open(struct kvm_vcpu *vcpu, struct kvm_vm *vm, const struct kvm_cpus *cpus,
	unsigned index, struct error *err)
{
	char object[16];
	int code;

	snprintf(object, sizeof(object), "vCPU %u", index);
	*vcpu = (struct kvm_vcpu){ .vm = vm, .index = index, .run = MAP_FAILED };
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, kvm_cpus_apic_id(cpus, index));
	if (vcpu->fd < 0)
		return error_sys(err, -errno, object, "cannot be made");
	vcpu->run = mmap(NULL, vm->vcpu_mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		return error_sys(err, -errno, object, "cannot map its shared page");
	code = kvm_cpuid_set(vm->kvm_fd, vcpu->fd, cpus, index);
	if (code)
		return error_sys(err, code, object, "cannot set its CPUID");
	code = cpus->hyperv ? kvm_hyperv_enable(vm->kvm_fd, vcpu->fd) : 0;
	if (code)
		return error_sys(err, code, object, "cannot have Hyper-V's enlightenments");
	limit_machine_checks(vcpu);
	allow_fast_strings(vcpu);
	code = set_mtrr(vcpu);
	if (code)
		return error_sys(err, code, object, "cannot set its MTRRs");
	return 0;
}

void kvm_vcpu_close(struct kvm_vcpu *vcpu)
{
	if (vcpu->run && vcpu->run != MAP_FAILED)
		munmap(vcpu->run, vcpu->vm->vcpu_mmap_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.selector = selector,
		.limit = 0xffffffff,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = selector == CODE_SELECTOR,
		.db = selector != CODE_SELECTOR,
	};
}

int kvm_vcpu_enter_long_mode(struct kvm_vcpu *vcpu, uint64_t cr3, uint64_t gdt, uint64_t rip,
	uint64_t rsi, struct error *err)
{
	struct kvm_regs regs = { .rip = rip, .rsi = rsi, .rflags = 2 };
	struct kvm_segment data = flat_segment(DATA_SELECTOR, 3);
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return error_sys(err, -errno, NULL, "cannot read the first vCPU's registers");
	sregs.cs = flat_segment(CODE_SELECTOR, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.gdt.base = gdt;
	sregs.gdt.limit = sizeof(kvm_vcpu_gdt) - 1;
	sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs.cr3 = cr3;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME | EFER_LMA;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return error_sys(err, -errno, NULL, "cannot set the first vCPU's registers");
	return 0;
}

void kvm_vcpu_prefault(struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t size, const bool *stop)
{
	uint64_t end = gpa + size;

	while (vcpu->vm->can_prefault && gpa < end && !__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
		struct kvm_pre_fault_memory range = {
			.gpa = gpa,
			.size = min_u64(end - gpa, PREFAULT_CHUNK),
		};

		if (ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &range) < 0 && errno != EINTR &&
			errno != EAGAIN)
			return;
		/* The kernel advances the range by what it did, and returns early at a signal. */
		gpa = range.gpa;
	}
}

int kvm_vcpu_run(struct kvm_vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

void kvm_vcpu_kick(struct kvm_vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
}

void kvm_vcpu_resume(struct kvm_vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELEASE);
	/* It fails where the guest does not use KVM's clock, and then nothing is lost. */
	ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
}
