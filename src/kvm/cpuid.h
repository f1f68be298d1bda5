/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/cpus.h"

/*
 * Give vCPU number index of cpus the CPUID that the host's KVM supports, with its place among the others
 * (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E). 0 or a negative errno.
 */
int kvm_cpuid_set(int kvm_fd, int vcpu_fd, const struct kvm_cpus *cpus, unsigned index);

/* Can this host's KVM show a guest such CPUs? */
int kvm_cpuid_check(int kvm_fd, const struct kvm_cpus *cpus, struct error *err);

/* Width of a guest-physical address that the second-level tables and CPUID allow, in bits. */
unsigned kvm_physical_bits(int kvm_fd);
