/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake_vdpa.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BIT(n)          (1ULL << (n))
#define ACCESS_PLATFORM BIT(VIRTIO_F_ACCESS_PLATFORM)
#define PERSIST         BIT(8)

struct fake_vdpa fake_vdpa;

ssize_t __real_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);

#define must(holds) ((holds) ? (void)0 : wrong(#holds, __LINE__))
static _Noreturn void wrong(const char *what, int line)
{
	fprintf(stderr, "fake_vdpa.c:%d: the kernel was asked what it must not be: %s\n", line,
		what);
	abort();
}

static int refuse(int code)
{
	errno = code;
	return -1;
}

static void forget_rings(void)
{
	for (unsigned i = 0; i < FAKE_VDPA_QUEUES; i++)
		fake_vdpa.rings[i] = (struct fake_vdpa_ring){ .kick = -1, .call = -1 };
}

void fake_vdpa_reset(const struct virtio_ram *ram)
{
	fake_vdpa = (struct fake_vdpa){
		.ram = ram,
		.offers = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) | ACCESS_PLATFORM |
			  BIT(VIRTIO_F_RING_PACKED),
		.backend_offers = BIT(VHOST_BACKEND_F_IOTLB_MSG_V2) |
				  BIT(VHOST_BACKEND_F_IOTLB_BATCH) | PERSIST | BIT(3),
		.queues = 3,
		.queue_size = 256,
		.space_size = 60,
		.last = UINT64_MAX,
		.is_ram_ready = true,
		.changed = -1,
	};
	forget_rings();
}

void fake_vdpa_close(void)
{
	fake_vdpa.owned = false;
	fake_vdpa.status = 0;
	fake_vdpa.changed = -1;
	fake_vdpa.backend_features = 0;
	memset(fake_vdpa.is_mapped, 0, sizeof(fake_vdpa.is_mapped));
	forget_rings();
}

void fake_vdpa_change(void)
{
	if (fake_vdpa.changed >= 0)
		eventfd_write(fake_vdpa.changed, 1);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* What the card reads and writes is RAM that it has been given, whole in one region. */
static bool reaches(uint64_t iova, uint64_t size)
{
	for (unsigned i = 0; i < fake_vdpa.ram->count; i++) {
		const struct virtio_region *region = &fake_vdpa.ram->regions[i];

		if (fake_vdpa.is_mapped[i] && iova >= region->gpa &&
			iova + size <= region->gpa + region->size)
			return true;
	}
	return false;
}

static void run(struct fake_vdpa_ring *ring)
{
	uint64_t size = ring->size;

	must(size && is_open(ring->kick) && is_open(ring->call));
	must(reaches(ring->descriptors, 16 * size) && reaches(ring->driver, 6 + 2 * size) &&
		reaches(ring->device, 6 + 8 * size));
	ring->runs = true;
	fake_vdpa.starts++;
}

static int set_status(uint8_t status)
{
	uint8_t before = fake_vdpa.status;

	if (!status) {
		if (fake_vdpa.cannot_reset)
			return refuse(EIO);
		fake_vdpa.status = 0;
		fake_vdpa.features = 0;
		fake_vdpa.changed = -1;
		fake_vdpa.resets++;
		forget_rings();
		return 0;
	}
	if (before & ~status)
		return refuse(EINVAL);
	if (fake_vdpa.takes_nothing && status & VIRTIO_CONFIG_S_FEATURES_OK)
		return 0;
	must(!(status & VIRTIO_CONFIG_S_FEATURES_OK) ||
		fake_vdpa.features & BIT(VIRTIO_F_VERSION_1));
	must(!(status & VIRTIO_CONFIG_S_DRIVER_OK) || status & VIRTIO_CONFIG_S_FEATURES_OK);
	fake_vdpa.status = status;
	for (unsigned i = 0; i < FAKE_VDPA_QUEUES; i++)
		if (status & ~before & VIRTIO_CONFIG_S_DRIVER_OK && fake_vdpa.rings[i].enabled)
			run(&fake_vdpa.rings[i]);
	return 0;
}

static int set_features(uint64_t features)
{
	if (fake_vdpa.status & VIRTIO_CONFIG_S_FEATURES_OK)
		return refuse(EBUSY);
	must(!(features & ~fake_vdpa.offers));
	/* Neither packed queues nor a doorbell's data are set up here. */
	must(!(features & (BIT(VIRTIO_F_RING_PACKED) | BIT(38) | BIT(40))));
	if (fake_vdpa.offers & ACCESS_PLATFORM && !(features & ACCESS_PLATFORM))
		return refuse(EINVAL);
	fake_vdpa.features = features;
	return 0;
}

static int move_space(struct vhost_vdpa_config *config, bool writes)
{
	must(config->len && config->len <= fake_vdpa.space_size &&
		config->off <= fake_vdpa.space_size - config->len);
	if (writes)
		memcpy(fake_vdpa.space + config->off, config->buf, config->len);
	else
		memcpy(config->buf, fake_vdpa.space + config->off, config->len);
	fake_vdpa.space_writes += writes;
	return 0;
}

static struct fake_vdpa_ring *ring(unsigned i)
{
	must(i < fake_vdpa.queues && i < FAKE_VDPA_QUEUES);
	must(!(fake_vdpa.status & VIRTIO_CONFIG_S_DRIVER_OK) &&
		fake_vdpa.status & VIRTIO_CONFIG_S_FEATURES_OK);
	return &fake_vdpa.rings[i];
}

static int set_size(const struct vhost_vring_state *state)
{
	if (!state->num || state->num > fake_vdpa.queue_size || state->num & (state->num - 1))
		return refuse(EINVAL);
	ring(state->index)->size = state->num;
	return 0;
}

static int set_addresses(const struct vhost_vring_addr *addresses)
{
	struct fake_vdpa_ring *it = ring(addresses->index);

	must(!addresses->flags && !addresses->log_guest_addr);
	if (addresses->avail_user_addr % 2 || addresses->used_user_addr % 4)
		return refuse(EINVAL);
	it->descriptors = addresses->desc_user_addr;
	it->driver = addresses->avail_user_addr;
	it->device = addresses->used_user_addr;
	return 0;
}

static int give_numbers(unsigned long request, void *argument)
{
	struct vhost_vdpa_iova_range range = { fake_vdpa.first, fake_vdpa.last };

	switch (request) {
	case VHOST_GET_FEATURES:
		memcpy(argument, &fake_vdpa.offers, 8);
		return 0;
	case VHOST_GET_BACKEND_FEATURES:
		memcpy(argument, &fake_vdpa.backend_offers, 8);
		return 0;
	case VHOST_VDPA_GET_VRING_NUM:
		memcpy(argument, &fake_vdpa.queue_size, 2);
		return 0;
	case VHOST_VDPA_GET_CONFIG_SIZE:
		memcpy(argument, &fake_vdpa.space_size, 4);
		return 0;
	case VHOST_VDPA_GET_IOVA_RANGE:
		memcpy(argument, &range, sizeof(range));
		return 0;
	case VHOST_VDPA_GET_STATUS:
		memcpy(argument, &fake_vdpa.status, 1);
		return 0;
	default:
		wrong("a request that vhost-vdpa does not know", __LINE__);
	}
}

int fake_vdpa_answer(unsigned long request, void *argument)
{
	const struct vhost_vring_file *file = argument;
	const struct vhost_vring_state *state = argument;

	must(fake_vdpa.owned == (request != VHOST_SET_OWNER));
	switch (request) {
	case VHOST_SET_OWNER:
		fake_vdpa.owned = true;
		return 0;
	case VHOST_SET_FEATURES:
		return set_features(*(uint64_t *)argument);
	case VHOST_SET_BACKEND_FEATURES:
		memcpy(&fake_vdpa.backend_features, argument, 8);
		must(!(fake_vdpa.backend_features & ~fake_vdpa.backend_offers));
		return 0;
	case VHOST_VDPA_SET_STATUS:
		return set_status(*(uint8_t *)argument);
	case VHOST_VDPA_GET_CONFIG:
	case VHOST_VDPA_SET_CONFIG:
		return move_space(argument, request == VHOST_VDPA_SET_CONFIG);
	case VHOST_VDPA_SET_CONFIG_CALL:
		memcpy(&fake_vdpa.changed, argument, 4);
		must(is_open(fake_vdpa.changed));
		return 0;
	case VHOST_SET_VRING_NUM:
		return set_size(argument);
	case VHOST_SET_VRING_BASE:
		must(!state->num);
		ring(state->index);
		return 0;
	case VHOST_SET_VRING_ADDR:
		return set_addresses(argument);
	case VHOST_SET_VRING_KICK:
		ring(file->index)->kick = file->fd;
		return 0;
	case VHOST_SET_VRING_CALL:
		ring(file->index)->call = file->fd;
		return 0;
	case VHOST_VDPA_SET_VRING_ENABLE:
		ring(state->index)->enabled = state->num;
		return 0;
	default:
		return give_numbers(request, argument);
	}
}

bool fake_vdpa_may_fail(unsigned long request, const void *argument)
{
	return request != VHOST_VDPA_SET_STATUS || *(const uint8_t *)argument;
}

/* The IOTLB. */

static unsigned region_of(const struct vhost_iotlb_msg *message)
{
	for (unsigned i = 0; i < fake_vdpa.ram->count; i++)
		if (fake_vdpa.ram->regions[i].gpa == message->iova &&
			fake_vdpa.ram->regions[i].size == message->size)
			return i;
	wrong("a mapping that is not guest RAM", __LINE__);
}

static ssize_t map(const struct vhost_iotlb_msg *message)
{
	unsigned i = region_of(message);

	must(fake_vdpa.is_ram_ready && message->perm == VHOST_ACCESS_RW);
	must(message->uaddr == (uintptr_t)fake_vdpa.ram->regions[i].hva);
	must(!fake_vdpa.is_mapped[i]);
	if (fake_vhost_fails())
		return refuse(EFAULT);
	fake_vdpa.is_mapped[i] = true;
	fake_vdpa.mappings++;
	return sizeof(struct vhost_msg_v2);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t size)
{
	const struct vhost_msg_v2 *message = bytes;
	bool batch = fake_vdpa.backend_features & BIT(VHOST_BACKEND_F_IOTLB_BATCH);

	if (fd != FAKE_VDPA)
		return __real_write(fd, bytes, size);
	must(size == sizeof(*message) && message->type == VHOST_IOTLB_MSG_V2 && !message->asid);
	must(fake_vdpa.owned && fake_vdpa.backend_features & BIT(VHOST_BACKEND_F_IOTLB_MSG_V2));
	switch (message->iotlb.type) {
	case VHOST_IOTLB_BATCH_BEGIN:
	case VHOST_IOTLB_BATCH_END:
		must(batch && fake_vdpa.in_batch == (message->iotlb.type == VHOST_IOTLB_BATCH_END));
		fake_vdpa.in_batch ^= true;
		return size;
	case VHOST_IOTLB_UPDATE:
		must(fake_vdpa.in_batch == batch);
		return map(&message->iotlb);
	case VHOST_IOTLB_INVALIDATE:
		must(fake_vdpa.in_batch == batch);
		fake_vdpa.is_mapped[region_of(&message->iotlb)] = false;
		return size;
	default:
		wrong("a message that the IOTLB does not know", __LINE__);
	}
}
