/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "host/system/host.h"

/*
 * VFIO's nodes, for one start of a machine: opened anew each time, because the kernel gives the
 * devices free only when all descriptors of the last start are closed.
 */
struct broker_vfio {
	enum vfio_iommu_kind kind;
	int iommu; /* -1: no device, now or later */
	struct vfio_source sources[MACHINE_DEVICES_MAX];
	int groups[MACHINE_DEVICES_MAX]; /* their numbers */
	unsigned count;
};

/* The devices are at vfio-pci: before that they have no nodes. */
int broker_vfio_open(struct broker_vfio *vfio, const struct host *host,
	const struct broker_config *config, struct error *err);
/* Nodes of devices that come later, for an address space of this kind; vfio->iommu is -1. */
int broker_vfio_open_more(struct broker_vfio *vfio, const struct host *host,
	enum vfio_iommu_kind kind, const struct bdf *devices, unsigned count, struct error *err);
void broker_vfio_close(struct broker_vfio *vfio);
