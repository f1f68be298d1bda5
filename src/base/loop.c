/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/loop.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

struct source {
	struct source *next;
	int fd;
	loop_handler handler; /* NULL once removed */
	void *opaque;
};

struct loop {
	int epoll;
	int wake; /* eventfd: written by loop_stop() */
	struct source *sources;
};

int loop_add(struct loop *loop, int fd, uint32_t events, loop_handler handler, void *opaque)
{
	struct source *source = calloc(1, sizeof(*source));
	struct epoll_event event = { .events = events, .data.ptr = source };

	if (!source)
		return -ENOMEM;
	*source = (struct source){ loop->sources, fd, handler, opaque };
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		int code = -errno;

		free(source);
		return code;
	}
	loop->sources = source;
	return 0;
}

static struct source *find(struct loop *loop, int fd)
{
	for (struct source *source = loop->sources; source; source = source->next)
		if (source->fd == fd && source->handler)
			return source;
	return NULL;
}

/* A batch of events may still name the source, so it is only marked here and freed by sweep(). */
void loop_remove(struct loop *loop, int fd)
{
	struct source *source = find(loop, fd);

	if (!source)
		return;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
	source->handler = NULL;
}

void loop_change(struct loop *loop, int fd, uint32_t events)
{
	struct source *source = find(loop, fd);
	struct epoll_event event = { .events = events, .data.ptr = source };

	if (source)
		epoll_ctl(loop->epoll, EPOLL_CTL_MOD, fd, &event);
}

static void sweep(struct loop *loop)
{
	struct source **link = &loop->sources;

	while (*link) {
		struct source *source = *link;

		if (source->handler) {
			link = &source->next;
			continue;
		}
		*link = source->next;
		free(source);
	}
}

bool loop_step(struct loop *loop, int timeout_ms)
{
	struct epoll_event events[16];
	int count = epoll_wait(loop->epoll, events, ARRAY_SIZE(events), timeout_ms);

	for (int i = 0; i < count; i++) {
		struct source *source = events[i].data.ptr;

		if (!source) /* the wake descriptor */
			return false;
		if (source->handler)
			source->handler(source->opaque, events[i].events);
	}
	sweep(loop);
	return true;
}

void loop_stop(struct loop *loop)
{
	eventfd_write(loop->wake, 1);
}

struct loop *loop_new(struct error *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	struct epoll_event wake = { .events = EPOLLIN };

	if (!loop) {
		error_sys(err, -ENOMEM, NULL, "cannot make the event loop");
		return NULL;
	}
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll < 0 || loop->wake < 0 ||
		epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &wake) < 0) {
		error_sys(err, -errno, NULL, "cannot make the event loop");
		loop_free(loop);
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	for (struct source *source = loop->sources; source; source = source->next)
		source->handler = NULL;
	sweep(loop);
	if (loop->epoll >= 0)
		close(loop->epoll);
	if (loop->wake >= 0)
		close(loop->wake);
	free(loop);
}
