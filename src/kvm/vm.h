/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A VM as the kernel gives it: memory slots, interrupt lines, irqfds, and the routes of MSIs.
 * Addresses: GPA is a guest-physical address, HVA one of this process. Thread-safe but for
 * kvm_vm_new() and kvm_vm_free().
 */

#define KVM_IOAPIC_PINS 24   /* GSIs 0 to 23 are the IOAPIC's; MSIs take theirs from 24 on */
#define KVM_ROUTES_MAX  4096 /* KVM_MAX_IRQ_ROUTES; a line of the PC takes one or two */
#define KVM_GSI_MAX     (KVM_ROUTES_MAX - 14)
#define KVM_SLOTS_MAX   1024

struct kvm_vm {
	int fd;
	int kvm_fd;  /* the caller's */
	int vfio_fd; /* the KVM-VFIO device; -1 until the first file */
	unsigned vcpu_mmap_size;
	bool can_prefault;
	pthread_mutex_t lock; /* for all below */
	uint64_t slots_used[KVM_SLOTS_MAX / 64];
	uint64_t gsis_used[KVM_ROUTES_MAX / 64];
	struct kvm_irq_routing *routing; /* the whole table, as KVM wants it each time */
};

/*
 * Make a VM with in-kernel interrupt controllers (two 8259s, an IOAPIC, a local APIC for each vCPU)
 * and an 8254. kvm_fd is /dev/kvm and must outlive the VM.
 */
struct kvm_vm *kvm_vm_new(int kvm_fd, struct error *err);
void kvm_vm_free(struct kvm_vm *vm);

/*
 * Leave HLT, PAUSE and, as far as the CPU lets it, MWAIT to the guest, which then never gives a CPU back:
 * of a VM without vCPUs yet. Can it be done? Of MWAIT a guest is told by kvm_cpuid_set().
 */
int kvm_vm_dedicate(struct kvm_vm *vm, struct error *err);
int kvm_dedicate_check(int kvm_fd, struct error *err);
bool kvm_leaves_mwait(int kvm_fd);

/*
 * Show size bytes of this process at hva to the guest at gpa; all three multiples of 4 KiB. flags:
 * 0 or KVM_MEM_READONLY. Returns the slot's number or a negative errno (-EEXIST: it would overlap).
 */
int kvm_slot_map(struct kvm_vm *vm, uint64_t gpa, uint64_t size, void *hva, uint32_t flags);
void kvm_slot_unmap(struct kvm_vm *vm, int slot);

/* Set the level of a line of the interrupt controllers. */
void kvm_irq_line(struct kvm_vm *vm, unsigned gsi, bool level);

/* Deliver an MSI that one of our own devices raises. */
void kvm_signal_msi(struct kvm_vm *vm, uint64_t address, uint32_t data);

/*
 * Let KVM raise gsi whenever eventfd is signalled, with no exit and no thread of ours. With a
 * resamplefd (or -1) the line is a level: it is lowered, and resamplefd signalled, when the guest
 * acknowledges it. Detaching waits until no injection is under way; what the eventfd counts after
 * that is injected at the next attach.
 */
int kvm_irqfd_attach(struct kvm_vm *vm, unsigned gsi, int eventfd, int resamplefd);
void kvm_irqfd_detach(struct kvm_vm *vm, unsigned gsi, int eventfd);

/*
 * Let a guest's write to gpa, of any length, signal the eventfd: a doorbell, whose vCPU goes on at once. 0 or a
 * negative errno.
 */
int kvm_ioeventfd_attach(struct kvm_vm *vm, uint64_t gpa, int eventfd);
void kvm_ioeventfd_detach(struct kvm_vm *vm, uint64_t gpa, int eventfd);

/*
 * A GSI for one MSI. Set routes as often as needed, then commit once: each commit hands KVM the
 * whole table. kvm_gsi_alloc() gives the GSI or -ENOSPC.
 */
int kvm_gsi_alloc(struct kvm_vm *vm);
void kvm_gsi_free(struct kvm_vm *vm, unsigned gsi);
void kvm_route_msi(struct kvm_vm *vm, unsigned gsi, uint64_t address, uint32_t data);
int kvm_routes_commit(struct kvm_vm *vm);

/*
 * Tell KVM of a VFIO file, a group or a device's own, before a device is opened by it (non-coherent
 * DMA, devices that need it); take it back before the file is closed, for KVM has it open until then.
 */
int kvm_add_vfio_file(struct kvm_vm *vm, int fd);
void kvm_remove_vfio_file(struct kvm_vm *vm, int fd);
