/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "virtio/device.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

/*
 * A card as a back end, or what the kernel has in its place: /dev/vhost-vdpa-N. It is a virtio device already, of
 * whatever type; its queues are its own, a control queue among them, and so is its configuration. It does DMA by IOVAs,
 * which are the guest's GPAs, in what has been mapped for it: guest RAM, pinned, from its driver's start on.
 */

#define BIT VIRTIO_BIT

/* VHOST_BACKEND_F_IOTLB_PERSIST, since 6.7: a reset leaves mappings alone. */
#define PERSIST    8
#define IOTLB_V2   BIT(VHOST_BACKEND_F_IOTLB_MSG_V2)
#define IOTLB_USED (IOTLB_V2 | BIT(VHOST_BACKEND_F_IOTLB_BATCH) | BIT(PERSIST))

/*
 * All that is of a type of device's own (6), and of what is of queues and transport that for which nothing is wanted
 * here. Not so packed queues, a doorbell that tells more than its queue, and queues that are reset one by one.
 */
#define OWN_FEATURES (~(BIT(50) - 1) | (BIT(24) - 1))
#define PASSED                                                                    \
	(OWN_FEATURES | VIRTIO_QUEUE_FEATURES | BIT(35 /* VIRTIO_F_IN_ORDER */) | \
		BIT(VIRTIO_F_ORDER_PLATFORM))

union space_message {
	struct vhost_vdpa_config head;
	char room[sizeof(struct vhost_vdpa_config) + VIRTIO_SPACE_MAX];
};

static int vdpa_call(
	const struct virtio_device *device, unsigned long request, const void *argument)
{
	return ioctl(device->config.vhost_fd, request, argument) < 0 ? -errno : 0;
}

/* What it can do */

static int read_own_space(struct virtio_device *device)
{
	union space_message message = { .head = { .len = device->vdpa.space_size } };
	int code = device->vdpa.space_size ? vdpa_call(device, VHOST_VDPA_GET_CONFIG, &message) : 0;

	if (!code)
		memcpy(device->space, message.head.buf, device->vdpa.space_size);
	return code;
}

static int agree_on_iotlb(struct virtio_device *device)
{
	uint64_t known = 0;
	int code = vdpa_call(device, VHOST_GET_BACKEND_FEATURES, &known);

	known &= IOTLB_USED;
	if (!code && !(known & IOTLB_V2))
		code = -ENOTSUP;
	device->vdpa.iotlb = known;
	return code ? code : vdpa_call(device, VHOST_SET_BACKEND_FEATURES, &known);
}

/* The largest that a driver may make a queue: a power of two (2.7), and at most ours. */
static int read_queue_size(struct virtio_device *device)
{
	uint16_t most = 0;
	int code = vdpa_call(device, VHOST_VDPA_GET_VRING_NUM, &most);

	while (device->queue_size_max > most)
		device->queue_size_max /= 2;
	return code || device->queue_size_max ? code : -EINVAL;
}

static int read_abilities(struct virtio_device *device)
{
	uint32_t size = 0;
	int code = vdpa_call(device, VHOST_SET_OWNER, NULL);

	if (!code)
		code = vdpa_call(device, VHOST_GET_FEATURES, &device->backend_features);
	if (!code)
		code = agree_on_iotlb(device);
	if (!code)
		code = read_queue_size(device);
	if (!code)
		code = vdpa_call(device, VHOST_VDPA_GET_CONFIG_SIZE, &size);
	device->vdpa.space_size = min_u64(size, VIRTIO_SPACE_MAX);
	return code ? code : read_own_space(device);
}

/* Where it may not, the kernel would refuse the mapping when the driver is ready. */
static int check_reach(const struct virtio_device *device, struct error *err)
{
	struct vhost_vdpa_iova_range range;
	int code = vdpa_call(device, VHOST_VDPA_GET_IOVA_RANGE, &range);

	if (code)
		return error_sys(
			err, code, device->config.name, "does not say what addresses it reaches");
	for (unsigned i = 0; i < device->ram->count; i++) {
		const struct virtio_region *region = &device->ram->regions[i];

		if (region->gpa < range.first || region->gpa + region->size - 1 > range.last)
			return error_set(err, -ERANGE, device->config.name,
				"guest RAM is at 0x%" PRIx64 " to 0x%" PRIx64
				", and it reaches 0x%llx to 0x%llx",
				region->gpa, region->gpa + region->size - 1,
				(unsigned long long)range.first, (unsigned long long)range.last);
	}
	return 0;
}

static int vdpa_open(struct virtio_device *device, struct error *err)
{
	int code = read_abilities(device);

	if (code)
		return error_sys(
			err, code, device->config.name, "the kernel's vDPA cannot serve it");
	if (!(device->backend_features & BIT(VIRTIO_F_VERSION_1)))
		return error_set(
			err, -ENOTSUP, device->config.name, "this device is older than virtio 1.0");
	if (check_reach(device, err))
		return err->code;
	device->vdpa.changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (device->vdpa.changed < 0)
		return error_sys(err, -errno, device->config.name, "cannot be listened to");
	device->offered = device->backend_features & PASSED;
	return 0;
}

/* Guest RAM */

static int tell_iotlb(
	const struct virtio_device *device, uint8_t type, const struct virtio_region *region)
{
	struct vhost_msg_v2 message = { .type = VHOST_IOTLB_MSG_V2, .iotlb.type = type };

	if (region) {
		message.iotlb.iova = region->gpa;
		message.iotlb.size = region->size;
		message.iotlb.uaddr = (uintptr_t)region->hva;
		message.iotlb.perm = VHOST_ACCESS_RW;
	}
	return write(device->config.vhost_fd, &message, sizeof(message)) < 0 ? -errno : 0;
}

/*
 * A card with a translation of its own is told of it as a whole. Without a batch that were once for each piece of RAM
 * that is contiguous in the host's.
 */
static int tell_of_ram(const struct virtio_device *device, uint8_t type)
{
	bool batch = device->vdpa.iotlb & BIT(VHOST_BACKEND_F_IOTLB_BATCH);
	int code = batch ? tell_iotlb(device, VHOST_IOTLB_BATCH_BEGIN, NULL) : 0, ended;

	for (unsigned i = 0; i < device->ram->count && !code; i++)
		code = tell_iotlb(device, type, &device->ram->regions[i]);
	ended = batch ? tell_iotlb(device, VHOST_IOTLB_BATCH_END, NULL) : 0;
	return code ? code : ended;
}

static void unmap_ram(struct virtio_device *device)
{
	if (device->vdpa.is_mapped)
		tell_of_ram(device, VHOST_IOTLB_INVALIDATE);
	device->vdpa.is_mapped = false;
}

static int map_guest_ram(struct virtio_device *device)
{
	int code;

	if (device->vdpa.is_mapped)
		return 0;
	device->vdpa.is_mapped = true;
	code = tell_of_ram(device, VHOST_IOTLB_UPDATE);
	if (code)
		unmap_ram(device);
	return code;
}

/* Start and stop: what a driver does (3.1.1), in one go. */

#define BEGUN (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)

/* Until it has taken it. */
static int set_own_status(const struct virtio_device *device, uint8_t status)
{
	uint8_t is = status;
	int code = vdpa_call(device, VHOST_VDPA_SET_STATUS, &status);

	if (!code)
		code = vdpa_call(device, VHOST_VDPA_GET_STATUS, &is);
	if (!code && (is & ~VIRTIO_CONFIG_S_NEEDS_RESET) != status)
		code = -EIO;
	return code;
}

/* That its addresses are IOVAs is between us: the guest has no IOMMU, and need not know. */
static int settle_features(const struct virtio_device *device)
{
	const uint64_t features =
		device->accepted | (device->backend_features & BIT(VIRTIO_F_ACCESS_PLATFORM));
	int code = set_own_status(device, BEGUN);

	if (!code)
		code = vdpa_call(device, VHOST_SET_FEATURES, &features);
	return code ? code : set_own_status(device, BEGUN | VIRTIO_CONFIG_S_FEATURES_OK);
}

static int give_queue(const struct virtio_device *device, unsigned i)
{
	const struct virtio_queue *queue = &device->queues[i];
	const struct vhost_vring_state size = { i, queue->size }, base = { i, 0 },
				       enabled = { i, 1 };
	const struct vhost_vring_file kick = { i, queue->kick }, calls = { i, queue->irq.eventfd };
	const struct vhost_vring_addr addresses = {
		.index = i,
		.desc_user_addr = queue->descriptors,
		.avail_user_addr = queue->driver,
		.used_user_addr = queue->device,
	};
	int code = vdpa_call(device, VHOST_SET_VRING_NUM, &size);

	if (!code)
		code = vdpa_call(device, VHOST_SET_VRING_BASE, &base);
	if (!code)
		code = vdpa_call(device, VHOST_SET_VRING_ADDR, &addresses);
	if (!code)
		code = vdpa_call(device, VHOST_SET_VRING_CALL, &calls);
	if (!code)
		code = vdpa_call(device, VHOST_SET_VRING_KICK, &kick);
	return code ? code : vdpa_call(device, VHOST_VDPA_SET_VRING_ENABLE, &enabled);
}

/* A reset: the one way by which any such device stops. One that does not has no RAM any more. */
static void vdpa_stop(struct virtio_device *device)
{
	static const uint8_t none;
	int code = vdpa_call(device, VHOST_VDPA_SET_STATUS, &none);

	if (code || !(device->vdpa.iotlb & BIT(PERSIST)))
		unmap_ram(device);
	if (code)
		virtio_lose(device, "cannot be reset");
}

static void lose_silent(struct virtio_device *device)
{
	vdpa_stop(device);
	virtio_lose(device, "does not tell its configuration");
}

static int vdpa_start(struct virtio_device *device)
{
	int code = 0;

	for (unsigned i = 0; i < device->queue_count && !code; i++)
		if (device->queues[i].enabled)
			code = virtio_check_queue(device, &device->queues[i]);
	if (code)
		return code;
	code = settle_features(device);
	if (!code)
		code = map_guest_ram(device);
	if (!code)
		code = vdpa_call(device, VHOST_VDPA_SET_CONFIG_CALL, &device->vdpa.changed);
	for (unsigned i = 0; i < device->queue_count && !code; i++)
		if (device->queues[i].enabled)
			code = give_queue(device, i);
	if (!code)
		code = set_own_status(
			device, BEGUN | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	if (code)
		vdpa_stop(device);
	return code;
}

/* Its configuration */

static void write_own_space(
	struct virtio_device *device, unsigned offset, unsigned size, uint64_t value)
{
	union space_message message = { .head = { offset, size } };

	if (device->is_lost || !is_within(offset, size, 0, device->vdpa.space_size))
		return;
	memcpy(message.head.buf, &value, size);
	/* What is written may select what is read. */
	if (vdpa_call(device, VHOST_VDPA_SET_CONFIG, &message) || read_own_space(device))
		lose_silent(device);
}

/* What it cannot go on with by itself, the driver has to know. */
static int hear_change(struct virtio_device *device)
{
	uint8_t before[VIRTIO_SPACE_MAX], status = 0;
	int code;

	memcpy(before, device->space, sizeof(before));
	code = read_own_space(device);
	if (!code && memcmp(before, device->space, sizeof(before)) != 0)
		virtio_space_changed(device);
	if (!code && device->is_running)
		code = vdpa_call(device, VHOST_VDPA_GET_STATUS, &status);
	if (status & VIRTIO_CONFIG_S_NEEDS_RESET)
		virtio_need_reset(device);
	return code;
}

static void on_device_changed(void *opaque, uint32_t events)
{
	struct virtio_device *device = opaque;
	eventfd_t count;

	(void)events;
	eventfd_read(device->vdpa.changed, &count);
	pthread_mutex_lock(&device->pci.lock);
	if (!device->is_lost && hear_change(device))
		lose_silent(device);
	pthread_mutex_unlock(&device->pci.lock);
}

static int vdpa_watch(struct virtio_device *device)
{
	return loop_add(device->loop, device->vdpa.changed, EPOLLIN, on_device_changed, device);
}

static void vdpa_close(struct virtio_device *device)
{
	if (device->loop)
		loop_remove(device->loop, device->vdpa.changed);
	unmap_ram(device);
	if (device->vdpa.changed >= 0)
		close(device->vdpa.changed);
}

const struct virtio_backend_ops virtio_vdpa_ops = {
	.pins = true,
	.open = vdpa_open,
	.start = vdpa_start,
	.stop = vdpa_stop,
	.write_space = write_own_space,
	.watch = vdpa_watch,
	.close = vdpa_close,
};
