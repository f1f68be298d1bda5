/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/message.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER offsetof(struct message, device)
#define WIRE   offsetof(struct message, fds) /* the longest that is sent */

static const struct kind {
	uint32_t type;
	uint32_t size; /* of what follows the header */
	unsigned fds;
} kinds[] = {
	{ MESSAGE_PRESS_BUTTON, 0, 0 },
	{ MESSAGE_RESET, 0, 0 },
	{ MESSAGE_STOP, 0, 0 },
	{ MESSAGE_CONT, 0, 0 },
	{ MESSAGE_QUERY_CPUS, 0, 0 },
	{ MESSAGE_QUERY_PCI, 0, 0 },
	{ MESSAGE_ATTACH, sizeof(struct message_attach), 1 },
	{ MESSAGE_DETACH, sizeof(struct message_detach), 0 },
	{ MESSAGE_TAKEN, sizeof(uint32_t), 0 },
	{ MESSAGE_RESIZED, sizeof(struct message_resized), 0 },
	{ MESSAGE_READY, 0, 0 },
	{ MESSAGE_ENDING, 0, 0 },
	{ MESSAGE_HELD, sizeof(uint32_t), 0 },
	{ MESSAGE_CRASH_LOADED, 0, 0 },
	{ MESSAGE_CLOSED, sizeof(uint32_t), 0 },
	{ MESSAGE_REPLY, sizeof(struct error), 0 },
	{ MESSAGE_CPU, sizeof(struct message_cpu), 0 },
	{ MESSAGE_FUNCTION, sizeof(struct message_function), 0 },
	{ MESSAGE_WANTED, sizeof(struct message_event), 0 },
	{ MESSAGE_FAILED, sizeof(struct message_event), 0 },
};

static const struct kind *find_kind(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].type == type)
			return &kinds[i];
	return NULL;
}

/* Room for one descriptor more than any message has: so that one too many is seen. */
union control {
	struct cmsghdr header;
	char space[CMSG_SPACE((MESSAGE_FDS_MAX + 1) * sizeof(int))];
};

static ssize_t send_with_fds(int socket, const struct message *message, const struct kind *kind)
{
	const struct iovec bytes = { (void *)message, HEADER + kind->size };

	return fd_send(socket, &bytes, 1, message->fds, kind->fds, 0);
}

/* Most pass no descriptors. */
int message_send(int socket, const struct message *message)
{
	const struct kind *kind = find_kind(message->type);
	ssize_t sent;

	if (!kind)
		return -EINVAL;
	do
		sent = kind->fds ? send_with_fds(socket, message, kind)
				 : write(socket, message, HEADER + kind->size);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

/* The descriptors that came along, of which fds has room for the first few. Their number. */
static unsigned take_fds(struct msghdr *header, int fds[static MESSAGE_FDS_MAX])
{
	unsigned count = 0;

	for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at; at = CMSG_NXTHDR(header, at)) {
		if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t used = CMSG_LEN(0); used + sizeof(int) <= at->cmsg_len;
			used += sizeof(int)) {
			int fd;

			memcpy(&fd, (char *)at + used, sizeof(fd));
			if (count < MESSAGE_FDS_MAX)
				fds[count] = fd;
			else
				close(fd);
			count++;
		}
	}
	return count;
}

static bool is_sound(const struct message *message, size_t size, unsigned fd_count)
{
	const struct kind *kind = size >= HEADER ? find_kind(message->type) : NULL;

	return kind && size == HEADER + kind->size && fd_count == kind->fds;
}

static void end_texts(struct message *message)
{
	struct error *error = &message->error;

	if (message->type != MESSAGE_REPLY)
		return;
	error->object[sizeof(error->object) - 1] = '\0';
	error->what[sizeof(error->what) - 1] = '\0';
	error->hint[sizeof(error->hint) - 1] = '\0';
}

int message_receive(int socket, struct message *message)
{
	struct iovec bytes = { message, WIRE };
	union control control;
	struct msghdr header = {
		.msg_iov = &bytes,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	unsigned fd_count;
	ssize_t got;

	*message = (struct message){ .fds = { -1, -1 } };
	do
		got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		return got < 0 ? -errno : 0;
	fd_count = take_fds(&header, message->fds);
	if (!(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && is_sound(message, got, fd_count)) {
		end_texts(message);
		return 1;
	}
	for (unsigned i = 0; i < MESSAGE_FDS_MAX; i++)
		if (message->fds[i] >= 0)
			close(message->fds[i]);
	return -EBADMSG;
}
