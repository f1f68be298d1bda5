/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/cpus.h"

#include <linux/kvm.h>

/*
 * The enlightenments that Hyper-V gives its guests, by which Windows knows that it is one (Hypervisor Top
 * Level Functional Specification, 2): KVM has them, a CPUID tells which the guest may use.
 */

#define KVM_HYPERV_LEAVES 6

/* Add those that this KVM has. 0, or -ENOTSUP where it has not even what each of them needs. */
int kvm_hyperv_add(int kvm_fd, struct kvm_cpuid2 *cpuid, const struct kvm_cpus *cpus);

/* Switch on for a vCPU what is not on by itself. 0 or a negative errno. */
int kvm_hyperv_enable(int kvm_fd, int vcpu_fd);

/* A vCPU's exit: what no guest was told of is refused, and the vCPU can go on. */
void kvm_hyperv_serve(struct kvm_run *run);
