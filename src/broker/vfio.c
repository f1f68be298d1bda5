/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/vfio.h"

#include "host/binding/bind.h"
#include "host/device/device.h"
#include "host/device/processes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define IOMMUFD   "/dev/iommu"
#define CONTAINER "/dev/vfio/vfio"

/* Whether the kernel and each device have iommufd, and we may use it. */
static bool has_iommufd(const struct host *host, const struct broker_config *config)
{
	bool has = access(IOMMUFD, R_OK | W_OK) == 0;

	for (unsigned i = 0; i < config->device_count && has; i++) {
		char node[HOST_NAME];

		has = host_device_vfio_node(host, &config->devices[i], node) == 0 &&
		      access(node, R_OK | W_OK) == 0;
	}
	return has;
}

static enum vfio_iommu_kind choose(const struct host *host, const struct broker_config *config)
{
	switch (config->iommu) {
	case BROKER_IOMMU_IOMMUFD:
		return VFIO_IOMMU_IOMMUFD;
	case BROKER_IOMMU_TYPE1:
		return VFIO_IOMMU_TYPE1;
	default:
		return has_iommufd(host, config) ? VFIO_IOMMU_IOMMUFD : VFIO_IOMMU_TYPE1;
	}
}

#define IOMMUFD_HINT                                                                    \
	"it needs Linux 6.6 or later with IOMMUFD and VFIO_DEVICE_CDEV; --iommu type1 " \
	"goes without"

static int open_iommu(enum vfio_iommu_kind kind, struct error *err)
{
	bool iommufd = kind == VFIO_IOMMU_IOMMUFD;
	const char *path = iommufd ? IOMMUFD : CONTAINER;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int code = -errno;

	if (fd >= 0)
		return fd;
	error_sys(err, code, path, "cannot be opened");
	if (code == -EACCES && iommufd)
		error_hint(err,
			"it gives no device by itself: as root, chmod 0666 " IOMMUFD
			", or a rule for udev that does so at each boot (see penstock-bind(1))");
	else if (code == -EACCES)
		error_hint(err, "run as root, or ask for access to VFIO");
	else if (iommufd)
		error_hint(err, IOMMUFD_HINT);
	else
		error_hint(err, "modprobe vfio_iommu_type1; is VFIO in this kernel?");
	return code;
}

static int open_node(const struct host *host, const struct host_device *device, const char *what,
	const char *path, struct error *err)
{
	char name[BDF_TEXT], holder[128];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int code = -errno;

	if (fd >= 0)
		return fd;
	error_sys(err, code, bdf_format(&device->bdf, name), "cannot open its %s, %s", what, path);
	if (code == -EBUSY && host_processes_using_vfio(host, device, holder, sizeof(holder)))
		error_hint(err, "%s: end that first", holder);
	else if (code == -EACCES || code == -EPERM)
		error_hint(err, "run as root, or: chown $USER %s", path);
	return code;
}

/* A group can be opened only once; a second device of it gets a duplicate. */
static int open_group(const struct broker_vfio *vfio, const struct host *host,
	const struct host_device *device, struct error *err)
{
	char path[64];
	int fd;

	for (unsigned i = 0; i < vfio->count; i++) {
		if (vfio->groups[i] != device->group)
			continue;
		fd = fcntl(vfio->sources[i].fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? error_sys(err, -errno, NULL, "cannot duplicate a descriptor") : fd;
	}
	snprintf(path, sizeof(path), "/dev/vfio/%d", device->group);
	return open_node(host, device, "IOMMU group", path, err);
}

static int open_device_node(
	const struct host *host, const struct host_device *device, struct error *err)
{
	char name[BDF_TEXT], path[HOST_NAME];

	if (host_device_vfio_node(host, &device->bdf, path) == 0)
		return open_node(host, device, "VFIO device", path, err);
	error_set(err, -ENOENT, bdf_format(&device->bdf, name),
		"has no node of its own below /dev/vfio/devices");
	error_hint(err, IOMMUFD_HINT);
	return -ENOENT;
}

static int open_source(
	struct broker_vfio *vfio, const struct host *host, const struct bdf *bdf, struct error *err)
{
	struct host_device device;
	unsigned i = vfio->count;
	int fd;

	if (host_device_read(host, bdf, &device, err))
		return err->code;
	fd = vfio->kind == VFIO_IOMMU_IOMMUFD ? open_device_node(host, &device, err)
					      : open_group(vfio, host, &device, err);
	if (fd < 0)
		return fd;
	vfio->sources[i] = (struct vfio_source){ *bdf, fd };
	vfio->groups[i] = device.group;
	vfio->count++;
	return 0;
}

/* For devices to come. A host without VFIO runs guests that have none. */
static void open_for_later(struct broker_vfio *vfio, const struct host *host)
{
	struct error ignored = { 0 };

	vfio->iommu = open_iommu(vfio->kind, &ignored);
	if (vfio->iommu == -ENOENT && host_bind_load_vfio(host, &ignored) == 0)
		vfio->iommu = open_iommu(vfio->kind, &ignored);
}

int broker_vfio_open(struct broker_vfio *vfio, const struct host *host,
	const struct broker_config *config, struct error *err)
{
	*vfio = (struct broker_vfio){ .iommu = -1 };
	if (!config->device_count && !config->ports)
		return 0;
	vfio->kind = choose(host, config);
	if (!config->device_count) {
		open_for_later(vfio, host);
		return 0;
	}
	vfio->iommu = open_iommu(vfio->kind, err);
	for (unsigned i = 0; i < config->device_count && !err->code; i++)
		open_source(vfio, host, &config->devices[i], err);
	return err->code;
}

int broker_vfio_open_more(struct broker_vfio *vfio, const struct host *host,
	enum vfio_iommu_kind kind, const struct bdf *devices, unsigned count, struct error *err)
{
	*vfio = (struct broker_vfio){ .kind = kind, .iommu = -1 };
	for (unsigned i = 0; i < count && !err->code; i++)
		open_source(vfio, host, &devices[i], err);
	return err->code;
}

void broker_vfio_close(struct broker_vfio *vfio)
{
	for (unsigned i = 0; i < vfio->count; i++)
		close(vfio->sources[i].fd);
	if (vfio->iommu >= 0)
		close(vfio->iommu);
}
