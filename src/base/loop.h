/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * An event loop over epoll(7). One thread runs it and owns what its sources touch; loop_stop() may
 * be called from any thread.
 */

struct loop;

/* events is a mask of EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR. */
typedef void (*loop_handler)(void *opaque, uint32_t events);

struct loop *loop_new(struct error *err);
void loop_free(struct loop *loop);

/*
 * Watch a descriptor, which stays the caller's, until loop_remove(). -EPERM for a regular file, which
 * is always ready and cannot be watched.
 */
int loop_add(struct loop *loop, int fd, uint32_t events, loop_handler handler, void *opaque);
void loop_remove(struct loop *loop, int fd);
/* Other events than those that loop_add() was told. */
void loop_change(struct loop *loop, int fd, uint32_t events);

/* Wait for events, timeout_ms at most (-1: for ever), and run their handlers. False after loop_stop(). */
bool loop_step(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop);
