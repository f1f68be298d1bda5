/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

/*
 * What the machine's virtio devices need of the host: taps, which stay open from one life of the machine to the
 * next, and vhost's nodes, which are opened anew for each, as they belong to the process that uses them.
 */

struct broker_virtio {
	struct virtio_config devices[MACHINE_VIRTIO_MAX];
	unsigned count;
};

/* Once, before a device is touched: all of it can be had. */
int broker_virtio_open(
	struct broker_virtio *virtio, const struct broker_config *config, struct error *err);
void broker_virtio_close(struct broker_virtio *virtio);

/* vhost's nodes for one machine, and away with them once it has its own copies. */
int broker_virtio_begin(struct broker_virtio *virtio, struct error *err);
void broker_virtio_handed(struct broker_virtio *virtio);
