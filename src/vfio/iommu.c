/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vfio/iommu.h"

#include "base/size.h"
#include "vfio/device.h"

#include <errno.h>
#include <stddef.h>

struct vfio_iommu *vfio_iommu_open(
	enum vfio_iommu_kind kind, int fd, const struct vfio_file_events *files, struct error *err)
{
	struct vfio_iommu *iommu =
		kind == VFIO_IOMMU_IOMMUFD ? vfio_iommufd_open(fd, err) : vfio_type1_open(fd, err);

	if (iommu)
		iommu->files = *files;
	return iommu;
}

bool vfio_iommu_has_peers(const struct vfio_iommu *iommu)
{
	return __atomic_load_n(&iommu->devices, __ATOMIC_ACQUIRE) > 1;
}

bool vfio_iommu_has_range(const struct vfio_iommu *iommu, uint64_t iova, uint64_t size)
{
	for (unsigned i = 0; i < iommu->range_count; i++)
		if (iova >= iommu->ranges[i].first && iova + (size - 1) <= iommu->ranges[i].last)
			return true;
	return !iommu->range_count;
}

int vfio_open_error(struct error *err, int code, const char *name)
{
	error_sys(err, code, name, "VFIO cannot open the device");
	error_hint(err,
		"dmesg tells more; a device that does not come back from D3 or from a reset "
		"needs the host to be suspended or restarted");
	return code;
}

int vfio_map_error(
	struct error *err, int code, uint64_t iova, uint64_t size, const char *memlock_hint)
{
	char text[24];

	error_sys(err, code, NULL, "cannot map %s of guest RAM for DMA at IOVA %#llx",
		size_format(size, text), (unsigned long long)iova);
	if (code == -ENOMEM)
		error_hint(err, "%s", memlock_hint);
	return code;
}

int vfio_part_error(struct error *err, int code, const struct vfio_part *part, const char *hint)
{
	char text[24];

	error_sys(err, code, part->device->name,
		"no other device can reach %s of its BAR %u by DMA", size_format(part->size, text),
		part->region);
	if (hint)
		error_hint(err, "%s", hint);
	return code;
}
