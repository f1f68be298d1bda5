/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/machine.h"
#include "machine/pci.h"

/* The devices of a machine that back ends serve; all are there from its start to its end. */

struct machine_virtio {
	struct virtio_ram ram;
	struct virtio_device *table[MACHINE_VIRTIO_MAX];
	unsigned count;
};

/* Put them where the topology says, and watch their back ends. The memory and the PCI tree outlive them. */
int machine_virtio_attach(struct machine_virtio *virtio, const struct machine_config *config,
	const struct memory *memory, struct machine_pci *pci, const struct topology *topology,
	struct loop *loop, struct error *err);
/* Of a disk: so many bytes. */
void machine_virtio_resize(struct machine_virtio *virtio, unsigned number, uint64_t size);
/* The guest does not run any more. */
void machine_virtio_close(struct machine_virtio *virtio);
