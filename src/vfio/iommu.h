/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/bdf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What keeps devices' DMA inside the guest: an I/O address space (IOVA), into which memory of this
 * process is mapped, and which devices join and leave. One table of operations, so that the caller
 * does not see which interface of the kernel is behind it. Thread-safe but for open, close and the
 * reading of ranges.
 */

struct vfio_device;
struct vfio_iommu;

enum vfio_iommu_kind {
	VFIO_IOMMU_TYPE1,   /* groups in a container, /dev/vfio/vfio */
	VFIO_IOMMU_IOMMUFD, /* devices at /dev/iommu */
};

/* A device as it is handed over: by a descriptor of its own, of what the kind of IOMMU takes. */
struct vfio_source {
	struct bdf bdf;
	int fd; /* /dev/vfio/GROUP, or /dev/vfio/devices/vfioN */
};

/* IOVAs from first to last, both included. */
struct iova_range {
	uint64_t first;
	uint64_t last;
};

/* A part of a device's region, whole pages, and where it is mapped into this process. */
struct vfio_part {
	const struct vfio_device *device;
	unsigned region;
	uint64_t offset, size;
	void *hva;
};

struct vfio_iommu_ops {
	/*
	 * Let the device join, and open it: fills in its fd. It reaches all that is mapped, and an error
	 * says so where it cannot. Takes the source's descriptor, also where it fails.
	 */
	int (*add_device)(struct vfio_iommu *iommu, struct vfio_device *device,
		const struct vfio_source *source, struct error *err);
	/* Close it; what is mapped stays, whether or not a device is left. */
	void (*remove_device)(struct vfio_iommu *iommu, struct vfio_device *device);
	/* Let devices reach [hva, hva + size) at iova; pages are pinned, so they are better populated. */
	int (*map)(struct vfio_iommu *iommu, uint64_t iova, uint64_t size, void *hva,
		struct error *err);
	/*
	 * Let devices reach a part of one of them at iova, until the same bounds are unmapped, which has to be
	 * before that one is closed. What another part or RAM has is left alone: -EEXIST.
	 */
	int (*map_part)(struct vfio_iommu *iommu, uint64_t iova, const struct vfio_part *part,
		struct error *err);
	/* The same bounds as those of a map. */
	int (*unmap)(struct vfio_iommu *iommu, uint64_t iova, uint64_t size);
	/* Fill in the ranges: of the devices that have joined, so one that comes later may have fewer. */
	int (*read_ranges)(struct vfio_iommu *iommu, struct error *err);
	/* When no device is left. */
	void (*close)(struct vfio_iommu *iommu);
};

#define IOVA_RANGES_MAX 32

/*
 * Whoever must know of a VFIO file before a device is opened by it, and after the last one is closed:
 * KVM. Called by the threads that open and close.
 */
struct vfio_file_events {
	int (*opening)(void *opaque, int fd);
	void (*closed)(void *opaque, int fd);
	void *opaque;
};

struct vfio_iommu {
	const struct vfio_iommu_ops *ops;
	struct vfio_file_events files;
	/* What may be mapped: sorted, with the host's reserved regions left out. */
	struct iova_range ranges[IOVA_RANGES_MAX];
	unsigned range_count; /* 0: not known */
	/* Atomic. */
	unsigned devices;  /* that have joined */
	bool told_of_part; /* that a part cannot be mapped: once is enough */
};

/* Is there a device beside this one, and may this be mapped, as far as is known? */
bool vfio_iommu_has_peers(const struct vfio_iommu *iommu);
bool vfio_iommu_has_range(const struct vfio_iommu *iommu, uint64_t iova, uint64_t size);

/* An address space without devices; fd is its kind's node, and the caller's. NULL on failure. */
struct vfio_iommu *vfio_iommu_open(
	enum vfio_iommu_kind kind, int fd, const struct vfio_file_events *files, struct error *err);

/* Between the files of this room. */
struct vfio_iommu *vfio_type1_open(int container_fd, struct error *err);
struct vfio_iommu *vfio_iommufd_open(int fd, struct error *err);
int vfio_open_error(struct error *err, int code, const char *name);
int vfio_map_error(
	struct error *err, int code, uint64_t iova, uint64_t size, const char *memlock_hint);
int vfio_part_error(struct error *err, int code, const struct vfio_part *part, const char *hint);
#define VFIO_MEMLOCK_HINT                                                                 \
	"all guest RAM is pinned: the memory-lock limit (ulimit -l, LimitMEMLOCK=) must " \
	"be above the guest's memory"
#define VFIO_USER_MEMLOCK_HINT                                                                   \
	"all guest RAM is pinned, and iommufd counts a user's guests together: the memory-lock " \
	"limit (ulimit -l, LimitMEMLOCK=) must be above the memory of all of them"
#define VFIO_RESERVED_HINT                                                       \
	"the host may reserve addresses for it that are the guest's RAM by now " \
	"(/sys/kernel/iommu_groups/*/reserved_regions): start the machine with it"
