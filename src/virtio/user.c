/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/clock.h"
#include "base/fd.h"
#include "base/size.h"
#include "virtio/device.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/*
 * A process as a back end: vhost-user (QEMU's docs/interop/vhost-user.rst) on a socket. It maps guest RAM by the
 * file's descriptor, and is handed the eventfds of doorbells and interrupts. It is as hostile as a guest: it has so
 * long to answer, in all, by exactly what was asked for; after anything else the device is lost, and the socket shut,
 * by which a process of good will ends its work on guest RAM.
 */

#define BIT VIRTIO_BIT

#define OPEN_MS 10000 /* for all that is asked before there is a guest */
#define SERVE_MS \
	5000 /* for a start or a stop: a vCPU waits, and Linux looks for those that do for 10 s or 20 */
#define PATIENCE_MS    2000 /* for what the back end has the loop ask, at a stretch, */
#define PATIENCE_SHARE 100  /* and one part in so many of all time */

/* A message: this, then size bytes. */
struct header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};

#define VERSION    1U
#define REPLY      (1U << 2)
#define NEED_REPLY (1U << 3)

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	SET_VRING_ENABLE = 18,
	SET_BACKEND_REQ_FD = 21,
	GET_CONFIG = 24,
	SET_CONFIG = 25,
};

#define CONFIG_CHANGE_MSG 2 /* of the back end's */

#define HAS_PROTOCOL   BIT(30) /* among the features: these */
#define PROTOCOL_MQ    BIT(0)
#define REPLY_ACK      BIT(3)
#define BACKEND_REQ    BIT(5)
#define PROTOCOL_SPACE BIT(9)

#define REGIONS_MAX 8 /* that the message may have */

struct memory_table {
	uint32_t count, padding;
	struct {
		uint64_t gpa, size, address, offset;
	} regions[REGIONS_MAX];
};

/* What the driver sees of struct virtio_blk_config; what follows it belongs to features that are not offered. */
#define BLK_SPACE offsetof(struct virtio_blk_config, max_secure_erase_sectors)

struct disk_space {
	uint32_t offset, size, flags;
	uint8_t bytes[BLK_SPACE];
};

_Static_assert(BLK_SPACE <= VIRTIO_SPACE_MAX, "a disk's configuration has room");

#define BLK_FEATURES                                                                               \
	(BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_RO) |           \
		BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) |                             \
		BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_MQ) | \
		BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES))

/* What is asked for: a message, the descriptors with it, and the answer of exactly so many bytes. */
struct exchange {
	uint32_t request;
	const void *payload;
	uint32_t size;
	const int *fds;
	unsigned fd_count;
	void *answer; /* NULL: that it has been done, or has not */
	uint32_t answer_size;
};

static int broken(struct virtio_device *device, int code, const char *why, uint32_t request)
{
	snprintf(device->user.why, sizeof(device->user.why), "%s (request %u)", why, request);
	return code;
}

/* One exchange */

static int wait_for(struct virtio_device *device, int16_t events)
{
	struct pollfd socket = { .fd = device->config.user_fd, .events = events };

	for (;;) {
		int64_t left = device->user.deadline - clock_ms();

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&socket, 1, left) > 0)
			return 0;
	}
}

static int send_request(
	struct virtio_device *device, const struct exchange *exchange, uint32_t flags)
{
	struct header header = { exchange->request, VERSION | flags, exchange->size };
	const struct iovec parts[] = {
		{ &header, sizeof(header) },
		{ (void *)exchange->payload, exchange->size },
	};
	ssize_t sent;

	do
		sent = fd_send(device->config.user_fd, parts, ARRAY_SIZE(parts), exchange->fds,
			exchange->fd_count, MSG_DONTWAIT);
	while (sent < 0 && (errno == EINTR || (errno == EAGAIN && !wait_for(device, POLLOUT))));
	if (sent == (ssize_t)(sizeof(header) + exchange->size))
		return 0;
	if (sent < 0 && errno == EAGAIN)
		return broken(device, -ETIMEDOUT, "takes no request", exchange->request);
	return broken(device, -EPIPE, "has ended", exchange->request);
}

/* So many bytes. The kernel drops descriptors that come along, and says so. */
static int receive_bytes(
	struct virtio_device *device, const struct exchange *exchange, void *bytes, size_t size)
{
	for (size_t got = 0; got < size;) {
		struct iovec part = { (char *)bytes + got, size - got };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
		ssize_t more = recvmsg(device->config.user_fd, &message, MSG_DONTWAIT);

		if (more < 0 && errno == EINTR)
			continue;
		if (more < 0 && errno == EAGAIN) {
			if (wait_for(device, POLLIN))
				return broken(
					device, -ETIMEDOUT, "does not answer", exchange->request);
			continue;
		}
		if (more <= 0)
			return broken(device, -EPIPE, "has ended", exchange->request);
		if (message.msg_flags & MSG_CTRUNC)
			return broken(device, -EBADMSG, "sends descriptors", exchange->request);
		got += more;
	}
	return 0;
}

static int receive_reply(
	struct virtio_device *device, const struct exchange *exchange, void *answer, uint32_t size)
{
	struct header header;
	int code = receive_bytes(device, exchange, &header, sizeof(header));

	if (code)
		return code;
	if (header.request != exchange->request ||
		(header.flags & ~NEED_REPLY) != (VERSION | REPLY) || header.size != size)
		return broken(device, -EBADMSG, "answers something else", exchange->request);
	return receive_bytes(device, exchange, answer, size);
}

static int converse(struct virtio_device *device, const struct exchange *exchange)
{
	uint64_t failed = 0;
	int code = send_request(device, exchange, exchange->answer ? 0 : NEED_REPLY);

	if (code)
		return code;
	if (exchange->answer)
		return receive_reply(device, exchange, exchange->answer, exchange->answer_size);
	code = receive_reply(device, exchange, &failed, sizeof(failed));
	if (!code && failed)
		code = broken(device, -EIO, "refuses", exchange->request);
	return code;
}

static int ask_number(struct virtio_device *device, uint32_t request, uint64_t *number)
{
	return converse(device, &(struct exchange){
					.request = request,
					.answer = number,
					.answer_size = sizeof(*number),
				});
}

static int order(struct virtio_device *device, uint32_t request, const void *payload, uint32_t size)
{
	return converse(device, &(struct exchange){ request, payload, size, .answer = NULL });
}

/* A queue's eventfd: its number is in the low byte. */
static int hand_eventfd(struct virtio_device *device, uint32_t request, uint64_t queue, int fd)
{
	return converse(device, &(struct exchange){
					.request = request,
					.payload = &queue,
					.size = sizeof(queue),
					.fds = &fd,
					.fd_count = 1,
				});
}

static void begin(struct virtio_device *device, int64_t ms)
{
	device->user.deadline = clock_ms() + ms;
}

static int lose(struct virtio_device *device, int code)
{
	virtio_lose(device, device->user.why);
	/* The loop hears of it, too. */
	shutdown(device->config.user_fd, SHUT_RDWR);
	return code;
}

/* What it can do */

#define CACHES offsetof(struct virtio_blk_config, wce)

/* Is a write done when it is in the back end's cache, and a flush what makes it last (5.2.5)? */
static int set_caches(struct virtio_device *device, uint8_t caches)
{
	struct {
		uint32_t offset, size, flags;
		uint8_t byte;
	} __attribute__((packed)) message = { CACHES, 1, 0, caches };
	int code = order(device, SET_CONFIG, &message, sizeof(message));

	if (!code)
		device->space[CACHES] = caches;
	return code;
}

/* The number of queues is what we make of it, whatever it says. */
static int read_space(struct virtio_device *device)
{
	struct disk_space asked = { .size = sizeof(asked.bytes) }, answer;
	uint16_t queues = device->queue_count;
	int code = converse(device, &(struct exchange){
					    .request = GET_CONFIG,
					    .payload = &asked,
					    .size = sizeof(asked),
					    .answer = &answer,
					    .answer_size = sizeof(answer),
				    });

	if (code)
		return code;
	if (answer.offset || answer.size != sizeof(answer.bytes))
		return broken(device, -EBADMSG, "answers something else", GET_CONFIG);
	memcpy(device->space, answer.bytes, sizeof(answer.bytes));
	memcpy(&device->space[offsetof(struct virtio_blk_config, num_queues)], &queues,
		sizeof(queues));
	return 0;
}

static int agree_on_protocol(struct virtio_device *device)
{
	uint64_t wanted = PROTOCOL_MQ | REPLY_ACK, needed = REPLY_ACK, known;
	int code = ask_number(device, GET_PROTOCOL_FEATURES, &known);

	if (device->model->type == VIRTIO_BLK) {
		wanted |= PROTOCOL_SPACE | BACKEND_REQ;
		needed |= PROTOCOL_SPACE;
	}
	if (code)
		return code;
	if (needed & ~known)
		return broken(device, -ENOTSUP, "lacks what the protocol has for it",
			GET_PROTOCOL_FEATURES);
	device->user.protocol = known & wanted;
	/* Not yet acknowledged: it says whether things are. */
	code = send_request(device,
		&(struct exchange){
			.request = SET_PROTOCOL_FEATURES,
			.payload = &device->user.protocol,
			.size = sizeof(device->user.protocol),
		},
		0);
	return code ? code : order(device, SET_OWNER, NULL, 0);
}

/* A net has one pair without being asked. */
static int check_queues(struct virtio_device *device)
{
	uint64_t count = 1;
	int code = 0;

	if (device->model->type == VIRTIO_NET)
		return 0;
	if (device->user.protocol & PROTOCOL_MQ)
		code = ask_number(device, GET_QUEUE_NUM, &count);
	if (!code && count < device->queue_count)
		code = broken(device, -ENOTSUP, "has fewer queues", GET_QUEUE_NUM);
	return code;
}

static int open_channel(struct virtio_device *device)
{
	int ends[2], code;

	if (!(device->user.protocol & BACKEND_REQ))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return broken(device, -errno, "cannot be given a channel", SET_BACKEND_REQ_FD);
	device->user.channel = ends[0];
	code = converse(device, &(struct exchange){
					.request = SET_BACKEND_REQ_FD,
					.fds = &ends[1],
					.fd_count = 1,
				});
	close(ends[1]);
	return code;
}

static int agree_on_features(struct virtio_device *device)
{
	const uint64_t needed = HAS_PROTOCOL | BIT(VIRTIO_F_VERSION_1);
	int code = ask_number(device, GET_FEATURES, &device->backend_features);

	if (!code && needed & ~device->backend_features)
		code = broken(device, -ENOTSUP, "is too old", GET_FEATURES);
	return code;
}

/* virtiofsd knows neither: what it serves has the name that we give it (5.11.4). */
static void describe_fs(struct virtio_device *device)
{
	struct virtio_fs_config space = { .num_request_queues = device->queue_count - 1 };

	_Static_assert(sizeof(space) <= VIRTIO_SPACE_MAX, "a file system's configuration has room");
	memcpy(space.tag, device->config.tag, sizeof(space.tag));
	memcpy(device->space, &space, sizeof(space));
}

static void describe_offer(struct virtio_device *device)
{
	uint64_t passed = VIRTIO_QUEUE_FEATURES;

	if (device->model->type == VIRTIO_NET) {
		virtio_describe_net(device);
		passed |= VIRTIO_OFFLOADS | BIT(VIRTIO_NET_F_MRG_RXBUF);
	} else if (device->model->type == VIRTIO_BLK) {
		passed |= BLK_FEATURES;
	} else {
		describe_fs(device);
	}
	device->offered |= device->backend_features & passed;
}

static int user_open(struct virtio_device *device, struct error *err)
{
	int code;

	if (device->ram->count > REGIONS_MAX)
		return error_set(err, -E2BIG, device->config.name,
			"the host's IOMMU has guest RAM in %u parts, and its back end can be told "
			"of %u",
			device->ram->count, REGIONS_MAX);
	begin(device, OPEN_MS);
	device->user.patience = PATIENCE_MS;
	device->user.waited = clock_ms();
	code = agree_on_features(device);
	if (!code)
		code = agree_on_protocol(device);
	if (!code)
		code = check_queues(device);
	if (!code)
		code = open_channel(device);
	if (!code && device->model->type == VIRTIO_BLK)
		code = read_space(device);
	/* qemu-storage-daemon caches and says that it does not: a driver that believed it would never flush. */
	if (!code && device->backend_features & BIT(VIRTIO_BLK_F_CONFIG_WCE) &&
		device->model->type == VIRTIO_BLK)
		code = set_caches(device, 1);
	if (code)
		return error_set(
			err, code, device->config.name, "its back end %s", device->user.why);
	describe_offer(device);
	return 0;
}

/* Start and stop */

/* Addresses in these messages are names for what the table says: GPAs, so that it learns none of ours. */
static int hand_ram(struct virtio_device *device)
{
	struct memory_table table = { .count = device->ram->count };
	int fds[REGIONS_MAX];

	for (unsigned i = 0; i < table.count; i++) {
		const struct virtio_region *region = &device->ram->regions[i];

		table.regions[i].gpa = table.regions[i].address = region->gpa;
		table.regions[i].size = region->size;
		table.regions[i].offset = region->offset;
		fds[i] = device->ram->fd;
	}
	return converse(device, &(struct exchange){
					.request = SET_MEM_TABLE,
					.payload = &table,
					.size = offsetof(struct memory_table, regions[table.count]),
					.fds = fds,
					.fd_count = table.count,
				});
}

static int hand_queue(struct virtio_device *device, unsigned i)
{
	const struct virtio_queue *queue = &device->queues[i];
	const struct vhost_vring_state size = { i, queue->size }, base = { i, 0 },
				       enabled = { i, 1 };
	const struct vhost_vring_addr addresses = {
		.index = i,
		.desc_user_addr = queue->descriptors,
		.avail_user_addr = queue->driver,
		.used_user_addr = queue->device,
	};
	int code = order(device, SET_VRING_NUM, &size, sizeof(size));

	if (!code)
		code = order(device, SET_VRING_BASE, &base, sizeof(base));
	if (!code)
		code = order(device, SET_VRING_ADDR, &addresses, sizeof(addresses));
	if (!code)
		code = hand_eventfd(device, SET_VRING_CALL, i, queue->irq.eventfd);
	if (!code)
		code = hand_eventfd(device, SET_VRING_KICK, i, queue->kick);
	if (!code)
		code = order(device, SET_VRING_ENABLE, &enabled, sizeof(enabled));
	return code;
}

static int user_start(struct virtio_device *device)
{
	const uint64_t features = (device->accepted & device->backend_features) | HAS_PROTOCOL;
	int code = 0;

	for (unsigned i = 0; i < device->served && !code; i++)
		if (device->queues[i].enabled)
			code = virtio_check_queue(device, &device->queues[i]);
	if (code)
		return code;
	begin(device, SERVE_MS);
	code = order(device, SET_FEATURES, &features, sizeof(features));
	if (!code)
		code = hand_ram(device);
	for (unsigned i = 0; i < device->served && !code; i++)
		if (device->queues[i].enabled)
			code = hand_queue(device, i);
	return code ? lose(device, code) : 0;
}

/* When it says up to where it has taken a queue's requests, it takes no more. */
static int stop_queue(struct virtio_device *device, uint32_t i)
{
	const struct vhost_vring_state asked = { i, 0 };
	struct vhost_vring_state answer;
	int code = converse(device, &(struct exchange){
					    .request = GET_VRING_BASE,
					    .payload = &asked,
					    .size = sizeof(asked),
					    .answer = &answer,
					    .answer_size = sizeof(answer),
				    });

	if (!code && answer.index != i)
		code = broken(device, -EBADMSG, "answers something else", GET_VRING_BASE);
	return code;
}

static void user_stop(struct virtio_device *device)
{
	int code = 0;

	begin(device, SERVE_MS);
	for (unsigned i = 0; i < device->served && !code; i++)
		if (device->queues[i].enabled)
			code = stop_queue(device, i);
	if (code)
		lose(device, code);
}

/* The one thing that a disk's driver may write: whether its writes are cached (5.2.5). */
static void user_write_space(
	struct virtio_device *device, unsigned offset, unsigned size, uint64_t value)
{
	int code;

	if (device->is_lost || size != 1 || offset != CACHES ||
		!(device->accepted & BIT(VIRTIO_BLK_F_CONFIG_WCE)) ||
		device->model->type != VIRTIO_BLK)
		return;
	begin(device, SERVE_MS);
	code = set_caches(device, value);
	if (code)
		lose(device, code);
}

/* In the loop */

static void unwatch(struct virtio_device *device)
{
	if (!device->loop)
		return;
	loop_remove(device->loop, device->config.user_fd);
	if (device->user.channel >= 0)
		loop_remove(device->loop, device->user.channel);
	device->loop = NULL;
}

static void on_hangup(void *opaque, uint32_t events)
{
	struct virtio_device *device = opaque;

	(void)events;
	pthread_mutex_lock(&device->pci.lock);
	if (!device->is_lost) {
		snprintf(device->user.why, sizeof(device->user.why), "has ended");
		lose(device, -EPIPE);
	}
	unwatch(device);
	pthread_mutex_unlock(&device->pci.lock);
}

/* The time that it takes is not the guest's alone, but everybody's in this machine. */
static int read_space_again(struct virtio_device *device)
{
	int64_t now = clock_ms();
	uint8_t before[VIRTIO_SPACE_MAX];
	int code;

	device->user.patience += (now - device->user.waited) / PATIENCE_SHARE;
	if (device->user.patience > PATIENCE_MS)
		device->user.patience = PATIENCE_MS;
	device->user.waited = now;
	if (device->user.patience <= 0)
		return broken(device, -ETIMEDOUT, "is too slow", GET_CONFIG);
	memcpy(before, device->space, sizeof(before));
	begin(device, device->user.patience);
	code = read_space(device);
	device->user.patience -= clock_ms() - now + 1; /* each takes something */
	if (!code && memcmp(before, device->space, sizeof(before)) != 0)
		virtio_space_changed(device);
	return code;
}

/* One message of CONFIG_CHANGE_MSG, which has nothing but its header; all else was never agreed on. */
static int hear(struct virtio_device *device)
{
	struct {
		struct header header;
		uint64_t number;
	} __attribute__((packed)) done = { .number = 0 };
	struct header header = { 0 };
	struct iovec part = { &header, sizeof(header) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t got = recvmsg(device->user.channel, &message, MSG_DONTWAIT);
	int code;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got != sizeof(header) || message.msg_flags & MSG_CTRUNC ||
		header.request != CONFIG_CHANGE_MSG || (header.flags & ~NEED_REPLY) != VERSION ||
		header.size)
		return broken(
			device, -EBADMSG, "has ended, or speaks of something else", header.request);
	code = read_space_again(device);
	if (code || !(header.flags & NEED_REPLY))
		return code;
	done.header = (struct header){ CONFIG_CHANGE_MSG, VERSION | REPLY, sizeof(done.number) };
	part = (struct iovec){ &done, sizeof(done) };
	message = (struct msghdr){ .msg_iov = &part, .msg_iovlen = 1 };
	return sendmsg(device->user.channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0
		       ? broken(device, -EPIPE, "takes no answer", CONFIG_CHANGE_MSG)
		       : 0;
}

static void on_channel(void *opaque, uint32_t events)
{
	struct virtio_device *device = opaque;
	int code;

	(void)events;
	pthread_mutex_lock(&device->pci.lock);
	code = device->is_lost ? 0 : hear(device);
	if (code)
		lose(device, code);
	if (device->is_lost)
		unwatch(device);
	pthread_mutex_unlock(&device->pci.lock);
}

static int user_watch(struct virtio_device *device)
{
	/* That it has ended is told unasked; what it answers is whose who asks. */
	int code = loop_add(device->loop, device->config.user_fd, EPOLLRDHUP, on_hangup, device);

	if (!code && device->user.channel >= 0)
		code = loop_add(device->loop, device->user.channel, EPOLLIN, on_channel, device);
	return code;
}

static void user_close(struct virtio_device *device)
{
	unwatch(device);
	if (device->user.channel >= 0)
		close(device->user.channel);
}

const struct virtio_backend_ops virtio_user_ops = {
	.open = user_open,
	.start = user_start,
	.stop = user_stop,
	.write_space = user_write_space,
	.watch = user_watch,
	.close = user_close,
};
