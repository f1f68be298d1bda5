/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake_user.h"

#include "base/clock.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost_types.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* The numbers of QEMU's docs/interop/vhost-user.rst. */

#define REGIONS_MAX 8
#define FDS_MAX     8

struct request {
	uint32_t number, flags, size;
	union {
		uint64_t number;
		struct vhost_vring_state state;
		struct vhost_vring_addr addresses;
		struct {
			uint32_t count, padding;
			struct {
				uint64_t gpa, size, address, offset;
			} regions[REGIONS_MAX];
		} memory;
		struct {
			uint32_t offset, size, flags;
			uint8_t bytes[FAKE_USER_SPACE];
		} space;
		char bytes[300];
	} payload;
	int fds[FDS_MAX];
	unsigned fd_count;
};

struct answer {
	uint32_t number, flags, size;
	uint8_t bytes[512];
} __attribute__((packed));

struct fake_user fake_user;
static int other = -1; /* end of its socket */
static struct answer drip;
static unsigned drips;

ssize_t __real_sendmsg(int socket, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int socket, const struct msghdr *message, int flags);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
int64_t __wrap_clock_ms(void);

#define must(holds) ((holds) ? (void)0 : wrong(#holds, __LINE__))
static _Noreturn void wrong(const char *what, int line)
{
	fprintf(stderr, "fake_user.c:%d: it was asked what it must not be: %s\n", line, what);
	abort();
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int fake_user_open(const struct virtio_ram *ram)
{
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	fake_user = (struct fake_user){
		.features = 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX |
			    1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_F_ACCESS_PLATFORM |
			    1ULL << VIRTIO_F_RING_PACKED | 1ULL << 30,
		.protocol = 1 << 0 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 14,
		.queues = FAKE_USER_QUEUES,
		.ram = ram,
		.socket = ends[0],
		.channel = -1,
		.now = 1000,
	};
	for (unsigned i = 0; i < FAKE_USER_QUEUES; i++)
		fake_user.rings[i].kick = fake_user.rings[i].call = -1;
	drips = 0;
	other = ends[1];
	return other;
}

/* As far as the protocol knows it, which a reset of the guest's does not end. */
void fake_user_close_process(void)
{
	close_one(&fake_user.socket);
	close_one(&fake_user.channel);
	for (unsigned i = 0; i < FAKE_USER_QUEUES; i++) {
		fake_user.rings[i].runs = false;
		close_one(&fake_user.rings[i].kick);
		close_one(&fake_user.rings[i].call);
	}
}

void fake_user_close(void)
{
	fake_user_close_process();
	close_one(&other);
}

void fake_user_change(uint32_t flags)
{
	const uint32_t message[] = { 2, flags, 0 };

	must(write(fake_user.channel, message, sizeof(message)) == sizeof(message));
}

static struct fake_user_ring *ring(uint32_t i)
{
	must(i < fake_user.queues);
	return &fake_user.rings[i];
}

static bool in_ram(uint64_t gpa, uint64_t size)
{
	for (unsigned i = 0; i < fake_user.ram->count; i++) {
		const struct virtio_region *region = &fake_user.ram->regions[i];

		if (gpa >= region->gpa && gpa + size <= region->gpa + region->size)
			return true;
	}
	return false;
}

static void set_memory(const struct request *request)
{
	struct stat given, own;

	must(request->payload.memory.count == fake_user.ram->count &&
		request->size == 8 + 32 * fake_user.ram->count &&
		request->fd_count == fake_user.ram->count);
	for (unsigned i = 0; i < fake_user.ram->count; i++) {
		const struct virtio_region *region = &fake_user.ram->regions[i];

		must(request->payload.memory.regions[i].gpa == region->gpa &&
			request->payload.memory.regions[i].size == region->size &&
			request->payload.memory.regions[i].address == region->gpa &&
			request->payload.memory.regions[i].offset == region->offset);
		must(fstat(request->fds[i], &given) == 0 && fstat(fake_user.ram->fd, &own) == 0 &&
			given.st_ino == own.st_ino);
	}
	for (unsigned i = 0; i < FAKE_USER_QUEUES; i++)
		must(!fake_user.rings[i].runs);
	fake_user.has_memory = true;
}

static void set_addresses(const struct vhost_vring_addr *addresses)
{
	struct fake_user_ring *it = ring(addresses->index);

	must(!it->runs && !addresses->flags && addresses->desc_user_addr % 16 == 0 &&
		addresses->avail_user_addr % 2 == 0 && addresses->used_user_addr % 4 == 0);
	must(in_ram(addresses->desc_user_addr, 16ULL * it->size) &&
		in_ram(addresses->avail_user_addr, 6 + 2 * it->size) &&
		in_ram(addresses->used_user_addr, 6 + 8 * it->size));
	it->descriptors = addresses->desc_user_addr;
	it->driver = addresses->avail_user_addr;
	it->device = addresses->used_user_addr;
}

static void set_eventfd(struct request *request, bool is_kick)
{
	struct fake_user_ring *it = ring(request->payload.number & 0xff);
	int *fd = is_kick ? &it->kick : &it->call;

	must(request->size == 8 && request->fd_count == 1 && !(request->payload.number >> 8));
	close_one(fd);
	*fd = request->fds[0];
	request->fd_count = 0;
	if (!is_kick)
		return;
	/* All that a queue needs has been told by then. */
	must(it->size && it->call >= 0 && fake_user.has_memory && fake_user.owned);
	it->runs = true;
	fake_user.starts++;
}

static void set_space(const struct request *request)
{
	must(request->size == 13 && request->payload.space.size == 1 &&
		!request->payload.space.flags &&
		request->payload.space.offset == offsetof(struct virtio_blk_config, wce));
	fake_user.space[request->payload.space.offset] = request->payload.space.bytes[0];
}

static void set_features(uint64_t features)
{
	must(!(features & ~fake_user.features) && features >> 30 & 1 &&
		!(features >> VIRTIO_F_ACCESS_PLATFORM & 1));
	fake_user.accepted = features;
}

static uint32_t say(struct answer *answer, const void *bytes, uint32_t size)
{
	memcpy(answer->bytes, bytes, size);
	return size;
}

static uint32_t get_space(const struct request *request, struct answer *answer)
{
	uint32_t head[] = { 0, FAKE_USER_SPACE, 0 };

	must(request->size == sizeof(head) + FAKE_USER_SPACE && !request->payload.space.offset &&
		request->payload.space.size == FAKE_USER_SPACE);
	say(answer, head, sizeof(head));
	memcpy(&answer->bytes[sizeof(head)], fake_user.space, FAKE_USER_SPACE);
	return sizeof(head) + FAKE_USER_SPACE;
}

static uint32_t stop_ring(const struct vhost_vring_state *state, struct answer *answer)
{
	struct fake_user_ring *it = ring(state->index);
	const struct vhost_vring_state base = { state->index, 77 };

	it->runs = false;
	close_one(&it->kick);
	close_one(&it->call);
	return say(answer, &base, sizeof(base));
}

/* Do it. The size of the answer, 0: it has none of its own. */
static uint32_t serve(struct request *request, struct answer *answer)
{
	const uint64_t count = fake_user.queues;
	const struct vhost_vring_state *state = &request->payload.state;

	switch (request->number) {
	case 1:
		return say(answer, &fake_user.features, 8);
	case 2:
		must(request->size == 8);
		set_features(request->payload.number);
		return 0;
	case 3:
		fake_user.owned = true;
		return 0;
	case 5:
		set_memory(request);
		return 0;
	case 8:
		must(!ring(state->index)->runs && state->num && state->num <= 256);
		ring(state->index)->size = state->num;
		return 0;
	case 9:
		must(request->size == sizeof(request->payload.addresses));
		set_addresses(&request->payload.addresses);
		return 0;
	case 10:
		must(!ring(state->index)->runs && !state->num);
		return 0;
	case 11:
		return stop_ring(state, answer);
	case 12:
	case 13:
		set_eventfd(request, request->number == 12);
		return 0;
	case 15:
		return say(answer, &fake_user.protocol, 8);
	case 16:
		must(!(request->payload.number & ~fake_user.protocol) && request->size == 8 &&
			!(request->payload.number & 1 << 14));
		fake_user.protocol_accepted = request->payload.number;
		return 0;
	case 17:
		must(fake_user.protocol_accepted & 1);
		return say(answer, &count, 8);
	case 18:
		must(request->size == 8);
		ring(state->index)->enabled = state->num;
		return 0;
	case 21:
		must(fake_user.protocol_accepted & 1 << 5 && request->fd_count == 1);
		close_one(&fake_user.channel);
		fake_user.channel = request->fds[0];
		request->fd_count = 0;
		return 0;
	case 24:
		must(fake_user.protocol_accepted & 1 << 9);
		return get_space(request, answer);
	case 25:
		must(fake_user.protocol_accepted & 1 << 9);
		set_space(request);
		return 0;
	default:
		wrong("a request that nobody knows", __LINE__);
	}
}

static void put(const void *bytes, size_t size)
{
	const struct msghdr message = {
		.msg_iov = &(struct iovec){ (void *)bytes, size },
		.msg_iovlen = 1,
	};

	if (fake_user.socket >= 0)
		(void)!__real_sendmsg(fake_user.socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void put_with_descriptor(void *bytes, size_t size)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec part = { bytes, size };
	const struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	memcpy(CMSG_DATA(&control.header), &fake_user.socket, sizeof(int));
	(void)!__real_sendmsg(fake_user.socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void lie(struct answer *answer)
{
	size_t size = 12 + answer->size;

	fake_user.lies++;
	switch (fake_user.lie) {
	case FAKE_SILENT:
		return;
	case FAKE_DRIP:
		drip = *answer;
		drips = size;
		return;
	case FAKE_SHORT:
		size = size * 3 / 4;
		break;
	case FAKE_LONG:
		answer->size += 8;
		size += 8;
		break;
	case FAKE_HUGE:
		answer->size = UINT32_MAX;
		break;
	case FAKE_EMPTY:
		answer->size = 0;
		size = 12;
		break;
	case FAKE_OTHER:
		answer->number++;
		break;
	case FAKE_REQUEST:
		answer->flags = 1;
		break;
	case FAKE_VERSION:
		answer->flags = 2 | 1 << 2;
		break;
	case FAKE_DESCRIPTORS:
		put_with_descriptor(answer, size);
		return;
	case FAKE_REFUSES:
		answer->size = 8;
		memset(answer->bytes, 0xff, 8);
		size = 20;
		break;
	default:
		fake_user_close_process();
		return;
	}
	put(answer, size);
}

static void take_fds(struct request *request, struct msghdr *message)
{
	for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
		request->fd_count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		must(request->fd_count <= FDS_MAX);
		memcpy(request->fds, CMSG_DATA(at), request->fd_count * sizeof(int));
	}
	must(!(message->msg_flags & MSG_CTRUNC));
}

/* One request, whole: there is no other way to send one. */
static void step(void)
{
	struct request request = { 0 };
	struct answer answer = { 0 };
	char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
	struct iovec parts[] = { { &request, 12 }, { &request.payload, sizeof(request.payload) } };
	struct msghdr message = {
		.msg_iov = parts,
		.msg_iovlen = 2,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got = recvmsg(fake_user.socket, &message, MSG_DONTWAIT);
	size_t size;

	must(got >= 12 && got == 12 + (ssize_t)request.size && (request.flags & ~8U) == 1);
	take_fds(&request, &message);
	fake_user.requests++;
	fake_user.now += fake_user.late;
	answer.size = serve(&request, &answer);
	/* With REPLY_ACK that is agreed on, everything is answered. */
	must(answer.size || request.flags & 8 || request.number == 16);
	for (unsigned i = 0; i < request.fd_count; i++)
		close(request.fds[i]);
	if (!answer.size && !(request.flags & 8))
		return;
	answer.number = request.number;
	answer.flags = 1 | 1 << 2;
	if (!answer.size)
		answer.size = 8;
	size = 12 + answer.size;
	if (fake_user.answers && fake_user.answers(fake_user.opaque, &answer, &size)) {
		fake_user.lies++;
		put(&answer, size);
	} else if (fake_user.lie_at && fake_user.requests == fake_user.lie_at) {
		lie(&answer);
	} else {
		put(&answer, size);
		return;
	}
	fake_user.lied_about = request.number;
	/* Whoever lies about what he can do is taken at his word. */
	if (request.number == 1)
		fake_user.features = UINT64_MAX;
	if (request.number == 15)
		fake_user.protocol = UINT64_MAX;
}

ssize_t __wrap_sendmsg(int socket, const struct msghdr *message, int flags)
{
	ssize_t sent = __real_sendmsg(socket, message, flags);

	if (socket == other && sent > 0 && fake_user.socket >= 0)
		step();
	return sent;
}

static void let_drip(void)
{
	size_t size = 12 + drip.size;

	if (!drips)
		return;
	put((char *)&drip + (size - drips), 1);
	drips--;
}

/* Nothing happens while it waits, but what drips. */
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	int ready = __real_poll(fds, count, 0);

	if (ready || !timeout)
		return ready;
	let_drip();
	fake_user.now += drips && timeout > 700 ? 700 : timeout;
	return __real_poll(fds, count, 0);
}

int64_t __wrap_clock_ms(void)
{
	return fake_user.now;
}
