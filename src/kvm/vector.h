/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"

/*
 * An interrupt vector of a guest's device: whoever has its eventfd raises it, with no exit and no thread of
 * ours. Detached, as while the guest masks it, it is pending in the eventfd, and attaching delivers it. The
 * owner's lock guards it.
 */

struct kvm_vector {
	int eventfd;   /* -1: never used */
	int gsi;       /* -1 */
	bool attached; /* the irqfd is in KVM */
	bool is_routed; /* its GSI has this route; one that had the GSI before may have left another */
	uint64_t address;
	uint32_t data;
};

#define KVM_VECTOR_NONE                   \
	{                                 \
		.eventfd = -1, .gsi = -1, \
	}

/* It gets an eventfd and a GSI, if it has none. */
int kvm_vector_prepare(struct kvm_vector *vector, struct kvm_vm *vm);
void kvm_vector_destroy(struct kvm_vector *vector, struct kvm_vm *vm);

/*
 * Set the route of one that is prepared, if the MSI is another than KVM has. True: kvm_routes_commit() is
 * needed; where that fails, is_routed is to be taken back.
 */
bool kvm_vector_route(
	struct kvm_vector *vector, struct kvm_vm *vm, uint64_t address, uint32_t data);

/* Either may be asked for twice. */
int kvm_vector_attach(struct kvm_vector *vector, struct kvm_vm *vm);
void kvm_vector_detach(struct kvm_vector *vector, struct kvm_vm *vm);

/* Has it been raised, and not delivered? Where it is attached, KVM takes it at once. */
bool kvm_vector_is_pending(const struct kvm_vector *vector);
