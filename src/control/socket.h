/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

/* Local sockets that only their owner and root use. A path may be of any length. */

struct control_socket {
	int fd;
	char *path;
	dev_t device; /* these two tell it from another one that has its path now */
	ino_t inode;
};

/*
 * Listen at path, with access for the user that this process runs as alone. A socket to which nobody
 * listens any more is replaced; -EADDRINUSE where somebody does, -EEXIST where another file is there.
 */
int control_listen(struct control_socket *listener, const char *path, struct error *err);

/* Accept one client. -EPERM, and it is gone, where it is neither root nor our user. */
int control_accept(const struct control_socket *listener);

/* Also removes the file. Nothing happens where control_listen() has failed, or fd is -1. */
void control_close(struct control_socket *listener);

/* A connected socket, or a negative errno. */
int control_connect(const char *path);

/* The process at the other end; 0 where it cannot be told. */
pid_t control_peer(int fd);
