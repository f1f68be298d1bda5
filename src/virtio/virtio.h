/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"
#include "pci/bus.h"

/*
 * Where a vhost back end becomes a guest's PCI device: virtio 1.2 over PCI (section 4.1), without what is older.
 * As of a passed device, nothing of its data path is here: doorbells are ioeventfds, interrupts irqfds, and the
 * back end maps guest RAM itself. Here are the registers by which a driver says where the queues are.
 */

#define VIRTIO_BAR_SIZE (16 * 1024) /* of BAR 0, the only one: 64-bit, prefetchable */

/* Guest RAM as back ends map it: GPA, HVA of this process. */
struct virtio_region {
	uint64_t gpa;
	uint64_t size;
	void *hva;
};

#define VIRTIO_REGIONS_MAX 16

struct virtio_ram {
	struct virtio_region regions[VIRTIO_REGIONS_MAX];
	unsigned count;
};

/* The numbers of virtio 1.2, section 5. */
enum virtio_type {
	VIRTIO_NET = 1,
	VIRTIO_VSOCK = 19,
};

#define VIRTIO_MAC_SIZE 6

/* A device and its back end. The descriptors are the caller's, and outlive it. */
struct virtio_config {
	enum virtio_type type;
	char name[16]; /* for messages: net0 */
	int vhost_fd;  /* of /dev/vhost-net or -vsock: no other process has owned it */
	int tap_fd;    /* of a net, with a virtio header of VIRTIO_NET_HEADER bytes */
	uint64_t cid;  /* of a vsock; the back end has it, too */
	uint8_t mac[VIRTIO_MAC_SIZE];
};

#define VIRTIO_NET_HEADER 12 /* 5.1.6, with num_buffers, as all have it since 1.0 */

struct virtio_device;

/* Put it on a bus; the RAM outlives it. NULL with err filled in. */
struct virtio_device *virtio_new(const struct virtio_config *config, struct kvm_vm *vm,
	const struct virtio_ram *ram, struct pci_bus *bus, uint8_t devfn, struct error *err);
/* The guest does not run any more. */
void virtio_free(struct virtio_device *device);
