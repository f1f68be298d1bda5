/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/socket.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 16

/* An address holds 107 bytes: so it leads by way of the directory's descriptor. That, or an errno. */
static int make_address(const char *path, struct sockaddr_un *address)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	cleanup_free char *directory = slash ? strndup(path, slash - path + 1) : strdup(".");
	int fd, length;

	if (!directory)
		return -ENOMEM;
	fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	length = snprintf(
		address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", fd, name);
	if (length < (int)sizeof(address->sun_path) && name[0])
		return fd;
	close(fd);
	return name[0] ? -ENAMETOOLONG : -EISDIR;
}

int control_connect(const char *path)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), directory = -1;
	struct sockaddr_un address;

	if (fd < 0)
		return -errno;
	directory = make_address(path, &address);
	if (directory < 0)
		return directory;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return take_fd(&fd);
}

static int remove_stale(const char *path, struct error *err)
{
	struct stat stat;
	int fd;

	if (lstat(path, &stat) < 0)
		return 0;
	if (!S_ISSOCK(stat.st_mode)) {
		error_set(err, -EEXIST, path, "there is a file that is no socket");
		error_hint(err, "choose another path, or remove it");
		return err->code;
	}
	fd = control_connect(path);
	if (fd >= 0)
		close(fd);
	if (fd != -ECONNREFUSED) {
		error_set(err, -EADDRINUSE, path, "another process listens there");
		error_hint(err, "choose another path, or end that one; 'ss -lxp' shows which");
		return err->code;
	}
	if (unlink(path) < 0)
		return error_sys(err, -errno, path, "cannot remove what a dead process left");
	return 0;
}

/* No moment at which others may connect: the mode is there from the start. */
static int bind_private(int fd, const struct sockaddr_un *address)
{
	mode_t mask = umask(0177);
	int code = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	umask(mask);
	return code;
}

int control_listen(struct control_socket *listener, const char *path, struct error *err)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cleanup_fd int directory = -1;
	struct sockaddr_un address;
	struct stat stat_;
	int code;

	*listener = (struct control_socket){ .fd = -1 };
	if (fd < 0)
		return error_sys(err, -errno, path, "cannot listen");
	if (remove_stale(path, err))
		return err->code;
	directory = make_address(path, &address);
	code = directory < 0 ? directory : bind_private(fd, &address);
	if (!code && (stat(path, &stat_) < 0 || listen(fd, BACKLOG) < 0))
		code = -errno;
	if (!code) {
		listener->path = strdup(path);
		code = listener->path ? 0 : -ENOMEM;
	}
	if (code)
		return error_sys(err, code, path, "cannot listen");
	listener->device = stat_.st_dev;
	listener->inode = stat_.st_ino;
	listener->fd = take_fd(&fd);
	return 0;
}

int control_accept(const struct control_socket *listener)
{
	cleanup_fd int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	return peer.uid == 0 || peer.uid == geteuid() ? take_fd(&fd) : -EPERM;
}

void control_close(struct control_socket *listener)
{
	struct stat stat;

	if (listener->fd < 0)
		return;
	if (lstat(listener->path, &stat) == 0 && stat.st_dev == listener->device &&
		stat.st_ino == listener->inode)
		unlink(listener->path);
	close(take_fd(&listener->fd));
	free(listener->path);
	listener->path = NULL;
}

pid_t control_peer(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ? 0 : peer.pid;
}
