/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/cpus.h"
#include "kvm/vm.h"

/* A vCPU as the kernel gives it. One thread runs it; only kvm_vcpu_kick() may come from others. */
struct kvm_vcpu {
	struct kvm_vm *vm;
	unsigned index; /* among the guest's */
	int fd;
	struct kvm_run *run; /* shared with the kernel */
};

/*
 * Make vCPU number index of cpus: CPUID as kvm_cpuid_set() has it, and registers as after power-on; all
 * but vCPU 0 wait for a start-up IPI.
 */
int kvm_vcpu_open(struct kvm_vcpu *vcpu, struct kvm_vm *vm, const struct kvm_cpus *cpus,
	unsigned index, struct error *err);
void kvm_vcpu_close(struct kvm_vcpu *vcpu);

/*
 * Registers for an entry in 64-bit mode with flat segments (Linux boot protocol): page tables at GPA
 * cr3, kvm_vcpu_gdt[] at GPA gdt, rip and rsi as given.
 */
int kvm_vcpu_enter_long_mode(struct kvm_vcpu *vcpu, uint64_t cr3, uint64_t gdt, uint64_t rip,
	uint64_t rsi, struct error *err);

/* The table that kvm_vcpu_enter_long_mode() expects at gdt: null, unused, code, data. */
extern const uint64_t kvm_vcpu_gdt[4];

/*
 * Fill the second-level tables for [gpa, gpa + size) of guest RAM ahead of the guest's first touch, or
 * until another thread sets *stop. Best effort: a kernel that cannot (before 6.11) leaves it to faults.
 */
void kvm_vcpu_prefault(struct kvm_vcpu *vcpu, uint64_t gpa, uint64_t size, const bool *stop);

/* Run until the next exit to user space. 0, -EINTR after a kick or a signal, or another errno. */
int kvm_vcpu_run(struct kvm_vcpu *vcpu);

/* Make the next or current kvm_vcpu_run() return; the caller also sends its thread a signal. */
void kvm_vcpu_kick(struct kvm_vcpu *vcpu);

/*
 * Take a kick back, on the vCPU's own thread, and have the guest's watchdogs know that it has not run for a
 * while.
 */
void kvm_vcpu_resume(struct kvm_vcpu *vcpu);
