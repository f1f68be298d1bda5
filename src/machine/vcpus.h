/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/vcpu.h"
#include "machine/memory.h"
#include "pci/space.h"

#include <sys/types.h>

/*
 * The vCPUs' threads: each runs its vCPU and serves the accesses that are trapped, on the spot.
 */

struct vcpus;

/* Called on a vCPU's thread. */
struct vcpus_ops {
	void (*triple_fault)(void *opaque); /* this vCPU runs no more */
	void (*failed)(void *opaque, const struct error *failure);
	/* A range of RAM that is present, for the second-level tables; false: none now. May be NULL. */
	bool (*populated)(void *opaque, struct memory_range *range);
	/*
	 * Was the access that has just been served not made, because it has to wait? Then wait() returns when
	 * it can be made again; meanwhile the vCPU counts as held, and no lock is. May be NULL.
	 */
	bool (*must_wait)(void *opaque);
	void (*wait)(void *opaque);
	void *opaque;
};

struct vcpus *vcpus_new(struct kvm_vm *vm, struct space *mmio, struct space *pio,
	const struct kvm_cpus *cpus, const struct vcpus_ops *ops, struct error *err);
struct kvm_vcpu *vcpus_first(struct vcpus *vcpus);

/*
 * Start all threads; where one cannot be had, no vCPU has run. Each fills the second-level tables for
 * what ops->populated() gives it before it runs, and one range more at each exit that comes here.
 */
int vcpus_start(struct vcpus *vcpus, struct error *err);

/* Who holds the vCPUs; they go on when nobody does. */
enum vcpus_holder {
	VCPUS_USER = 1,
	VCPUS_PLUG = 2,   /* the tree of PCI changes */
	VCPUS_MEMORY = 4, /* RAM is not mapped yet */
	VCPUS_GUEST = 8,  /* what the guest itself has done */
};

/*
 * Hold all vCPUs outside of the guest, and let them go on. When vcpus_pause() returns, none is in the guest
 * or in the midst of an access, which is waited for. For each holder one thread calls both at a time, none
 * of the vCPUs' but in wait(), after vcpus_start(). The guest's clock goes on; its watchdogs are told
 * that it stood still.
 */
void vcpus_pause(struct vcpus *vcpus, enum vcpus_holder holder);
void vcpus_resume(struct vcpus *vcpus, enum vcpus_holder holder);

/*
 * Have them held, without waiting for it. From a vCPU's own thread: the others leave the guest soon after, and whoever
 * resumes for this holder has paused for another one before. Before vcpus_start(): they start held.
 */
void vcpus_hold(struct vcpus *vcpus, enum vcpus_holder holder);

/* The id of a vCPU's thread; 0 where it has not begun to run. */
pid_t vcpus_thread(const struct vcpus *vcpus, unsigned index);

/* Stops the threads, if they run, paused or not. */
void vcpus_free(struct vcpus *vcpus);
