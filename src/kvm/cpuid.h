/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * Give a vCPU the CPUID that the host's KVM supports, with APIC ID id and a topology of one socket
 * of count cores without SMT (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E). 0 or a
 * negative errno.
 */
int kvm_cpuid_set(int kvm_fd, int vcpu_fd, unsigned id, unsigned count);

/* Width of a guest-physical address that the second-level tables and CPUID allow, in bits. */
unsigned kvm_physical_bits(int kvm_fd);
