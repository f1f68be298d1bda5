/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake_vhost.h"

#include "fake_vdpa.h"

#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define ACCESS_PLATFORM (1ULL << VIRTIO_F_ACCESS_PLATFORM)

struct fake_vhost fake_vhost;

static struct {
	int fd; /* 0: none */
	unsigned gsi;
} irqfds[FAKE_VECTORS];
static struct kvm_irq_routing_entry routes[KVM_ROUTES_MAX];
static unsigned route_count;

int __wrap_ioctl(int fd, unsigned long request, ...);

#define must(holds) ((holds) ? (void)0 : wrong(#holds, __LINE__))
static _Noreturn void wrong(const char *what, int line)
{
	fprintf(stderr, "fake_vhost.c:%d: the kernel was asked what it must not be: %s\n", line,
		what);
	abort();
}

void fake_vhost_reset(const struct virtio_ram *ram)
{
	fake_vhost = (struct fake_vhost){
		.ram = ram,
		.offers = 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX |
			  1ULL << VIRTIO_RING_F_INDIRECT_DESC | ACCESS_PLATFORM,
	};
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		fake_vhost.rings[i].kick = fake_vhost.rings[i].call = -1;
	memset(irqfds, 0, sizeof(irqfds));
	route_count = 0;
}

static int refuse(int code)
{
	errno = code;
	return -1;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* KVM. */

static int set_irqfd(const struct kvm_irqfd *irqfd)
{
	bool off = irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN;

	must(is_open(irqfd->fd));
	for (unsigned i = 0; i < FAKE_VECTORS; i++) {
		must(off || irqfds[i].fd != (int)irqfd->fd);
		if (irqfds[i].fd != (off ? (int)irqfd->fd : 0))
			continue;
		must(!off || irqfds[i].gsi == irqfd->gsi);
		irqfds[i].fd = off ? 0 : irqfd->fd;
		irqfds[i].gsi = irqfd->gsi;
		fake_vhost.irqfd_count += off ? -1 : 1;
		return 0;
	}
	wrong("an irqfd that is not there, or too many", __LINE__);
}

static int set_doorbell(const struct kvm_ioeventfd *doorbell)
{
	bool off = doorbell->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;

	must(is_open(doorbell->fd) && !doorbell->len && doorbell->addr % 4 == 0);
	for (unsigned i = 0; i < FAKE_VECTORS; i++) {
		bool same = fake_vhost.doorbells[i].eventfd &&
			    fake_vhost.doorbells[i].gpa == doorbell->addr;

		must(off || !same);
		if (off ? !same : fake_vhost.doorbells[i].eventfd != 0)
			continue;
		must(!off || fake_vhost.doorbells[i].eventfd == doorbell->fd);
		fake_vhost.doorbells[i].gpa = doorbell->addr;
		fake_vhost.doorbells[i].eventfd = off ? 0 : doorbell->fd;
		fake_vhost.doorbell_count += off ? -1 : 1;
		return 0;
	}
	wrong("a doorbell that is not there, or too many", __LINE__);
}

static int set_routes(const struct kvm_irq_routing *routing)
{
	must(routing->nr <= KVM_ROUTES_MAX);
	memcpy(routes, routing->entries, routing->nr * sizeof(routes[0]));
	route_count = routing->nr;
	return 0;
}

bool fake_vhost_delivers(int eventfd, struct kvm_msi *message)
{
	for (unsigned i = 0; i < FAKE_VECTORS; i++)
		for (unsigned j = 0; j < route_count && irqfds[i].fd == eventfd; j++)
			if (routes[j].gsi == irqfds[i].gsi &&
				routes[j].type == KVM_IRQ_ROUTING_MSI) {
				*message = (struct kvm_msi){
					.address_lo = routes[j].u.msi.address_lo,
					.address_hi = routes[j].u.msi.address_hi,
					.data = routes[j].u.msi.data,
				};
				return true;
			}
	return false;
}

int fake_vhost_doorbell(uint64_t gpa)
{
	for (unsigned i = 0; i < FAKE_VECTORS; i++)
		if (fake_vhost.doorbells[i].eventfd && fake_vhost.doorbells[i].gpa == gpa)
			return fake_vhost.doorbells[i].eventfd;
	return -1;
}

/* vhost. */

static struct fake_ring *ring(unsigned i)
{
	must(i < FAKE_QUEUES);
	return &fake_vhost.rings[i];
}

/* What vhost writes to or reads from is guest RAM, whole in one region. */
static bool in_ram(const char *at, uint64_t size)
{
	for (unsigned i = 0; i < fake_vhost.ram->count; i++) {
		const struct virtio_region *region = &fake_vhost.ram->regions[i];
		const char *start = region->hva;

		if (at >= start && at + size <= start + region->size)
			return true;
	}
	return false;
}

static int set_size(const struct vhost_vring_state *state)
{
	must(!ring(state->index)->runs);
	if (!state->num || state->num > 0xffff || state->num & (state->num - 1))
		return refuse(EINVAL);
	ring(state->index)->size = state->num;
	return 0;
}

static int set_addresses(const struct vhost_vring_addr *addresses)
{
	struct fake_ring *it = ring(addresses->index);

	must(!it->runs && !addresses->flags);
	if (addresses->desc_user_addr % 16 || addresses->avail_user_addr % 2 ||
		addresses->used_user_addr % 4)
		return refuse(EINVAL);
	it->descriptors = (const char *)(uintptr_t)addresses->desc_user_addr;
	it->driver = (const char *)(uintptr_t)addresses->avail_user_addr;
	it->device = (const char *)(uintptr_t)addresses->used_user_addr;
	must(in_ram(it->descriptors, 16ULL * it->size) && in_ram(it->driver, 6 + 2 * it->size) &&
		in_ram(it->device, 6 + 8 * it->size));
	return 0;
}

static int start(struct fake_ring *it)
{
	must(!it->runs && fake_vhost.has_memory);
	/* As the kernel: what was never set up is at address 0, of no one. */
	if (!it->size || !it->descriptors || it->kick < 0)
		return refuse(EFAULT);
	must(is_open(it->kick) && is_open(it->call) && it->base == 0);
	it->runs = true;
	fake_vhost.starts++;
	return 0;
}

static int set_backend(const struct vhost_vring_file *file)
{
	struct fake_ring *it = ring(file->index);

	if (file->fd >= 0) {
		must(file->fd == FAKE_TAP);
		return start(it);
	}
	it->runs = false;
	return 0;
}

static int set_running(int running)
{
	for (unsigned i = 0; i < 2; i++) {
		if (!running)
			ring(i)->runs = false;
		else if (start(ring(i)))
			return -1;
	}
	fake_vhost.running = running;
	return 0;
}

static int set_memory(const struct vhost_memory *memory)
{
	must(memory->nregions == fake_vhost.ram->count);
	for (unsigned i = 0; i < memory->nregions; i++)
		must(memory->regions[i].guest_phys_addr == fake_vhost.ram->regions[i].gpa &&
			memory->regions[i].memory_size == fake_vhost.ram->regions[i].size &&
			memory->regions[i].userspace_addr ==
				(uintptr_t)fake_vhost.ram->regions[i].hva);
	fake_vhost.has_memory = true;
	return 0;
}

static int set_features(uint64_t features)
{
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		must(!fake_vhost.rings[i].runs);
	must(!(features & ACCESS_PLATFORM)); /* addresses would be translated by us */
	if (features & ~fake_vhost.offers)
		return refuse(EOPNOTSUPP);
	fake_vhost.features = features;
	return 0;
}

static int answer_vhost(unsigned long request, void *argument)
{
	const struct vhost_vring_file *file = argument;
	const struct vhost_vring_state *state = argument;

	must(fake_vhost.owned == (request != VHOST_SET_OWNER));
	switch (request) {
	case VHOST_SET_OWNER:
		fake_vhost.owned = true;
		return 0;
	case VHOST_GET_FEATURES:
		memcpy(argument, &fake_vhost.offers, 8);
		return 0;
	case VHOST_SET_FEATURES:
		return set_features(*(uint64_t *)argument);
	case VHOST_SET_MEM_TABLE:
		return set_memory(argument);
	case VHOST_SET_VRING_NUM:
		return set_size(argument);
	case VHOST_SET_VRING_BASE:
		must(!ring(state->index)->runs);
		ring(state->index)->base = state->num;
		return 0;
	case VHOST_SET_VRING_ADDR:
		return set_addresses(argument);
	case VHOST_SET_VRING_KICK:
		ring(file->index)->kick = file->fd;
		return 0;
	case VHOST_SET_VRING_CALL:
		ring(file->index)->call = file->fd;
		return 0;
	case VHOST_NET_SET_BACKEND:
		return set_backend(argument);
	case VHOST_VSOCK_SET_RUNNING:
		return set_running(*(int *)argument);
	default:
		wrong("a request that vhost does not know", __LINE__);
	}
}

/* What gives something back does not fail. */
static bool may_fail(unsigned long request, const void *argument)
{
	switch (request) {
	case KVM_IRQFD:
		return !(((const struct kvm_irqfd *)argument)->flags & KVM_IRQFD_FLAG_DEASSIGN);
	case KVM_IOEVENTFD:
		return !(((const struct kvm_ioeventfd *)argument)->flags &
			 KVM_IOEVENTFD_FLAG_DEASSIGN);
	case VHOST_NET_SET_BACKEND:
		return ((const struct vhost_vring_file *)argument)->fd >= 0;
	case VHOST_VSOCK_SET_RUNNING:
		return *(const int *)argument;
	default:
		return fake_vdpa_may_fail(request, argument);
	}
}

bool fake_vhost_fails(void)
{
	bool fails = fake_vhost.fail_in && !--fake_vhost.fail_in;

	fake_vhost.failed += fails;
	return fails;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (may_fail(request, argument) && fake_vhost_fails())
		return refuse(EIO);
	if (fd == FAKE_VDPA)
		return fake_vdpa_answer(request, argument);
	if (fd == FAKE_VHOST)
		return answer_vhost(request, argument);
	switch (request) {
	case TUNSETOFFLOAD:
		must(fd == FAKE_TAP);
		fake_vhost.offloads = (uintptr_t)argument;
		return 0;
	case KVM_IRQFD:
		return set_irqfd(argument);
	case KVM_IOEVENTFD:
		return set_doorbell(argument);
	case KVM_SET_GSI_ROUTING:
		return set_routes(argument);
	default:
		wrong("a request that nobody knows", __LINE__);
	}
}
