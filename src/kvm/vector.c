/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kvm/vector.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

int kvm_vector_prepare(struct kvm_vector *vector, struct kvm_vm *vm)
{
	if (vector->eventfd < 0) {
		vector->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vector->eventfd < 0)
			return -errno;
	}
	if (vector->gsi < 0) {
		vector->gsi = kvm_gsi_alloc(vm);
		if (vector->gsi < 0)
			return vector->gsi;
	}
	return 0;
}

void kvm_vector_destroy(struct kvm_vector *vector, struct kvm_vm *vm)
{
	kvm_vector_detach(vector, vm);
	if (vector->gsi >= 0)
		kvm_gsi_free(vm, vector->gsi);
	if (vector->eventfd >= 0)
		close(vector->eventfd);
	*vector = (struct kvm_vector)KVM_VECTOR_NONE;
}

bool kvm_vector_route(struct kvm_vector *vector, struct kvm_vm *vm, uint64_t address, uint32_t data)
{
	if (vector->is_routed && address == vector->address && data == vector->data)
		return false;
	kvm_route_msi(vm, vector->gsi, address, data);
	vector->address = address;
	vector->data = data;
	vector->is_routed = true;
	return true;
}

int kvm_vector_attach(struct kvm_vector *vector, struct kvm_vm *vm)
{
	int code = vector->attached ? 0 : kvm_irqfd_attach(vm, vector->gsi, vector->eventfd, -1);

	vector->attached = !code;
	return code;
}

void kvm_vector_detach(struct kvm_vector *vector, struct kvm_vm *vm)
{
	if (vector->attached)
		kvm_irqfd_detach(vm, vector->gsi, vector->eventfd);
	vector->attached = false;
}

bool kvm_vector_is_pending(const struct kvm_vector *vector)
{
	struct pollfd poll_fd = { .fd = vector->eventfd, .events = POLLIN };

	return vector->eventfd >= 0 && !vector->attached && poll(&poll_fd, 1, 0) == 1;
}
