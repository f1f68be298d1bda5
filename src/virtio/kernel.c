/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "virtio/device.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_vsock.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

/*
 * The kernel as a back end: vhost-net between a guest's queues and a tap, vhost-vsock between them and the host's
 * sockets. A thread of the kernel's does the work, in this process' memory.
 */

#define BIT VIRTIO_BIT

static int call(const struct virtio_device *device, unsigned long request, const void *argument)
{
	return ioctl(device->config.vhost_fd, request, argument) < 0 ? -errno : 0;
}

/* The offloads are the tap's. */
static void describe_net(struct virtio_device *device)
{
	virtio_describe_net(device);
	device->offered |=
		VIRTIO_OFFLOADS | (device->backend_features & BIT(VIRTIO_NET_F_MRG_RXBUF));
}

static void describe_vsock(struct virtio_device *device)
{
	memcpy(device->space, &device->config.cid, sizeof(device->config.cid));
}

static int kernel_open(struct virtio_device *device, struct error *err)
{
	int code = call(device, VHOST_SET_OWNER, NULL);

	if (!code)
		code = call(device, VHOST_GET_FEATURES, &device->backend_features);
	if (code)
		return error_sys(
			err, code, device->config.name, "the kernel's vhost cannot serve it");
	if (!(device->backend_features & BIT(VIRTIO_F_VERSION_1)))
		return error_set(err, -ENOTSUP, device->config.name,
			"this kernel's vhost does not know virtio 1.0");
	if (device->model->type == VIRTIO_NET)
		describe_net(device);
	else
		describe_vsock(device);
	device->offered |= device->backend_features & VIRTIO_QUEUE_FEATURES;
	return 0;
}

static int set_mem_table(const struct virtio_device *device)
{
	union {
		struct vhost_memory table;
		char room[sizeof(struct vhost_memory) +
			  VIRTIO_REGIONS_MAX * sizeof(struct vhost_memory_region)];
	} memory = { .table = { .nregions = device->ram->count } };

	for (unsigned i = 0; i < device->ram->count; i++)
		memory.table.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = device->ram->regions[i].gpa,
			.memory_size = device->ram->regions[i].size,
			.userspace_addr = (uintptr_t)device->ram->regions[i].hva,
		};
	return call(device, VHOST_SET_MEM_TABLE, &memory);
}

/* A split queue's parts (virtio 1.2, 2.7), with the field of EVENT_IDX. */
static int set_addresses(const struct virtio_device *device, unsigned i)
{
	const struct virtio_queue *queue = &device->queues[i];
	uint64_t size = queue->size;
	struct vhost_vring_addr addresses = {
		.index = i,
		.desc_user_addr = (uintptr_t)virtio_at(
			device, queue->descriptors, size * sizeof(struct vring_desc)),
		.avail_user_addr = (uintptr_t)virtio_at(device, queue->driver, 6 + 2 * size),
		.used_user_addr = (uintptr_t)virtio_at(
			device, queue->device, 6 + size * sizeof(struct vring_used_elem)),
	};

	if (!addresses.desc_user_addr || !addresses.avail_user_addr || !addresses.used_user_addr)
		return -EFAULT;
	return call(device, VHOST_SET_VRING_ADDR, &addresses);
}

static int set_queue(const struct virtio_device *device, unsigned i)
{
	const struct virtio_queue *queue = &device->queues[i];
	const struct vhost_vring_state size = { i, queue->size }, base = { i, 0 };
	const struct vhost_vring_file kick = { i, queue->kick }, calls = { i, queue->irq.eventfd };
	int code = call(device, VHOST_SET_VRING_NUM, &size);

	if (!code)
		code = call(device, VHOST_SET_VRING_BASE, &base);
	if (!code)
		code = set_addresses(device, i);
	if (!code)
		code = call(device, VHOST_SET_VRING_KICK, &kick);
	if (!code)
		code = call(device, VHOST_SET_VRING_CALL, &calls);
	return code;
}

/* What the guest takes without a checksum, or larger than its packets are. */
static int set_offloads(const struct virtio_device *device)
{
	static const struct {
		uint64_t feature;
		unsigned flag;
	} offloads[] = {
		{ BIT(VIRTIO_NET_F_GUEST_CSUM), TUN_F_CSUM },
		{ BIT(VIRTIO_NET_F_GUEST_TSO4), TUN_F_TSO4 },
		{ BIT(VIRTIO_NET_F_GUEST_TSO6), TUN_F_TSO6 },
		{ BIT(VIRTIO_NET_F_GUEST_ECN), TUN_F_TSO_ECN },
	};
	unsigned long flags = 0;

	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
		if (device->accepted & offloads[i].feature)
			flags |= offloads[i].flag;
	/* Without checksums the others cannot be (5.1.3.1), and the tap refuses them. */
	if (!(flags & TUN_F_CSUM))
		flags = 0;
	return ioctl(device->config.tap_fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

static int set_tap(const struct virtio_device *device, unsigned i, int tap_fd)
{
	const struct vhost_vring_file tap = { i, tap_fd };

	return call(device, VHOST_NET_SET_BACKEND, &tap);
}

static int run_net(const struct virtio_device *device)
{
	int code = set_offloads(device);

	for (unsigned i = 0; i < device->served && !code; i++)
		if (device->queues[i].enabled)
			code = set_tap(device, i, device->config.tap_fd);
	return code;
}

static int set_running(const struct virtio_device *device, int running)
{
	return call(device, VHOST_VSOCK_SET_RUNNING, &running);
}

/*
 * vhost-vsock runs its queues together. One that this driver has not set up would be an earlier driver's, in memory that
 * is something else now.
 */
static int run_vsock(const struct virtio_device *device)
{
	for (unsigned i = 0; i < device->served; i++)
		if (!device->queues[i].enabled)
			return -EINVAL;
	return set_running(device, 1);
}

static void kernel_stop(struct virtio_device *device)
{
	if (device->model->type == VIRTIO_VSOCK)
		set_running(device, 0);
	for (unsigned i = 0; i < device->served && device->model->type == VIRTIO_NET; i++)
		set_tap(device, i, VHOST_FILE_UNBIND);
}

static int kernel_start(struct virtio_device *device)
{
	uint64_t features = device->accepted & device->backend_features;
	int code = call(device, VHOST_SET_FEATURES, &features);

	if (!code)
		code = set_mem_table(device);
	for (unsigned i = 0; i < device->served && !code; i++)
		if (device->queues[i].enabled)
			code = set_queue(device, i);
	if (!code)
		code = device->model->type == VIRTIO_NET ? run_net(device) : run_vsock(device);
	if (code)
		kernel_stop(device);
	return code;
}

const struct virtio_backend_ops virtio_kernel_ops = {
	.open = kernel_open,
	.start = kernel_start,
	.stop = kernel_stop,
};
