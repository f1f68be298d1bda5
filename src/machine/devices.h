/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/machine.h"
#include "machine/pci.h"
#include "passthrough/passthrough.h"
#include "vfio/iommu.h"

/*
 * The devices that are passed through to one machine: opened, and put into its PCI bus. The calls come
 * in the order below.
 */

struct machine_devices {
	const struct machine_config *config;
	struct vfio_iommu *iommu;    /* NULL without devices, as what follows */
	struct passthrough *devices; /* config->device_count */
	unsigned opened, attached;   /* of them */
	/* Wait until DMA may begin; false: never. Called by vCPUs' threads. */
	bool (*ready)(void *opaque);
	/* The host asks for a device back, or a device has failed. Called by the event loop. */
	void (*failed)(void *opaque, const struct error *failure);
	/* A device is closed. Called by a thread of its own. */
	void (*closed)(void *opaque, unsigned device);
	void *opaque;
};

/* Open all devices at once, for each takes long; the IOMMU then tells where guest RAM may be. */
int devices_open(struct machine_devices *devices, const struct machine_config *config,
	struct kvm_vm *vm, struct error *err);

/* What the opened devices are, for topology_plan(). */
int devices_describe(struct machine_devices *devices, struct topology *topology, struct error *err);

/* Put them where the topology says. */
int devices_attach(struct machine_devices *devices, struct machine_pci *pci,
	const struct topology *topology, struct loop *loop, struct error *err);

/* The number of the device that is this one of the guest's; -1: none. */
int devices_number(const struct machine_devices *devices, const struct pci_device *device);

/* All at once, as opening. The guest does not run any more. */
void devices_close(struct machine_devices *devices);
