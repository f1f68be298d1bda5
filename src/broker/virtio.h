/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "broker/disk.h"
#include "broker/passt.h"
#include "broker/share.h"

/*
 * What the machine's virtio devices need of the host: taps and images, which stay open from one life of the machine to
 * the next, processes that serve one life each, and the nodes of vhost and vDPA, which are opened anew for each, as they
 * belong to the process that uses them.
 */

struct broker_virtio {
	struct virtio_config devices[MACHINE_VIRTIO_MAX];
	unsigned count;
	struct broker_passt passts[BROKER_NETS_MAX]; /* of the first devices; none at a tap */
	unsigned net_count;
	struct broker_disk disks[BROKER_DISKS_MAX];
	unsigned disk_count, first_disk; /* which of the devices they are, in this order */
	struct broker_share shares[BROKER_SHARES_MAX];
	unsigned share_count, first_share;
	const char *const *vdpas; /* nodes */
	unsigned first_vdpa;      /* they are the last */
};

/* Once, before a device is touched: all of it can be had. */
int broker_virtio_open(struct broker_virtio *virtio, const struct broker_config *config,
	const struct host *host, struct error *err);
void broker_virtio_close(struct broker_virtio *virtio);

/* The processes that serve the next life of the machine, where they do not run yet. */
int broker_virtio_start(struct broker_virtio *virtio, struct error *err);
/* Its process has its descriptors. */
void broker_virtio_watch(struct broker_virtio *virtio, struct loop *loop);
/* That process has ended. */
void broker_virtio_end(struct broker_virtio *virtio);

/* Those nodes for one machine, and away with them once it has its own copies. */
int broker_virtio_begin(struct broker_virtio *virtio, struct error *err);
void broker_virtio_handed(struct broker_virtio *virtio);
