/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "passthrough/passthrough.h"

/*
 * DMA is direct: the IOMMU translates the guest's physical addresses, which the guest's drivers put
 * into the device, by a table that holds guest RAM at the same addresses (IOVA = GPA). A region goes
 * in by one call; the kernel pins its pages and takes the largest the IOMMU can.
 */
int passthrough_map_memory(
	struct vfio_iommu *iommu, const struct memory *memory, struct error *err)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];

		if (iommu->ops->map(iommu, region->gpa, align_up(region->size, 4 * KIB), region->hva,
			    err))
			return err->code;
	}
	return 0;
}
