/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kvm/cpuid.h"

#include "base/fd.h"
#include "kvm/features.h"
#include "kvm/hyperv.h"
#include "kvm/vm.h"

#include <asm/kvm_para.h>
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define ENTRIES_MAX 256

#define TOPOLOGY_EXTENSIONS (1U << 22) /* 80000001 ECX */
#define BEHIND_HYPERV       0x100      /* where a second hypervisor's leaves are looked for */

static struct kvm_cpuid2 *supported(int kvm_fd)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + ENTRIES_MAX * sizeof(cpuid->entries[0]));

	if (!cpuid)
		return NULL;
	/* Room is left for what is added: two for the topology. */
	cpuid->nent = ENTRIES_MAX - 2 - KVM_HYPERV_LEAVES;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0) {
		free(cpuid);
		return NULL;
	}
	return cpuid;
}

static void set_bits(uint32_t *reg, unsigned high, unsigned low, uint32_t value)
{
	uint32_t mask = (uint32_t)((2ULL << high) - (1ULL << low));

	*reg = (*reg & ~mask) | (value << low & mask);
}

/* The first one of a leaf; NULL: there is none. */
static const struct kvm_cpuid_entry2 *find_leaf(const struct kvm_cpuid2 *cpuid, uint32_t function)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	return NULL;
}

/* AMD's, and Hygon's, which is AMD's. */
static bool is_amd(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *leaf = find_leaf(cpuid, 0);

	return leaf && (memcmp(&leaf->ebx, "Auth", 4) == 0 || memcmp(&leaf->ebx, "Hygo", 4) == 0);
}

/* What the leaves tell of one CPU's place. */
struct topology {
	unsigned id; /* APIC ID */
	struct kvm_cpu_place place;
	unsigned threads; /* of a core */
	unsigned package; /* threads of a socket */
	unsigned thread_bits,
		package_bits; /* of the APIC ID below the core's and the socket's number */
};

static struct topology find_topology(const struct kvm_cpus *cpus, unsigned index)
{
	unsigned thread_bits = kvm_cpus_bits(cpus->threads);

	return (struct topology){
		.id = kvm_cpus_apic_id(cpus, index),
		.place = kvm_cpus_place(cpus, index),
		.threads = cpus->threads,
		.package = cpus->cores * cpus->threads,
		.thread_bits = thread_bits,
		.package_bits = thread_bits + kvm_cpus_bits(cpus->cores),
	};
}

/* Bits 25:14 of a cache's EAX: level 3 is the socket's, the others are a core's. */
static void set_sharing(uint32_t *eax, const struct topology *topology)
{
	set_bits(eax, 25, 14, ((*eax >> 5 & 7) == 3 ? topology->package : topology->threads) - 1);
}

static void patch_amd(struct kvm_cpuid_entry2 *entry, const struct topology *topology)
{
	switch (entry->function) {
	case 0x80000001:
		set_bits(&entry->ecx, 1, 1, topology->package > 1); /* legacy multi-core */
		/* Without the topology extensions there is no way to tell of threads. */
		if (topology->threads > 1)
			entry->ecx |= TOPOLOGY_EXTENSIONS;
		break;
	case 0x80000008:
		set_bits(&entry->ecx, 7, 0, topology->package - 1);
		set_bits(&entry->ecx, 15, 12, topology->package_bits);
		break;
	case 0x8000001d: /* caches, as leaf 4 */
		if (entry->eax & 0x1f)
			set_sharing(&entry->eax, topology);
		break;
	case 0x8000001e:
		entry->eax = topology->id;
		entry->ebx = (topology->threads - 1) << 8 | topology->place.core;
		entry->ecx = topology->place.socket; /* node, one a socket */
		break;
	}
}

static void patch(
	struct kvm_cpuid_entry2 *entry, const struct topology *topology, bool deadline_timer)
{
	switch (entry->function) {
	case 1:
		set_bits(&entry->ebx, 31, 24, topology->id);
		set_bits(&entry->ebx, 23, 16, 1U << topology->package_bits);
		set_bits(&entry->edx, 28, 28, topology->package > 1);
		/* KVM leaves this bit to us: it emulates the timer on any CPU. It spares the guest
		 * the calibration of the APIC timer. */
		set_bits(&entry->ecx, 24, 24, deadline_timer);
		break;
	case 4: /* Intel's caches */
		if ((entry->eax & 0x1f) == 0)
			break;
		set_bits(&entry->eax, 31, 26,
			(1U << (topology->package_bits - topology->thread_bits)) - 1);
		set_sharing(&entry->eax, topology);
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

static void add_level(
	struct kvm_cpuid2 *cpuid, const struct topology *topology, struct kvm_cpuid_entry2 level)
{
	level.function = 0xb;
	level.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	level.ecx |= level.index;
	level.edx = topology->id;
	cpuid->entries[cpuid->nent++] = level;
}

/* Leaf 0xb: level 0 is the thread, level 1 the core. Leaf 0x1f would tell of dies, which there are none of. */
static void add_topology(struct kvm_cpuid2 *cpuid, const struct topology *topology)
{
	add_level(cpuid, topology,
		(struct kvm_cpuid_entry2){
			.index = 0,
			.eax = topology->thread_bits,
			.ebx = topology->threads,
			.ecx = 1 << 8,
		});
	add_level(cpuid, topology,
		(struct kvm_cpuid_entry2){
			.index = 1,
			.eax = topology->package_bits,
			.ebx = topology->package,
			.ecx = 2 << 8,
		});
}

/* KVM's own leaves are the first ones of a hypervisor's, or those behind Hyper-V's. */
static int show_hypervisor(int kvm_fd, struct kvm_cpuid2 *cpuid, const struct kvm_cpus *cpus)
{
	if (cpus->hidden) {
		drop_leaf(cpuid, KVM_CPUID_SIGNATURE);
		drop_leaf(cpuid, KVM_CPUID_FEATURES);
	}
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == 1)
			set_bits(&entry->ecx, 31, 31, !cpus->hidden || cpus->hyperv);
		/* No vCPU waits for a CPU: locks and TLB flushes need no help, and who idles may poll. */
		if (entry->function == KVM_CPUID_FEATURES && cpus->dedicated)
			entry->edx |= 1U << KVM_HINTS_REALTIME;
		if (!cpus->hyperv || entry->function >> 8 != KVM_CPUID_SIGNATURE >> 8)
			continue;
		if (entry->function == KVM_CPUID_SIGNATURE)
			entry->eax += BEHIND_HYPERV; /* the last one of them */
		entry->function += BEHIND_HYPERV;
	}
	return cpus->hyperv ? kvm_hyperv_add(kvm_fd, cpuid, cpus) : 0;
}

/* KVM leaves these to us. Leaf 5, the sizes and states of MWAIT, is the CPU's that we are on. */
static void show_mwait(struct kvm_cpuid2 *cpuid)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == 1)
			set_bits(&entry->ecx, 3, 3, 1);
		if (entry->function == 5)
			__cpuid(5, entry->eax, entry->ebx, entry->ecx, entry->edx);
	}
}

/* NULL with errno set: it cannot be had. */
static struct kvm_cpuid2 *make_cpuid(int kvm_fd, const struct kvm_cpus *cpus, unsigned index)
{
	struct kvm_cpuid2 *cpuid = supported(kvm_fd);
	bool deadline_timer = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	struct topology topology = find_topology(cpus, index);
	bool has_topology, amd;
	int code;

	if (!cpuid)
		return NULL;
	amd = is_amd(cpuid);
	has_topology = find_leaf(cpuid, 0xb);
	for (unsigned i = 0; i < cpuid->nent; i++) {
		patch(&cpuid->entries[i], &topology, deadline_timer);
		if (amd)
			patch_amd(&cpuid->entries[i], &topology);
	}
	drop_leaf(cpuid, 0x1f);
	drop_leaf(cpuid, 0x80000026);
	drop_leaf(cpuid, 0xb);
	if (has_topology)
		add_topology(cpuid, &topology);
	if (cpus->dedicated && kvm_leaves_mwait(kvm_fd))
		show_mwait(cpuid);
	code = show_hypervisor(kvm_fd, cpuid, cpus);
	if (code) {
		free(cpuid);
		errno = -code;
		return NULL;
	}
	kvm_features_remove(cpuid, cpus);
	return cpuid;
}

int kvm_cpuid_set(int kvm_fd, int vcpu_fd, const struct kvm_cpus *cpus, unsigned index)
{
	cleanup_free struct kvm_cpuid2 *cpuid = make_cpuid(kvm_fd, cpus, index);

	return !cpuid || ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid) < 0 ? -errno : 0;
}

/* AMD's CPUs tell of threads by 8000001E alone; Linux then wants their caches from 8000001D. */
static int check_threads(
	const struct kvm_cpuid2 *cpuid, const struct kvm_cpus *cpus, struct error *err)
{
	if (cpus->threads == 1 || !is_amd(cpuid) ||
		(find_leaf(cpuid, 0x8000001d) && find_leaf(cpuid, 0x8000001e)))
		return 0;
	error_set(err, -ENOTSUP, NULL,
		"%u threads of a core cannot be shown: this host's CPU has no topology extensions "
		"(topoext)",
		cpus->threads);
	error_hint(err, "take threads=1");
	return err->code;
}

int kvm_cpuid_check(int kvm_fd, const struct kvm_cpus *cpus, struct error *err)
{
	cleanup_free struct kvm_cpuid2 *cpuid = make_cpuid(kvm_fd, cpus, 0);
	const char *lacking;

	if (!cpuid && errno == ENOTSUP)
		return error_set(err, -ENOTSUP, "/dev/kvm",
			"this kernel's KVM has no enlightenments of Hyper-V's (Linux 5.11 has)");
	if (!cpuid)
		return error_sys(err, -errno, "/dev/kvm", "cannot tell what CPU a guest may have");
	lacking = kvm_features_lacking(cpuid, cpus);
	if (!lacking)
		return check_threads(cpuid, cpus, err);
	error_set(
		err, -ENOTSUP, NULL, "this host cannot give a guest's CPU the feature %s", lacking);
	error_hint(err,
		"'grep -w %s /proc/cpuinfo' tells whether its CPU has it: if so, KVM does not pass it on",
		lacking);
	return err->code;
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
