/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The CPUs that a guest is to have, and where each of them is: sockets of cores of threads, numbered with
 * the threads of a core next to each other. An APIC ID has a field for each, so IDs may leave gaps (Intel
 * SDM volume 3, "Hierarchical Mapping of Shared Resources"; AMD APM volume 3, E.4).
 */

#define KVM_CPUS_MAX      64 /* an APIC ID then always fits into 8 bits */
#define KVM_HYPERV_VENDOR "Microsoft Hv"
#define KVM_FEATURE_WORDS 13 /* registers of feature bits, of kvm/features.c */

struct kvm_cpus {
	unsigned count;   /* a multiple of cores * threads: the sockets */
	unsigned cores;   /* of a socket */
	unsigned threads; /* of a core */
	bool pinned;
	uint16_t pins[KVM_CPUS_MAX]; /* the host's CPU that each runs on, where they are pinned */
	uint32_t needed[KVM_FEATURE_WORDS];  /* the host's CPU must have these, */
	uint32_t removed[KVM_FEATURE_WORDS]; /* and the guest's has not these */
	bool hyperv;                         /* with Hyper-V's enlightenments, */
	char hyperv_vendor[12];              /* and this for the hypervisor's maker */
	bool hidden;    /* nothing tells of KVM, nor without Hyper-V of a hypervisor */
	bool dedicated; /* HLT, PAUSE and MWAIT do not give the host's CPU back */
};

/* One socket of cores without threads beside them. */
#define KVM_CPUS(number)                       \
	((struct kvm_cpus){ .count = (number), \
		.cores = (number),             \
		.threads = 1,                  \
		.hyperv_vendor = KVM_HYPERV_VENDOR })

struct kvm_cpu_place {
	unsigned socket;
	unsigned core;   /* in its socket */
	unsigned thread; /* in its core */
};

struct kvm_cpu_place kvm_cpus_place(const struct kvm_cpus *cpus, unsigned index);

unsigned kvm_cpus_apic_id(const struct kvm_cpus *cpus, unsigned index);

/* No hypervisor's clock that a system knows is to be seen: it measures its CPU's by the platform's. */
bool kvm_cpus_lack_clock(const struct kvm_cpus *cpus);

/* Bits of an APIC ID that hold numbers below count. */
unsigned kvm_cpus_bits(unsigned count);
