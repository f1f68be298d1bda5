/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "passthrough/passthrough.h"

/*
 * DMA is direct: the IOMMU translates the guest's physical addresses, which the guest's drivers put
 * into the device, by a table that holds guest RAM at the same addresses (IOVA = GPA), and nothing
 * else. The kernel pins the pages of what goes in by one call, and takes the largest the IOMMU can.
 */
int passthrough_map_memory(
	struct vfio_iommu *iommu, uint64_t gpa, uint64_t size, void *hva, struct error *err)
{
	return iommu->ops->map(iommu, gpa, size, hva, err);
}
