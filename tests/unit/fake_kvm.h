/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * KVM as src/kvm asks for it, answered inside the process, so that a test may choose what a kernel
 * can do, where it fails, and why a vCPU comes back. Link with -Wl,--wrap=ioctl.
 */

#define FAKE_KVM_FD  12345 /* /dev/kvm */
#define FAKE_KVM_RUN 12288 /* bytes that a vCPU shares with the kernel */

/* As the kernel's struct kvm_pre_fault_memory, which old headers lack. */
struct fake_kvm_range {
	uint64_t gpa;
	uint64_t size;
};

struct fake_kvm {
	/* What the test chooses. */
	int lacking;           /* a capability that is not there; -1: none */
	unsigned long failing; /* a request that fails */
	int code;              /* with this errno */
	int quirks;            /* those that can be switched off */
	int exits;             /* likewise */
	int version;           /* of the interface */
	unsigned mmap_size;    /* FAKE_KVM_RUN */
	struct kvm_cpuid_entry2 supported[256];
	unsigned supported_count;
	struct kvm_cpuid_entry2 hyperv[16]; /* Hyper-V's leaves, in KVM's own order */
	unsigned hyperv_count;
	/* KVM_RUN of vCPU id: 0 or a negative errno. NULL: waits for a kick or a signal. */
	int (*run)(unsigned id, struct kvm_run *run);
	/* KVM_PRE_FAULT_MEMORY; advances the range by what it does. NULL: does all. */
	int (*prefault)(struct fake_kvm_range *range);

	/* What was asked for; to be read when no other thread asks. */
	unsigned calls[256];                               /* by the number of the request */
	struct kvm_userspace_memory_region slot, slots[4]; /* the last one; the first of them */
	struct kvm_irqfd irqfd;
	struct kvm_irq_level line;
	struct kvm_msi msi;
	struct kvm_irq_routing_entry routes[4096];
	unsigned route_count;
	struct kvm_cpuid_entry2 cpuid[256];
	unsigned cpuid_count;
	unsigned vcpu; /* the last one's ID */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_msr_entry msrs[8]; /* in their order */
	unsigned msr_count;
	struct kvm_enable_cap enabled;
	bool enabled_caps[256]; /* all that were, by number */
	uint64_t banks;         /* for machine checks */
	int vfio_file;          /* the last one that it was told of, */
	uint64_t vfio_change;   /* and what to do with it */
	uint64_t identity_map;
	unsigned long tss;
};

extern struct fake_kvm fake_kvm;

/* A kernel that can do everything, and has done nothing yet. */
void fake_kvm_reset(void);

/* Of the CPUID leaves that a vCPU was given the one that there is; NULL: none. Two of a kind end the test. */
const struct kvm_cpuid_entry2 *fake_kvm_leaf(uint32_t function, uint32_t index);

#define fake_kvm_calls(request) (fake_kvm.calls[_IOC_NR(request)])
