/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "virtio/virtio.h"

/*
 * The kernel's vhost, and KVM as far as a virtio device needs it, answered inside the process with the rules that the
 * kernel has. What the code must never ask, whatever a guest does, ends the process. Link with -Wl,--wrap=ioctl
 * and fake_vdpa.c.
 */

#define FAKE_VHOST   12346 /* /dev/vhost-net or -vsock */
#define FAKE_TAP     12347
#define FAKE_QUEUES  4
#define FAKE_VECTORS 64

struct fake_ring {
	unsigned size, base;
	const char *descriptors, *driver, *device; /* HVAs; NULL: not set */
	int kick, call;                            /* -1: not set */
	bool runs;
};

struct fake_vhost {
	/* What the test chooses. */
	uint64_t offers;              /* features */
	const struct virtio_ram *ram; /* that it may reach */
	unsigned fail_in;             /* the call that fails, counted from 1; 0: none */

	/* What has been asked for. */
	bool owned, has_memory, running;
	uint64_t features;
	unsigned long offloads;
	struct fake_ring rings[FAKE_QUEUES];
	struct {
		uint64_t gpa;
		int eventfd; /* 0: none */
	} doorbells[FAKE_VECTORS];
	unsigned doorbell_count, irqfd_count;
	unsigned starts; /* of rings */
	unsigned failed; /* calls */
};

extern struct fake_vhost fake_vhost;

void fake_vhost_reset(const struct virtio_ram *ram);

/* Does what arrives at the eventfd reach the guest, and by which message? */
bool fake_vhost_delivers(int eventfd, struct kvm_msi *message);

/* The eventfd that a write to this address signals; -1: none. */
int fake_vhost_doorbell(uint64_t gpa);
