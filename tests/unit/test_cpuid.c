/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "cpu_tables.h"
#include "fake_kvm.h"
#include "kvm/cpuid.h"
#include "kvm/features.h"
#include "kvm/hyperv.h"
#include "test.h"

#include <errno.h>
#include <string.h>

/* What a guest's CPUs say of themselves on hosts whose CPUID was recorded. */

static struct error err;

static int setup(void **state)
{
	(void)state;
	fake_kvm_reset();
	err = (struct error){ 0 };
	return 0;
}

static void assert_leaf(
	uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	const struct kvm_cpuid_entry2 *entry = fake_kvm_leaf(function, index);

	if (!entry)
		fail_msg("there is no leaf %x.%x", function, index);
	if (entry->eax != eax || entry->ebx != ebx || entry->ecx != ecx || entry->edx != edx)
		fail_msg("leaf %x.%x is %08x %08x %08x %08x", function, index, entry->eax,
			entry->ebx, entry->ecx, entry->edx);
}

static void set(const struct kvm_cpus *cpus, unsigned index)
{
	assert_int_equal(kvm_cpuid_check(FAKE_KVM_FD, cpus, &err), 0);
	assert_int_equal(kvm_cpuid_set(FAKE_KVM_FD, -1, cpus, index), 0);
}

/* Topology */

static const struct kvm_cpus two_sockets = { .count = 24, .cores = 6, .threads = 2 };

/* CPU 21 is thread 1 of core 4 of socket 1; its ID has 1 bit for the thread, 3 for the core. */
#define ID 0x19

TEST(places_are_numbered_threads_first)
{
	struct kvm_cpu_place place = kvm_cpus_place(&two_sockets, 21);

	assert_int_equal(place.socket, 1);
	assert_int_equal(place.core, 4);
	assert_int_equal(place.thread, 1);
	assert_int_equal(kvm_cpus_apic_id(&two_sockets, 21), ID);
	assert_int_equal(kvm_cpus_apic_id(&two_sockets, 0), 0);
	assert_int_equal(kvm_cpus_apic_id(&two_sockets, 12), 0x10);
	assert_int_equal(kvm_cpus_apic_id(&KVM_CPUS(6), 5), 5);
}

/* The MADT's entries and leaf 1 have 8 bits for an ID, and FF is all of them. */
TEST(ids_of_all_topologies_fit_and_differ)
{
	for (unsigned cores = 1; cores <= KVM_CPUS_MAX; cores++)
		for (unsigned threads = 1; cores * threads <= KVM_CPUS_MAX; threads++) {
			struct kvm_cpus cpus = {
				.count = KVM_CPUS_MAX / (cores * threads) * cores * threads,
				.cores = cores,
				.threads = threads,
			};
			int last = -1;

			for (unsigned i = 0; i < cpus.count; i++) {
				int id = kvm_cpus_apic_id(&cpus, i);

				assert_true(id > last && id < 0xff);
				last = id;
			}
		}
}

/* SDM volume 2, CPUID: leaf 1, caches in 4 with who shares them, 0xb a level an index. */
TEST(an_intel_cpu_shows_sockets_cores_and_threads)
{
	cpu_support(cpu_xeon);
	set(&two_sockets, 21);
	assert_leaf(1, 0, 0x00050654, ID << 24 | 0x100800, 0xfffefbff, 0xbfebfbff);
	assert_leaf(4, 0, 0x1c004121, 0x01c0003f, 0x3f, 0);
	assert_leaf(4, 2, 0x1c004143, 0x03c0003f, 0x3ff, 0);
	assert_leaf(4, 3, 0x1c02c163, 0x0280003f, 0x9fff, 4);
	assert_leaf(0xb, 0, 1, 2, 0x100, ID);
	assert_leaf(0xb, 1, 4, 12, 0x201, ID);
	assert_null(fake_kvm_leaf(0x1f, 0));
	/* AMD's leaves are AMD's. */
	assert_leaf(0x80000001, 0, 0, 0, 0x121, 0x2c100800);
	assert_leaf(0x80000008, 0, 0x302e, 0, 0, 0);
}

/* APM volume 3, E.4.7 and E.4.15 to 16: 80000008, and the topology extensions 8000001D and 8000001E. */
TEST(an_amd_cpu_shows_sockets_cores_and_threads)
{
	cpu_support(cpu_epyc);
	set(&two_sockets, 21);
	assert_leaf(1, 0, 0x00830f10, ID << 24 | 0x100800, 0xffd8320b, 0x178bfbff);
	assert_leaf(0xb, 0, 1, 2, 0x100, ID);
	assert_leaf(0xb, 1, 4, 12, 0x201, ID);
	assert_leaf(0x80000001, 0, 0x00830f10, 0x40000000, 0x75c237ff, 0x2fd3fbff);
	assert_leaf(0x80000008, 0, 0x3030, 0x018cf757, 0x400b, 0x10000);
	assert_leaf(0x8000001d, 0, 0x00004121, 0x01c0003f, 0x3f, 0);
	assert_leaf(0x8000001d, 3, 0x0002c163, 0x03c0003f, 0x3fff, 1);
	assert_leaf(0x8000001e, 0, ID, 0x104, 1, 0);
}

/* Threads of an AMD CPU are told by these alone, so that a host whose CPU does not show them has to. */
TEST(topology_extensions_come_with_threads)
{
	struct kvm_cpus cpus = { .count = 4, .cores = 2, .threads = 2 };

	cpu_support(cpu_epyc);
	for (unsigned i = 0; i < fake_kvm.supported_count; i++)
		if (fake_kvm.supported[i].function == 0x80000001)
			fake_kvm.supported[i].ecx &= ~(1U << 22);
	set(&KVM_CPUS(4), 3);
	assert_int_equal(fake_kvm_leaf(0x80000001, 0)->ecx, 0x758237ff);
	set(&cpus, 3);
	assert_int_equal(fake_kvm_leaf(0x80000001, 0)->ecx, 0x75c237ff);
	/* The leaves themselves are not made up. */
	for (unsigned i = 0; i < fake_kvm.supported_count; i++)
		if (fake_kvm.supported[i].function == 0x8000001e)
			fake_kvm.supported[i].function = 0x8000001c;
	assert_int_equal(kvm_cpuid_check(FAKE_KVM_FD, &cpus, &err), -ENOTSUP);
	assert_non_null(strstr(err.what, "topoext"));
	err.code = 0;
	set(&KVM_CPUS(4), 3);
}

/* Features */

static struct kvm_cpus with(const char *cpu)
{
	struct kvm_cpus cpus = KVM_CPUS(1);

	assert_int_equal(kvm_features_parse(cpu, &cpus, &err), 0);
	return cpus;
}

static void set_features(const struct cpu_leaf *table, const char *cpu)
{
	struct kvm_cpus cpus = with(cpu);

	cpu_support(table);
	set(&cpus, 0);
}

TEST(a_feature_goes_with_what_needs_it)
{
	set_features(cpu_xeon, "host,-avx512f");
	/* AVX512F, DQ, CD, BW and VL: bits 16, 17, 28, 30, 31 */
	assert_leaf(7, 0, 0, 0xd39ffffb & ~0xd0030000, 8, 0);
	assert_leaf(0xd, 0, 0x21f, 0xa80, 0xa88, 0);
	assert_null(fake_kvm_leaf(0xd, 5));
	assert_null(fake_kvm_leaf(0xd, 7));
	assert_non_null(fake_kvm_leaf(0xd, 4));
	assert_non_null(fake_kvm_leaf(0xd, 9));
	set_features(cpu_xeon, "host,-avx512f,-pku");
	assert_leaf(0xd, 0, 0x1f, 0xa80, 0x440, 0);
	set_features(cpu_epyc, "host,-avx");
	/* FMA, AVX and F16C; AVX2; of AMD's own XOP and FMA4 this CPU has none. */
	assert_int_equal(fake_kvm_leaf(1, 0)->ecx, 0xffd8320b & ~0x30001000U);
	assert_int_equal(fake_kvm_leaf(7, 0)->ebx, 0x219c91a9 & ~0x20U);
	assert_leaf(0xd, 0, 0x203, 0x340, 0x380, 0);
}

TEST(without_xsave_there_is_no_extended_state)
{
	set_features(cpu_xeon, "host,-xsave");
	for (unsigned i = 0; i < fake_kvm.cpuid_count; i++)
		assert_true(fake_kvm.cpuid[i].function != 0xd);
	assert_int_equal(fake_kvm_leaf(1, 0)->ecx & 0x34001000, 0);
	assert_int_equal(fake_kvm_leaf(7, 0)->ebx & 0xd0034020, 0);
	set_features(cpu_xeon, "host,-xsaves");
	assert_leaf(0xd, 1, 7, 0, 0, 0);
	assert_null(fake_kvm_leaf(0xd, 8));
	assert_leaf(0xd, 0, 0x2ff, 0xa80, 0xa88, 0);
}

TEST(what_a_host_has_not_it_need_not_lose)
{
	set_features(cpu_xeon, "host,-sse4a,-amx_tile,-avx_vnni");
	assert_leaf(7, 0, 0, 0xd39ffffb, 8, 0);
	assert_leaf(0xd, 0, 0x2ff, 0xa80, 0xa88, 0);
}

TEST(what_a_host_has_not_cannot_be_had)
{
	struct kvm_cpus cpus = with("host,+avx512f,+sse4_2");

	cpu_support(cpu_xeon);
	set(&cpus, 0);
	cpu_support(cpu_epyc);
	assert_int_equal(kvm_cpuid_check(FAKE_KVM_FD, &cpus, &err), -ENOTSUP);
	assert_non_null(strstr(err.what, "feature avx512f"));
	assert_non_null(strstr(err.hint, "grep -w avx512f /proc/cpuinfo"));
	/* Nor where there is no such leaf. */
	err = (struct error){ 0 };
	cpus = with("host,+avx_vnni");
	assert_int_equal(kvm_cpuid_check(FAKE_KVM_FD, &cpus, &err), -ENOTSUP);
	assert_non_null(strstr(err.what, "avx_vnni"));
	/* What KVM adds of itself counts. */
	err = (struct error){ 0 };
	cpus = with("host,+tsc_deadline_timer,+hypervisor");
	set(&cpus, 0);
}

/* One name, one bit, in the registers as the vendors have them. */
TEST(names_are_those_of_the_bits)
{
	static const struct {
		const char *cpu;
		uint32_t function, index;
		size_t reg;
		unsigned bit;
	} some[] = {
		{ "host,-vme", 1, 0, offsetof(struct kvm_cpuid_entry2, edx), 1 },
		{ "host,-pbe", 1, 0, offsetof(struct kvm_cpuid_entry2, edx), 31 },
		{ "host,-x2apic", 1, 0, offsetof(struct kvm_cpuid_entry2, ecx), 21 },
		{ "host,-hypervisor", 1, 0, offsetof(struct kvm_cpuid_entry2, ecx), 31 },
		{ "host,-arat", 6, 0, offsetof(struct kvm_cpuid_entry2, eax), 2 },
		{ "host,-smap", 7, 0, offsetof(struct kvm_cpuid_entry2, ebx), 20 },
		{ "host,-avx512vl", 7, 0, offsetof(struct kvm_cpuid_entry2, ebx), 31 },
		{ "host,-pku", 7, 0, offsetof(struct kvm_cpuid_entry2, ecx), 3 },
		{ "host,-xsavec", 0xd, 1, offsetof(struct kvm_cpuid_entry2, eax), 1 },
		{ "host,-rdtscp", 0x80000001, 0, offsetof(struct kvm_cpuid_entry2, edx), 27 },
		{ "host,-lahf_lm", 0x80000001, 0, offsetof(struct kvm_cpuid_entry2, ecx), 0 },
		{ "host,-nonstop_tsc", 0x80000007, 0, offsetof(struct kvm_cpuid_entry2, edx), 8 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		const struct kvm_cpuid_entry2 *entry;
		uint32_t before, after;

		set_features(cpu_xeon, "host");
		entry = fake_kvm_leaf(some[i].function, some[i].index);
		memcpy(&before, (const char *)entry + some[i].reg, sizeof(before));
		set_features(cpu_xeon, some[i].cpu);
		entry = fake_kvm_leaf(some[i].function, some[i].index);
		memcpy(&after, (const char *)entry + some[i].reg, sizeof(after));
		if (!(before >> some[i].bit & 1) || after >> some[i].bit & 1)
			fail_msg("%s: %08x, %08x", some[i].cpu, before, after);
	}
}

/* Hypervisors */

static struct kvm_cpus enlightened(void)
{
	struct kvm_cpus cpus = KVM_CPUS(2);

	cpus.hyperv = true;
	return cpus;
}

#define KVM_SIGNATURE 0x4b4d564b, 0x564b4d56, 0x4d /* "KVMKVMKVM" */
#define MICROSOFT     0x7263694d, 0x666f736f, 0x76482074

TEST(a_guest_sees_kvm)
{
	cpu_support(cpu_xeon);
	set(&KVM_CPUS(2), 0);
	assert_leaf(0x40000000, 0, 0x40000001, KVM_SIGNATURE);
	assert_leaf(0x40000001, 0, 0x01007efb, 0, 0, 0);
	assert_null(fake_kvm_leaf(0x40000100, 0));
	assert_true(fake_kvm_leaf(1, 0)->ecx >> 31);
}

/* TLFS 2.3 and 2.4: the vendor and the last leaf, the interface, what may be used and what had better be. */
TEST(enlightenments_come_before_kvm)
{
	struct kvm_cpus cpus = enlightened();

	cpu_support(cpu_xeon);
	set(&cpus, 0);
	assert_leaf(0x40000000, 0, 0x40000005, MICROSOFT);
	assert_leaf(0x40000001, 0, 0x31237648, 0, 0, 0); /* "Hv#1" */
	assert_leaf(0x40000002, 0, 0x3839, 0xa0000, 0, 0);
	/* Neither a reset by the hypervisor, nor what its debugger or nested guests would use. */
	assert_leaf(0x40000003, 0, 0xa7f, 0, 0, 0x100);
	assert_leaf(0x40000004, 0, 0xe2c, 0xfff, 0, 0);
	assert_leaf(0x40000005, 0, 0x1000, 0x40, 0, 0);
	assert_null(fake_kvm_leaf(0x4000000a, 0));
	assert_null(fake_kvm_leaf(0x40000080, 0));
	assert_leaf(0x40000100, 0, 0x40000101, KVM_SIGNATURE);
	assert_leaf(0x40000101, 0, 0x01007efb, 0, 0, 0);
	assert_true(fake_kvm_leaf(1, 0)->ecx >> 31);
}

/* What needs the number of a CPU is not told of without; the timers need the counter, too. */
TEST(enlightenments_go_with_what_they_need)
{
	struct kvm_cpus cpus = enlightened();

	cpu_support(cpu_xeon);
	fake_kvm.hyperv[3].eax &= ~(1U << 6);
	set(&cpus, 0);
	assert_leaf(0x40000003, 0, 0xa33, 0, 0, 0x100);
	assert_leaf(0x40000004, 0, 0x228, 0xfff, 0, 0);
	cpu_support(cpu_xeon);
	fake_kvm.hyperv[3].eax &= ~(1U << 9);
	set(&cpus, 0);
	assert_leaf(0x40000003, 0, 0x875, 0, 0, 0x100);
	cpu_support(cpu_xeon);
	fake_kvm.hyperv[3].edx = 0;
	fake_kvm.hyperv[4].eax = 0;
	set(&cpus, 0);
	assert_leaf(0x40000003, 0, 0x26f, 0, 0, 0);
	assert_leaf(0x40000004, 0, 0, 0xfff, 0, 0);
}

TEST(a_kvm_without_enlightenments_is_told)
{
	struct kvm_cpus cpus = enlightened();

	cpu_support(cpu_xeon);
	fake_kvm.lacking = KVM_CAP_SYS_HYPERV_CPUID;
	assert_int_equal(kvm_cpuid_check(FAKE_KVM_FD, &cpus, &err), -ENOTSUP);
	assert_non_null(strstr(err.what, "Hyper-V"));
	fake_kvm.lacking = -1;
	fake_kvm.hyperv[3].eax &= ~(1U << 5); /* no hypercalls: nothing works then */
	err = (struct error){ 0 };
	assert_int_equal(kvm_cpuid_check(FAKE_KVM_FD, &cpus, &err), -ENOTSUP);
}

TEST(a_hypervisor_hides)
{
	struct kvm_cpus cpus = enlightened();

	cpus.hidden = true;
	cpu_support(cpu_xeon);
	memcpy(cpus.hyperv_vendor, "penstock\0\0\0\0", 12);
	set(&cpus, 1);
	assert_leaf(0x40000000, 0, 0x40000005, 0x736e6570, 0x6b636f74, 0);
	assert_null(fake_kvm_leaf(0x40000100, 0));
	assert_null(fake_kvm_leaf(0x40000101, 0));
	assert_true(fake_kvm_leaf(1, 0)->ecx >> 31);
	cpus.hyperv = false;
	set(&cpus, 1);
	assert_null(fake_kvm_leaf(0x40000000, 0));
	assert_false(fake_kvm_leaf(1, 0)->ecx >> 31);
}

/* KVM_HINTS_REALTIME (Documentation/virt/kvm/x86/cpuid.rst), wherever KVM's leaves are. */
TEST(a_dedicated_cpu_is_told_that_it_never_waits)
{
	struct kvm_cpus cpus = enlightened();

	cpus.dedicated = true;
	cpu_support(cpu_xeon);
	set(&cpus, 0);
	assert_leaf(0x40000001, 0, 0x31237648, 0, 0, 0);
	assert_leaf(0x40000101, 0, 0x01007efb, 0, 0, 1);
	cpus.hyperv = false;
	set(&cpus, 0);
	assert_leaf(0x40000001, 0, 0x01007efb, 0, 0, 1);
}

/* Leaf 5 is then the CPU's that the test runs on, so only leaf 1 tells. */
TEST(mwait_is_told_of_where_it_is_left_to_the_guest)
{
	struct kvm_cpus cpus = KVM_CPUS(1);

	cpu_support(cpu_xeon);
	fake_kvm.supported[1].ecx &= ~8U;
	set(&cpus, 0);
	assert_false(fake_kvm_leaf(1, 0)->ecx & 8);
	cpus.dedicated = true;
	set(&cpus, 0);
	assert_true(fake_kvm_leaf(1, 0)->ecx & 8);
	fake_kvm.exits = 6;
	set(&cpus, 0);
	assert_false(fake_kvm_leaf(1, 0)->ecx & 8);
}

TEST(a_hypercall_that_nobody_has_is_refused)
{
	struct kvm_run run = { .exit_reason = KVM_EXIT_HYPERV };

	run.hyperv.type = KVM_EXIT_HYPERV_HCALL;
	kvm_hyperv_serve(&run);
	assert_int_equal(run.hyperv.u.hcall.result, 2); /* HV_STATUS_INVALID_HYPERCALL_CODE */
	/* Of the interrupt controller's registers it is only told. */
	run.hyperv.type = KVM_EXIT_HYPERV_SYNIC;
	run.hyperv.u.synic.control = 1;
	kvm_hyperv_serve(&run);
	assert_int_equal(run.hyperv.u.synic.control, 1);
}

#define CPUID_TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CPUID_TEST(places_are_numbered_threads_first),
		CPUID_TEST(ids_of_all_topologies_fit_and_differ),
		CPUID_TEST(an_intel_cpu_shows_sockets_cores_and_threads),
		CPUID_TEST(an_amd_cpu_shows_sockets_cores_and_threads),
		CPUID_TEST(topology_extensions_come_with_threads),
		CPUID_TEST(a_feature_goes_with_what_needs_it),
		CPUID_TEST(without_xsave_there_is_no_extended_state),
		CPUID_TEST(what_a_host_has_not_it_need_not_lose),
		CPUID_TEST(what_a_host_has_not_cannot_be_had),
		CPUID_TEST(names_are_those_of_the_bits),
		CPUID_TEST(a_guest_sees_kvm),
		CPUID_TEST(enlightenments_come_before_kvm),
		CPUID_TEST(enlightenments_go_with_what_they_need),
		CPUID_TEST(a_kvm_without_enlightenments_is_told),
		CPUID_TEST(a_hypervisor_hides),
		CPUID_TEST(a_dedicated_cpu_is_told_that_it_never_waits),
		CPUID_TEST(mwait_is_told_of_where_it_is_left_to_the_guest),
		CPUID_TEST(a_hypercall_that_nobody_has_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
