/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kvm/hyperv.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

#define LEAF(number)    (0x40000000 + (number))
#define LEAVES_MAX      32 /* that KVM may tell of */
#define HYPERCALL_PAGES (1U << 5)
#define INVALID_CALL    2 /* status of a hypercall: no such one */

/*
 * What each of them is told by: bits of leaf 3's EAX (registers of the hypervisor's) and EDX, and of leaf
 * 4's EAX (what the guest had better use). Each is below what it needs.
 */
enum { VPINDEX, TIME, SYNIC, STIMER, RUNTIME, FREQUENCIES, VAPIC, RELAXED, TLBFLUSH, IPI, COUNT };

#define NEEDS(number) (1U << (number))

static const struct {
	uint32_t access, features, advice;
	uint32_t needs;
} enlightenments[COUNT] = {
	[VPINDEX] = { .access = 1U << 6 },
	[TIME] = { .access = 1U << 1 | 1U << 9 }, /* a counter, and a page that spares reading it */
	[SYNIC] = { .access = 1U << 2, .needs = NEEDS(VPINDEX) },
	[STIMER] = { .access = 1U << 3, .needs = NEEDS(VPINDEX) | NEEDS(SYNIC) | NEEDS(TIME) },
	[RUNTIME] = { .access = 1U << 0 },
	[FREQUENCIES] = { .access = 1U << 11, .features = 1U << 8 },
	[VAPIC] = { .access = 1U << 4, .advice = 1U << 3 },
	[RELAXED] = { .advice = 1U << 5 },
	/* With masks of more than 64 CPUs. */
	[TLBFLUSH] = { .advice = 1U << 2 | 1U << 11, .needs = NEEDS(VPINDEX) },
	[IPI] = { .advice = 1U << 10 | 1U << 11, .needs = NEEDS(VPINDEX) },
};

/* Not one of its own: a guest that ends its interrupts itself leaves APICv to work with the SynIC. */
#define ADVICE_NO_AUTO_EOI (1U << 9)

static int ask_kvm(int kvm_fd, struct kvm_cpuid2 **leaves)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + LEAVES_MAX * sizeof(cpuid->entries[0]));

	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = LEAVES_MAX;
	if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SYS_HYPERV_CPUID) <= 0 ||
		ioctl(kvm_fd, KVM_GET_SUPPORTED_HV_CPUID, cpuid) < 0) {
		free(cpuid);
		return -ENOTSUP;
	}
	*leaves = cpuid;
	return 0;
}

static struct kvm_cpuid_entry2 find_leaf_of(const struct kvm_cpuid2 *leaves, uint32_t function)
{
	for (unsigned i = 0; i < leaves->nent; i++)
		if (leaves->entries[i].function == function)
			return leaves->entries[i];
	return (struct kvm_cpuid_entry2){ .function = function };
}

static bool has_all(uint32_t there, uint32_t wanted)
{
	return (there & wanted) == wanted;
}

/* Those that this KVM has, without any whose needs are not there, in leaves 3 and 4. */
static void choose_enlightenments(
	struct kvm_cpuid_entry2 *features, struct kvm_cpuid_entry2 *advice)
{
	uint32_t access = HYPERCALL_PAGES, more = 0, use = advice->eax & ADVICE_NO_AUTO_EOI;
	uint32_t chosen = 0;

	for (unsigned i = 0; i < COUNT; i++) {
		if (!has_all(features->eax, enlightenments[i].access) ||
			!has_all(features->edx, enlightenments[i].features) ||
			!has_all(advice->eax, enlightenments[i].advice) ||
			!has_all(chosen, enlightenments[i].needs))
			continue;
		chosen |= 1U << i;
		access |= enlightenments[i].access;
		more |= enlightenments[i].features;
		use |= enlightenments[i].advice;
	}
	*features = (struct kvm_cpuid_entry2){ .function = LEAF(3), .eax = access, .edx = more };
	/* EBX: how often to try a spinlock before the hypervisor is told. */
	*advice = (struct kvm_cpuid_entry2){ .function = LEAF(4), .eax = use, .ebx = advice->ebx };
}

int kvm_hyperv_add(int kvm_fd, struct kvm_cpuid2 *cpuid, const struct kvm_cpus *cpus)
{
	cleanup_free struct kvm_cpuid2 *leaves = NULL;
	struct kvm_cpuid_entry2 added[KVM_HYPERV_LEAVES];
	int code = ask_kvm(kvm_fd, &leaves);

	if (code)
		return code;
	for (unsigned i = 0; i < KVM_HYPERV_LEAVES; i++)
		added[i] = find_leaf_of(leaves, LEAF(i));
	if (!(added[3].eax & HYPERCALL_PAGES))
		return -ENOTSUP;
	added[0].eax = LEAF(KVM_HYPERV_LEAVES - 1);
	memcpy(&added[0].ebx, cpus->hyperv_vendor, 12);
	choose_enlightenments(&added[3], &added[4]);
	memcpy(&cpuid->entries[cpuid->nent], added, sizeof(added));
	cpuid->nent += KVM_HYPERV_LEAVES;
	return 0;
}

int kvm_hyperv_enable(int kvm_fd, int vcpu_fd)
{
	struct kvm_enable_cap synic = { .cap = KVM_CAP_HYPERV_SYNIC2 };
	struct kvm_enable_cap enforce = { .cap = KVM_CAP_HYPERV_ENFORCE_CPUID, .args = { 1 } };

	if (ioctl(vcpu_fd, KVM_ENABLE_CAP, &synic) < 0)
		return -errno;
	/* What the guest is not told of it does not get; a KVM without has it end here (kvm_hyperv_serve). */
	if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV_ENFORCE_CPUID) > 0 &&
		ioctl(vcpu_fd, KVM_ENABLE_CAP, &enforce) < 0)
		return -errno;
	return 0;
}

void kvm_hyperv_serve(struct kvm_run *run)
{
	if (run->hyperv.type == KVM_EXIT_HYPERV_HCALL)
		run->hyperv.u.hcall.result = INVALID_CALL;
}
