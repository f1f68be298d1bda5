/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <linux/ioctl.h>
#include <linux/vfio.h>
#include <stdint.h>

/*
 * What we ask of the kernel that is newer than the headers of the oldest distribution that we build
 * on: of linux/iommufd.h, which those lack, all that we use (so that every build has the same), of
 * linux/vfio.h what came with Linux 6.6 and later.
 */

/* The first field of each is its own size; the kernel wants what it does not know to be 0. */

struct iommu_destroy {
	uint32_t size;
	uint32_t id;
};

struct iommu_ioas_alloc {
	uint32_t size;
	uint32_t flags;
	uint32_t out_ioas_id;
};

struct iommu_iova_range {
	uint64_t start;
	uint64_t last;
};

struct iommu_ioas_iova_ranges {
	uint32_t size;
	uint32_t ioas_id;
	uint32_t num_iovas; /* room for so many; then how many there are */
	uint32_t reserved;
	uint64_t allowed_iovas; /* struct iommu_iova_range * */
	uint64_t out_iova_alignment;
};

#define IOMMU_IOAS_MAP_FIXED_IOVA (1 << 0)
#define IOMMU_IOAS_MAP_WRITEABLE  (1 << 1)
#define IOMMU_IOAS_MAP_READABLE   (1 << 2)

struct iommu_ioas_map {
	uint32_t size;
	uint32_t flags;
	uint32_t ioas_id;
	uint32_t reserved;
	uint64_t user_va;
	uint64_t length;
	uint64_t iova;
};

/* Of a memfd, and since Linux 6.19 of what VFIO_DEVICE_FEATURE_DMA_BUF gives. */
struct iommu_ioas_map_file {
	uint32_t size;
	uint32_t flags; /* as of iommu_ioas_map */
	uint32_t ioas_id;
	int32_t fd;
	uint64_t start; /* in the file */
	uint64_t length;
	uint64_t iova;
};

struct iommu_ioas_unmap {
	uint32_t size;
	uint32_t ioas_id;
	uint64_t iova;
	uint64_t length; /* then how much was mapped */
};

#define IOMMU_DESTROY          _IO(';', 0x80)
#define IOMMU_IOAS_ALLOC       _IO(';', 0x81)
#define IOMMU_IOAS_IOVA_RANGES _IO(';', 0x84)
#define IOMMU_IOAS_MAP         _IO(';', 0x85)
#define IOMMU_IOAS_UNMAP       _IO(';', 0x86)
#define IOMMU_IOAS_MAP_FILE    _IO(';', 0x8f)

/* A device's own node, /dev/vfio/devices/vfioN. Later kernels have more fields behind these. */
#ifndef VFIO_DEVICE_BIND_IOMMUFD
struct vfio_device_bind_iommufd {
	uint32_t argsz;
	uint32_t flags;
	int32_t iommufd;
	uint32_t out_devid;
};

struct vfio_device_attach_iommufd_pt {
	uint32_t argsz;
	uint32_t flags;
	uint32_t pt_id; /* of an address space; then of what the kernel made of it */
};

#define VFIO_DEVICE_BIND_IOMMUFD      _IO(VFIO_TYPE, VFIO_BASE + 18)
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)
#endif

/* By VFIO_DEVICE_FEATURE: a descriptor of a dma-buf. */
#ifndef VFIO_DEVICE_FEATURE_DMA_BUF
struct vfio_region_dma_range {
	uint64_t offset;
	uint64_t length;
};

struct vfio_device_feature_dma_buf {
	uint32_t region_index;
	uint32_t open_flags;
	uint32_t flags;
	uint32_t nr_ranges;
	struct vfio_region_dma_range dma_ranges[];
};

#define VFIO_DEVICE_FEATURE_DMA_BUF 11
#endif
