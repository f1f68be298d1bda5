/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/notify.h"

#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define VARIABLE "NOTIFY_SOCKET"

/* A path, or with '@' a name in the abstract namespace. */
static bool parse_address(const char *text, struct sockaddr_un *address, socklen_t *size)
{
	size_t length = strlen(text);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if ((text[0] != '/' && text[0] != '@') || length < 2 || length >= sizeof(address->sun_path))
		return false;
	memcpy(address->sun_path, text, length);
	if (text[0] == '@')
		address->sun_path[0] = '\0';
	*size = offsetof(struct sockaddr_un, sun_path) + length;
	return true;
}

int notify_open(void)
{
	const char *text = getenv(VARIABLE);
	struct sockaddr_un address;
	socklen_t size;
	bool asked = text && parse_address(text, &address, &size);
	cleanup_fd int fd = asked ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;

	unsetenv(VARIABLE);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, size) < 0)
		return -1;
	return take_fd(&fd);
}

void notify_tell(int fd, const char *state)
{
	if (fd >= 0)
		(void)!send(fd, state, strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The kernel chooses a name that nobody has (unix(7), autobind). */
static int bind_anywhere(int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(address);
	char text[sizeof(address.sun_path) + 1];
	int named;

	if (bind(fd, (struct sockaddr *)&address, sizeof(address.sun_family)) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		return -errno;
	named = size - offsetof(struct sockaddr_un, sun_path) - 1;
	snprintf(text, sizeof(text), "@%.*s", named, address.sun_path + 1);
	return setenv(VARIABLE, text, 1) < 0 ? -errno : 0;
}

int notify_listen(void)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int code, on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return -errno;
	code = bind_anywhere(fd);
	return code ? code : take_fd(&fd);
}

/* Anybody may send to a name: who it was the kernel says. */
static bool is_from(struct msghdr *message, pid_t pid)
{
	struct cmsghdr *part = CMSG_FIRSTHDR(message);
	struct ucred sender;

	if (!part || part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_CREDENTIALS)
		return false;
	memcpy(&sender, CMSG_DATA(part), sizeof(sender));
	return sender.pid == pid;
}

/* One of the datagram's lines. */
static bool has_line(const char *text, const char *line)
{
	size_t length = strlen(line);

	for (; text; text = strchr(text, '\n')) {
		text += *text == '\n';
		if (strncmp(text, line, length) == 0 && strchr("\n", text[length]))
			return true;
	}
	return false;
}

bool notify_was_told(int fd, pid_t pid, const char *state)
{
	bool told = false;

	for (;;) {
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(sizeof(struct ucred))];
		} control;
		char text[512];
		struct iovec iov = { text, sizeof(text) - 1 };
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.bytes,
			.msg_controllen = sizeof(control.bytes),
		};
		ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (got < 0)
			return told;
		text[got] = '\0';
		told = told || (is_from(&message, pid) && has_line(text, state));
	}
}
