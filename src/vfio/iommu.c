/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vfio/iommu.h"

#include <errno.h>
#include <stddef.h>

struct vfio_iommu *vfio_iommu_open(
	enum vfio_iommu_kind kind, int fd, const struct vfio_file_events *files, struct error *err)
{
	struct vfio_iommu *iommu = NULL;

	if (kind == VFIO_IOMMU_TYPE1)
		iommu = vfio_type1_open(fd);
	if (iommu)
		iommu->files = *files;
	else
		error_sys(err, -ENOMEM, NULL, "cannot set up the IOMMU");
	return iommu;
}
