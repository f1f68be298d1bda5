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

static int inherited = -1; /* the end of notify_pair()'s that a child of ours has */

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
	cleanup_fd int fd = -1;

	if (inherited >= 0)
		return take_fd(&inherited);
	if (asked)
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
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

int notify_pair(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	inherited = ends[1];
	return ends[0];
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

bool notify_was_told(int fd, const char *state)
{
	char text[512];
	ssize_t got = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	if (got < 0)
		return false;
	text[got] = '\0';
	return has_line(text, state);
}
