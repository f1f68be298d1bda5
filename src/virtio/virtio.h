/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/loop.h"
#include "kvm/vm.h"
#include "pci/bus.h"

/*
 * Where a vhost back end becomes a guest's PCI device: virtio 1.2 over PCI (section 4.1), without what is older.
 * As of a passed device, nothing of its data path is here: doorbells are ioeventfds, interrupts irqfds, and the
 * back end maps guest RAM itself. Here are the registers by which a driver says where the queues are.
 */

#define VIRTIO_BAR_SIZE (16 * 1024) /* of BAR 0, the only one: 64-bit, prefetchable */

/* Guest RAM as back ends map it: GPA, HVA of this process, and where in its file. */
struct virtio_region {
	uint64_t gpa;
	uint64_t size;
	void *hva;
	uint64_t offset;
};

#define VIRTIO_REGIONS_MAX 16

struct virtio_ram {
	struct virtio_region regions[VIRTIO_REGIONS_MAX];
	unsigned count;
	int fd; /* its file, which other processes map */
	/* May it be pinned? Where not, whoever asks makes the guest's access again, later. NULL: always. */
	bool (*ready)(void *opaque);
	void *opaque;
};

/* The numbers of virtio 1.2, section 5. */
enum virtio_type {
	VIRTIO_NET = 1,
	VIRTIO_BLK = 2,
	VIRTIO_VSOCK = 19,
	VIRTIO_FS = 26,
};

#define VIRTIO_MAC_SIZE   6
#define VIRTIO_TAG_SIZE   36 /* 5.11.4 */
#define VIRTIO_QUEUES_MAX 8 /* of a disk that a process serves; others have a number of their own */

#define VIRTIO_VDPA_QUEUES_MAX 63 /* with the configuration's as many vectors as a read tells of */

/* A device and its back end: user_fd and is_vdpa say which. The descriptors are the caller's, and outlive it. */
struct virtio_config {
	enum virtio_type type; /* by vDPA any number */
	char name[16];         /* for messages: net0 */
	int user_fd; /* a stream socket to a process that speaks vhost-user; -1: the kernel is the back end */
	int vhost_fd; /* of /dev/vhost-net, -vsock or -vdpa-N: no other process has owned it */
	bool is_vdpa; /* it is the last */
	int tap_fd;   /* of a net, with a virtio header of VIRTIO_NET_HEADER bytes */
	uint64_t cid; /* of a vsock; the back end has it, too */
	uint8_t mac[VIRTIO_MAC_SIZE];
	bool is_standby; /* of a net: the guest takes it as one with the card of the same address */
	unsigned queues; /* of a disk: 1 to VIRTIO_QUEUES_MAX; by vDPA as many as it has */
	char tag[VIRTIO_TAG_SIZE]; /* of a file system: the guest finds it by this */
};

#define VIRTIO_NET_HEADER 12 /* 5.1.6, with num_buffers, as all have it since 1.0 */

struct virtio_device;

/* Put it on a bus; the RAM outlives it. NULL with err filled in. */
struct virtio_device *virtio_new(const struct virtio_config *config, struct kvm_vm *vm,
	const struct virtio_ram *ram, struct pci_bus *bus, uint8_t devfn, struct error *err);
/* See to it in the loop that the back end is there, and what it tells by itself. 0 or a negative errno. */
int virtio_watch(struct virtio_device *device, struct loop *loop);
/* In the loop: that is how many bytes a disk has, whatever its back end says. */
void virtio_resize(struct virtio_device *device, uint64_t size);
/* The guest does not run any more, nor does the loop. */
void virtio_free(struct virtio_device *device);
