/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kvm/cpus.h"

#include <string.h>

unsigned kvm_cpus_bits(unsigned count)
{
	unsigned bits = 0;

	while (1U << bits < count)
		bits++;
	return bits;
}

struct kvm_cpu_place kvm_cpus_place(const struct kvm_cpus *cpus, unsigned index)
{
	unsigned of_socket = cpus->cores * cpus->threads;

	return (struct kvm_cpu_place){
		.socket = index / of_socket,
		.core = index % of_socket / cpus->threads,
		.thread = index % cpus->threads,
	};
}

/* Linux takes Hyper-V's from whoever has Microsoft's name alone. */
bool kvm_cpus_lack_clock(const struct kvm_cpus *cpus)
{
	return cpus->hidden && (!cpus->hyperv || memcmp(cpus->hyperv_vendor, KVM_HYPERV_VENDOR,
							 sizeof(cpus->hyperv_vendor)));
}

unsigned kvm_cpus_apic_id(const struct kvm_cpus *cpus, unsigned index)
{
	struct kvm_cpu_place place = kvm_cpus_place(cpus, index);
	unsigned thread_bits = kvm_cpus_bits(cpus->threads);
	unsigned core_bits = kvm_cpus_bits(cpus->cores);

	return (place.socket << core_bits | place.core) << thread_bits | place.thread;
}
