/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kvm/cpuid.h"

#include "base/fd.h"
#include "kvm/vm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define ENTRIES_MAX 256

static struct kvm_cpuid2 *supported(int kvm_fd)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + ENTRIES_MAX * sizeof(cpuid->entries[0]));

	if (!cpuid)
		return NULL;
	/* Room is left for the two topology entries that are added. */
	cpuid->nent = ENTRIES_MAX - 2;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0) {
		free(cpuid);
		return NULL;
	}
	return cpuid;
}

/* Bits that hold numbers below count. */
static unsigned bits_for(unsigned count)
{
	unsigned bits = 0;

	while (1U << bits < count)
		bits++;
	return bits;
}

static void set_bits(uint32_t *reg, unsigned high, unsigned low, uint32_t value)
{
	uint32_t mask = (uint32_t)((2ULL << high) - (1ULL << low));

	*reg = (*reg & ~mask) | (value << low & mask);
}

/* AMD's, and Hygon's, which is AMD's. */
static bool is_amd(const struct kvm_cpuid2 *cpuid)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0)
			return memcmp(&cpuid->entries[i].ebx, "Auth", 4) == 0 ||
			       memcmp(&cpuid->entries[i].ebx, "Hygo", 4) == 0;
	return false;
}

static void patch_amd(struct kvm_cpuid_entry2 *entry, unsigned id, unsigned count)
{
	switch (entry->function) {
	case 0x80000001:
		set_bits(&entry->ecx, 1, 1, count > 1); /* legacy multi-core */
		break;
	case 0x80000008:
		set_bits(&entry->ecx, 7, 0, count - 1);
		set_bits(&entry->ecx, 15, 12, bits_for(count));
		break;
	case 0x8000001d: /* caches, as leaf 4 */
		if (entry->eax & 0x1f)
			set_bits(&entry->eax, 25, 14, (entry->eax >> 5 & 7) == 3 ? count - 1 : 0);
		break;
	case 0x8000001e:
		entry->eax = id;
		entry->ebx = id & 0xff; /* core; one thread each */
		entry->ecx = 0;         /* node 0 of 1 */
		break;
	}
}

static void patch(struct kvm_cpuid_entry2 *entry, unsigned id, unsigned count, bool deadline_timer)
{
	unsigned bits = bits_for(count);

	switch (entry->function) {
	case 1:
		set_bits(&entry->ebx, 31, 24, id);
		set_bits(&entry->ebx, 23, 16, 1U << bits);
		set_bits(&entry->edx, 28, 28, count > 1);
		set_bits(&entry->ecx, 31, 31, 1); /* a hypervisor is present */
		/* KVM leaves this bit to us: it emulates the timer on any CPU. It spares the guest
		 * the calibration of the APIC timer. */
		set_bits(&entry->ecx, 24, 24, deadline_timer);
		break;
	case 4: /* Intel's caches: level 3 is shared by all, the others by none */
		if ((entry->eax & 0x1f) == 0)
			break;
		set_bits(&entry->eax, 31, 26, (1U << bits) - 1);
		set_bits(&entry->eax, 25, 14, (entry->eax >> 5 & 7) == 3 ? count - 1 : 0);
		break;
	}
}

static void drop_leaf(struct kvm_cpuid2 *cpuid, uint32_t function)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function != function)
			cpuid->entries[kept++] = cpuid->entries[i];
	cpuid->nent = kept;
}

/* Leaf 0xb: level 0 is the thread, level 1 the core. */
static void add_topology(struct kvm_cpuid2 *cpuid, unsigned id, unsigned count)
{
	cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
		.function = 0xb,
		.index = 0,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = 0,
		.ebx = 1,
		.ecx = 1 << 8,
		.edx = id,
	};
	cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
		.function = 0xb,
		.index = 1,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = bits_for(count),
		.ebx = count,
		.ecx = 2 << 8 | 1,
		.edx = id,
	};
}

int kvm_cpuid_set(int kvm_fd, int vcpu_fd, unsigned id, unsigned count)
{
	cleanup_free struct kvm_cpuid2 *cpuid = supported(kvm_fd);
	bool deadline_timer = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	bool has_topology = false, amd;

	if (!cpuid)
		return errno ? -errno : -ENOMEM;
	amd = is_amd(cpuid);
	for (unsigned i = 0; i < cpuid->nent; i++) {
		patch(&cpuid->entries[i], id, count, deadline_timer);
		if (amd)
			patch_amd(&cpuid->entries[i], id, count);
		has_topology |= cpuid->entries[i].function == 0xb;
	}
	drop_leaf(cpuid, 0x1f);
	drop_leaf(cpuid, 0x80000026);
	drop_leaf(cpuid, 0xb);
	if (has_topology)
		add_topology(cpuid, id, count);
	return ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid) < 0 ? -errno : 0;
}

unsigned kvm_physical_bits(int kvm_fd)
{
	cleanup_free struct kvm_cpuid2 *cpuid = supported(kvm_fd);
	unsigned bits = 36;

	for (unsigned i = 0; cpuid && i < cpuid->nent; i++) {
		uint32_t eax = cpuid->entries[i].eax;

		if (cpuid->entries[i].function == 0x80000008)
			/* Bits 23:16 are there where the tables are narrower than the CPU. */
			bits = eax >> 16 & 0xff ? eax >> 16 & 0xff : eax & 0xff;
	}
	return bits;
}
