/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

/*
 * CPUID as two hosts have it, of leaves that matter to a guest's CPUs: an Intel Xeon Gold 6148 (Skylake
 * with AVX-512, 20 cores of 2 threads, the second socket) and an AMD EPYC 7502 (Zen 2, 32 cores of 2
 * threads). What KVM leaves out of it (VMX and SVM aside) is left in: no code of ours may rely on that.
 */

struct cpu_leaf {
	uint32_t function, index, eax, ebx, ecx, edx;
};

extern const struct cpu_leaf cpu_xeon[], cpu_epyc[]; /* an entry with function ~0 ends each */

/* Linux 6.12's KVM, of Hyper-V. */
extern const struct cpu_leaf cpu_hyperv[];

/* Have fake_kvm support these, and that. */
void cpu_support(const struct cpu_leaf *table);
