/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * What keeps a device's DMA inside the guest: an I/O address space (IOVA), into which memory of this
 * process is mapped. One table of operations, so that the caller does not see which kernel interface
 * is behind it: today group and container with type1v2.
 */

/* IOVAs from first to last, both included. */
struct iova_range {
	uint64_t first;
	uint64_t last;
};

struct vfio_iommu;

struct vfio_iommu_ops {
	/* Open a device by its address, "0000:01:00.0"; its group is attached. fd or negative errno. */
	int (*open_device)(
		struct vfio_iommu *iommu, int group_fd, const char *name, struct error *err);
	/* Let devices reach [hva, hva + size) at iova; pages are pinned, so they are better populated. */
	int (*map)(struct vfio_iommu *iommu, uint64_t iova, uint64_t size, void *hva,
		struct error *err);
	void (*close)(struct vfio_iommu *iommu);
};

#define IOVA_RANGES_MAX 32

struct vfio_iommu {
	const struct vfio_iommu_ops *ops;
	/* What may be mapped: sorted, with the host's reserved regions left out. */
	struct iova_range ranges[IOVA_RANGES_MAX];
	unsigned range_count;
};

/*
 * The type1 backend: attach the groups to the container, both opened by the broker and kept by the
 * caller. names[] are the addresses for messages.
 */
struct vfio_iommu *vfio_type1_open(int container_fd, const int *group_fds, const char *const *names,
	size_t count, struct error *err);
