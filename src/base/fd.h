/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Scope cleanup. A variable marked so owns what it holds until take_fd() or take_ptr(). */
static inline void cleanup_fd_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free_(void *ptr)
{
	free(*(void **)ptr);
}

#define cleanup_fd   __attribute__((cleanup(cleanup_fd_)))
#define cleanup_free __attribute__((cleanup(cleanup_free_)))

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Close every descriptor from 3 on but these, which are sorted. 0 or a negative errno. */
int fd_close_except(int *keep, size_t count);

/*
 * Open a regular file for reading: nothing that hangs or never ends, as a named pipe or /dev/zero. A
 * descriptor or a negative errno.
 */
int fd_open_regular(const char *path);

/* Read a whole small regular file, at most size - 1 bytes, into a string. Length, or a negative errno. */
ssize_t fd_read_file(const char *path, char *buffer, size_t size);

/* Write a string to an existing file (sysfs, procfs) in one write(2). 0 or a negative errno. */
int fd_write_file(const char *path, const char *text);

/* read(2) or write(2) until size bytes are done. 0 or a negative errno; -EIO at an early end. */
int fd_read_all(int fd, void *buffer, size_t size);
int fd_write_all(int fd, const void *buffer, size_t size);

/* pread(2) until size bytes are read. 0, a negative errno, or -EIO at an early end of the file. */
int fd_pread_all(int fd, void *buffer, size_t size, off_t offset);

#define FD_SEND_MAX 8

/* sendmsg(2), with up to FD_SEND_MAX descriptors that the receiver gets copies of. As that it sets errno. */
ssize_t fd_send(int socket, const struct iovec *parts, size_t part_count, const int *fds,
	size_t fd_count, int flags);
