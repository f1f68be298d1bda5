/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/container.h"
#include "base/fd.h"
#include "base/size.h"
#include "vfio/device.h"
#include "vfio/iommu.h"
#include "vfio/kernel_api.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

/*
 * Devices by nodes of their own, and an address space (IOAS) of /dev/iommu, which is there without a
 * device and keeps what is mapped. Nothing to lock: the kernel does all of it.
 */

struct iommufd {
	struct vfio_iommu iommu;
	int fd; /* the caller's */
	uint32_t ioas;
};

static struct iommufd *to_iommufd(struct vfio_iommu *iommu)
{
	return container_of(iommu, struct iommufd, iommu);
}

/* The kernel opens the device and resets it here. */
static int bind_device(struct iommufd *iommufd, const struct vfio_device *device, struct error *err)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = iommufd->fd,
	};
	const char *name = device->name;
	int code;

	if (ioctl(device->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0)
		return 0;
	code = -errno;
	switch (code) {
	case -EPERM:
		error_sys(err, code, name, "iommufd refuses it: the host cannot remap interrupts");
		error_hint(err,
			"switch interrupt remapping on (firmware: VT-d or AMD-Vi; kernel: no "
			"intremap=off), see dmesg; where every guest is trusted, "
			"iommufd.allow_unsafe_interrupts=1 goes without");
		break;
	case -EBUSY:
		error_sys(err, code, name,
			"another program has it, or another device of its IOMMU group is at a host "
			"driver or in another machine");
		error_hint(err, "penstock bind --group %s binds all of the group", name);
		break;
	default:
		vfio_open_error(err, code, name);
	}
	return code;
}

static int attach_device(
	struct iommufd *iommufd, const struct vfio_device *device, struct error *err)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = iommufd->ioas,
	};
	const char *name = device->name;
	int code;

	if (ioctl(device->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) == 0)
		return 0;
	code = error_sys(err, -errno, name, "cannot attach it to the guest's address space");
	if (code == -EADDRINUSE)
		error_hint(err, VFIO_RESERVED_HINT);
	else if (code == -ENOMEM)
		error_hint(err, VFIO_USER_MEMLOCK_HINT);
	else
		error_hint(err,
			"dmesg tells why: the firmware may demand addresses of its own for it "
			"(RMRR, IVMD)");
	return code;
}

static int join_address_space(
	struct iommufd *iommufd, const struct vfio_device *device, struct error *err)
{
	const struct vfio_file_events *files = &iommufd->iommu.files;
	int code = files->opening(files->opaque, device->fd);

	if (code)
		return error_sys(err, code, device->name, "cannot tell KVM of the VFIO device");
	if (bind_device(iommufd, device, err) == 0 && attach_device(iommufd, device, err) == 0)
		return 0;
	files->closed(files->opaque, device->fd);
	return err->code;
}

static int iommufd_add_device(struct vfio_iommu *iommu, struct vfio_device *device,
	const struct vfio_source *source, struct error *err)
{
	device->fd = source->fd;
	if (join_address_space(to_iommufd(iommu), device, err) == 0)
		return 0;
	close(take_fd(&device->fd));
	return err->code;
}

static void iommufd_remove_device(struct vfio_iommu *iommu, struct vfio_device *device)
{
	iommu->files.closed(iommu->files.opaque, device->fd);
	close(device->fd);
}

static int iommufd_map(
	struct vfio_iommu *iommu, uint64_t iova, uint64_t size, void *hva, struct error *err)
{
	struct iommufd *iommufd = to_iommufd(iommu);
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_READABLE,
		.ioas_id = iommufd->ioas,
		.user_va = (uintptr_t)hva,
		.length = size,
		.iova = iova,
	};

	if (ioctl(iommufd->fd, IOMMU_IOAS_MAP, &map) == 0)
		return 0;
	return vfio_map_error(err, -errno, iova, size, VFIO_USER_MEMLOCK_HINT);
}

/* A descriptor by which the kernel knows the part. */
static int export_part(const struct vfio_part *part)
{
	struct vfio_device_feature_dma_buf *export;
	size_t size = sizeof(struct vfio_device_feature) + sizeof(*export) +
		      sizeof(export->dma_ranges[0]);
	cleanup_free struct vfio_device_feature *feature = calloc(1, size);
	int fd;

	if (!feature)
		return -ENOMEM;
	feature->argsz = size;
	feature->flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
	export = (void *)feature->data;
	export->region_index = part->region;
	export->open_flags = O_RDWR | O_CLOEXEC;
	export->nr_ranges = 1;
	export->dma_ranges[0] = (struct vfio_region_dma_range){ part->offset, part->size };
	fd = ioctl(part->device->fd, VFIO_DEVICE_FEATURE, feature);
	return fd < 0 ? -errno : fd;
}

/* The kernel keeps what it has mapped when the descriptor is closed. */
static int map_exported(struct iommufd *iommufd, uint64_t iova, const struct vfio_part *part)
{
	cleanup_fd int fd = export_part(part);
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_READABLE,
		.ioas_id = iommufd->ioas,
		.fd = fd,
		.length = part->size,
		.iova = iova,
	};

	if (fd < 0)
		return fd;
	return ioctl(iommufd->fd, IOMMU_IOAS_MAP_FILE, &map) < 0 ? -errno : 0;
}

static int iommufd_map_part(
	struct vfio_iommu *iommu, uint64_t iova, const struct vfio_part *part, struct error *err)
{
	int code = map_exported(to_iommufd(iommu), iova, part);

	if (!code)
		return 0;
	return vfio_part_error(err, code, part,
		"iommufd can since Linux 6.19, where it has VFIO_PCI_DMABUF; --iommu type1 always");
}

static int iommufd_unmap(struct vfio_iommu *iommu, uint64_t iova, uint64_t size)
{
	struct iommufd *iommufd = to_iommufd(iommu);
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = iommufd->ioas,
		.iova = iova,
		.length = size,
	};

	return ioctl(iommufd->fd, IOMMU_IOAS_UNMAP, &unmap) < 0 ? -errno : 0;
}

/* Where there are more than there is room for, the kernel gives as many, and EMSGSIZE. */
static int iommufd_read_ranges(struct vfio_iommu *iommu, struct error *err)
{
	struct iommufd *iommufd = to_iommufd(iommu);
	struct iommu_iova_range ranges[IOVA_RANGES_MAX] = { 0 };
	struct iommu_ioas_iova_ranges query = {
		.size = sizeof(query),
		.ioas_id = iommufd->ioas,
		.num_iovas = IOVA_RANGES_MAX,
		.allowed_iovas = (uintptr_t)ranges,
	};

	if (ioctl(iommufd->fd, IOMMU_IOAS_IOVA_RANGES, &query) < 0 && errno != EMSGSIZE)
		return error_sys(err, -errno, NULL, "cannot ask the IOMMU what it can map");
	iommu->range_count = min_u64(query.num_iovas, IOVA_RANGES_MAX);
	for (unsigned i = 0; i < iommu->range_count; i++)
		iommu->ranges[i] = (struct iova_range){ ranges[i].start, ranges[i].last };
	return 0;
}

static void iommufd_close(struct vfio_iommu *iommu)
{
	struct iommufd *iommufd = to_iommufd(iommu);
	struct iommu_destroy destroy = { .size = sizeof(destroy), .id = iommufd->ioas };

	ioctl(iommufd->fd, IOMMU_DESTROY, &destroy);
	free(iommufd);
}

static const struct vfio_iommu_ops iommufd_ops = {
	.add_device = iommufd_add_device,
	.remove_device = iommufd_remove_device,
	.map = iommufd_map,
	.map_part = iommufd_map_part,
	.unmap = iommufd_unmap,
	.read_ranges = iommufd_read_ranges,
	.close = iommufd_close,
};

struct vfio_iommu *vfio_iommufd_open(int fd, struct error *err)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommufd *iommufd;

	if (ioctl(fd, IOMMU_IOAS_ALLOC, &alloc) < 0) {
		error_sys(err, -errno, "/dev/iommu", "cannot make an address space");
		return NULL;
	}
	iommufd = malloc(sizeof(*iommufd));
	if (!iommufd) {
		error_sys(err, -ENOMEM, "/dev/iommu", "cannot make an address space");
		return NULL;
	}
	*iommufd = (struct iommufd){
		.iommu.ops = &iommufd_ops,
		.fd = fd,
		.ioas = alloc.out_ioas_id,
	};
	return &iommufd->iommu;
}
