/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "virtio/virtio.h"

/*
 * The kernel's vhost-vdpa and a card behind it, answered inside the process with the rules that the kernel has. What the
 * code must never ask, whatever a guest does, ends the process. Its ioctls come by way of fake_vhost.c, whose fail_in
 * counts them, too. Link with -Wl,--wrap=write.
 */

#define FAKE_VDPA        12348 /* /dev/vhost-vdpa-0 */
#define FAKE_VDPA_QUEUES 4
#define FAKE_VDPA_SPACE  300 /* most that it has of configuration */

struct fake_vdpa_ring {
	unsigned size;
	uint64_t descriptors, driver, device; /* IOVAs */
	int kick, call;                       /* -1: not set */
	bool enabled, runs;
};

struct fake_vdpa {
	/* What the test chooses. */
	uint64_t offers, backend_offers;
	unsigned queues, queue_size;
	uint8_t space[FAKE_VDPA_SPACE];
	unsigned space_size;
	uint64_t first, last;         /* that it reaches */
	const struct virtio_ram *ram; /* that is to be mapped */
	bool is_ram_ready;            /* to be pinned */
	bool cannot_reset, takes_nothing;

	/* What has been asked for. */
	bool owned, in_batch;
	uint64_t backend_features, features;
	uint8_t status;
	int changed; /* eventfd; -1: none */
	struct fake_vdpa_ring rings[FAKE_VDPA_QUEUES];
	bool is_mapped[VIRTIO_REGIONS_MAX]; /* by region of RAM */
	unsigned mappings, starts, resets, space_writes;
};

extern struct fake_vdpa fake_vdpa;

void fake_vdpa_reset(const struct virtio_ram *ram);
/* The node is closed. */
void fake_vdpa_close(void);

/* The card says that its configuration, or its status, is another. */
void fake_vdpa_change(void);

/* For fake_vhost.c: an ioctl of the node, as ioctl(2); what gives something back does not fail by itself. */
int fake_vdpa_answer(unsigned long request, void *argument);
bool fake_vdpa_may_fail(unsigned long request, const void *argument);
/* Of the writes as well. */
bool fake_vhost_fails(void);
