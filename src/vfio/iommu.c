/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vfio/iommu.h"

#include "base/size.h"

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
