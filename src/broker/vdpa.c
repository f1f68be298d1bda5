/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/vdpa.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define NODE     "vhost-vdpa-"
#define TYPE_MAX 0x3f /* that a PCI device can be (4.1.2.1) */

static int refuse_missing(const char *node, int code, struct error *err)
{
	error_sys(err, code, node, "there is no such vDPA device");
	error_hint(err,
		"'vdpa dev show' lists the devices, 'vdpa mgmtdev show' what they can be made of: vdpa "
		"dev add name vdpa0 mgmtdev MGMTDEV, with vdpasim_net, as an example; then load what "
		"makes the node: modprobe vhost_vdpa");
	return err->code;
}

/* Opening another kind of device may do anything; which kind this is, the kernel says without that. */
static bool is_vdpa(const struct stat *stat)
{
	char path[64], target[256];
	const char *name;
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u", major(stat->st_rdev),
		minor(stat->st_rdev));
	length = S_ISCHR(stat->st_mode) ? readlink(path, target, sizeof(target) - 1) : -1;
	if (length < 0)
		return false;
	target[length] = '\0';
	name = strrchr(target, '/');
	return name && strncmp(name + 1, NODE, strlen(NODE)) == 0;
}

/* An O_PATH descriptor of the node, so that what is looked at is what is opened. */
static int find_node(const char *node, struct error *err)
{
	cleanup_fd int fd = open(node, O_PATH | O_CLOEXEC);
	struct stat stat;

	if (fd < 0 || fstat(fd, &stat) < 0)
		return refuse_missing(node, -errno, err);
	if (is_vdpa(&stat))
		return take_fd(&fd);
	error_set(err, -EINVAL, node, "this is no node of vhost-vdpa's");
	error_hint(err, "such nodes are /dev/" NODE "0 and on; 'vdpa dev show' lists the devices");
	return err->code;
}

int broker_vdpa_check(const char *node, struct error *err)
{
	int fd = find_node(node, err);

	if (fd >= 0)
		close(fd);
	return err->code;
}

static int refuse_vdpa(const char *node, int code, struct error *err)
{
	if (code == -EBUSY)
		return error_set(err, code, node,
			"this vDPA device is in use: another VM, or another program, has it");
	error_sys(err, code, node, "this vDPA device cannot be opened");
	if (code == -EACCES || code == -EPERM)
		error_hint(err, "let yourself have it: as root, chown $USER %s", node);
	return err->code;
}

static int describe_vdpa(int fd, const char *node, struct virtio_config *device, struct error *err)
{
	uint32_t type = 0, queues = 0;

	if (ioctl(fd, VHOST_VDPA_GET_DEVICE_ID, &type) < 0 ||
		ioctl(fd, VHOST_VDPA_GET_VQS_COUNT, &queues) < 0) {
		error_sys(err, -errno, node, "does not say what it is");
		error_hint(err, "it takes Linux 5.18 or newer");
		return err->code;
	}
	if (!type || type > TYPE_MAX)
		return error_set(err, -ENOTSUP, node,
			"it is a virtio device of type %u, which no PCI device can be", type);
	if (!queues || queues > VIRTIO_VDPA_QUEUES_MAX) {
		error_set(err, -ENOTSUP, node, "it has %u queues, not 1 to %u", queues,
			VIRTIO_VDPA_QUEUES_MAX);
		error_hint(err,
			"a card is made with fewer by max_vqp: vdpa dev add name NAME mgmtdev MGMTDEV "
			"max_vqp 31");
		return err->code;
	}
	device->type = type;
	device->queues = queues;
	return 0;
}

int broker_vdpa_open(const char *node, struct virtio_config *device, struct error *err)
{
	cleanup_fd int found = find_node(node, err), fd = -1;
	char path[32];

	if (found < 0)
		return err->code;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", found);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return refuse_vdpa(node, -errno, err);
	return describe_vdpa(fd, node, device, err) ? err->code : take_fd(&fd);
}
