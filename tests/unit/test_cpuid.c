/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "cpu_tables.h"
#include "fake_kvm.h"
#include "kvm/cpuid.h"
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

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (unsigned i = 0; i < fake_kvm.cpuid_count; i++)
		if (fake_kvm.cpuid[i].function == function && fake_kvm.cpuid[i].index == index) {
			assert_null(found); /* twice */
			found = &fake_kvm.cpuid[i];
		}
	return found;
}

static void assert_leaf(
	uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	const struct kvm_cpuid_entry2 *entry = leaf(function, index);

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
	assert_null(leaf(0x1f, 0));
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
	assert_int_equal(leaf(0x80000001, 0)->ecx, 0x758237ff);
	set(&cpus, 3);
	assert_int_equal(leaf(0x80000001, 0)->ecx, 0x75c237ff);
	/* The leaves themselves are not made up. */
	for (unsigned i = 0; i < fake_kvm.supported_count; i++)
		if (fake_kvm.supported[i].function == 0x8000001e)
			fake_kvm.supported[i].function = 0x8000001c;
	assert_int_equal(kvm_cpuid_check(FAKE_KVM_FD, &cpus, &err), -ENOTSUP);
	assert_non_null(strstr(err.what, "topoext"));
	err.code = 0;
	set(&KVM_CPUS(4), 3);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
