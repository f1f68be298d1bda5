/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/console.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define ESCAPE        1   /* Ctrl-A */
#define WRITE_AT_ONCE 256 /* a pipe that polls as writable takes this without blocking */
#define FLUSH_MS      1000

static void wake_loop(struct console *console)
{
	eventfd_write(console->wake, 1);
}

void console_put(struct console *console, uint8_t byte)
{
	bool was_empty;

	if (console->config.out < 0)
		return;
	pthread_mutex_lock(&console->lock);
	was_empty = console->head == console->tail;
	if (console->head - console->tail < CONSOLE_BUFFER)
		console->buffer[console->head++ % CONSOLE_BUFFER] = byte;
	pthread_mutex_unlock(&console->lock);
	if (was_empty)
		wake_loop(console);
}

bool console_has_room(struct console *console)
{
	bool room;

	pthread_mutex_lock(&console->lock);
	room = console->config.lossy || console->head - console->tail < CONSOLE_BUFFER;
	console->was_full |= !room;
	pthread_mutex_unlock(&console->lock);
	return room;
}

void console_resume(struct console *console)
{
	wake_loop(console);
}

/* Write one piece of what is buffered. False when nothing is left, or it can never be written. */
static bool write_piece(struct console *console)
{
	uint8_t piece[WRITE_AT_ONCE];
	uint32_t size = 0;
	ssize_t written;
	bool more, was_full;

	pthread_mutex_lock(&console->lock);
	while (size < sizeof(piece) && console->tail + size != console->head) {
		piece[size] = console->buffer[(console->tail + size) % CONSOLE_BUFFER];
		size++;
	}
	pthread_mutex_unlock(&console->lock);
	written = size ? write(console->config.out, piece, size) : 0;
	if (written < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	pthread_mutex_lock(&console->lock);
	/* A reader that has gone away (EPIPE, EIO) loses the rest, and the guest runs on. */
	console->tail += written < 0 ? size : (uint32_t)written;
	more = console->head != console->tail;
	was_full = console->was_full;
	console->was_full = false;
	pthread_mutex_unlock(&console->lock);
	if (was_full)
		console->ops.room(console->ops.opaque);
	return more;
}

static void on_writable(void *opaque, uint32_t events)
{
	struct console *console = opaque;

	(void)events;
	if (write_piece(console))
		return;
	loop_remove(console->loop, console->config.out);
	console->writing = false;
}

static void start_writing(struct console *console)
{
	int code;

	if (console->writing || console->config.out < 0)
		return;
	if (!console->always_ready) {
		code = loop_add(console->loop, console->config.out, EPOLLOUT, on_writable, console);
		console->writing = !code;
		console->always_ready = code == -EPERM;
	}
	while (console->always_ready && write_piece(console))
		continue;
}

/* True where the byte was a command for us, or the start of one. */
static bool take_escape(struct console *console, uint8_t byte)
{
	if (!console->config.escapes)
		return false;
	if (!console->escaped) {
		console->escaped = byte == ESCAPE;
		return console->escaped;
	}
	console->escaped = false;
	if (byte == 'x')
		console->ops.quit(console->ops.opaque);
	else if (byte == 'p')
		console->ops.press_button(console->ops.opaque);
	else
		return byte != ESCAPE; /* any other letter is dropped with its Ctrl-A */
	return true;
}

/* False at the end of the input, and when the guest has no room for the byte that was read. */
static bool read_byte(struct console *console)
{
	uint8_t byte;
	ssize_t got = read(console->config.in, &byte, 1);

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	console->at_end = got <= 0;
	if (console->at_end)
		return false;
	if (take_escape(console, byte) || console->ops.receive(console->ops.opaque, byte))
		return true;
	console->held = true;
	console->held_byte = byte;
	return false;
}

static void on_readable(void *opaque, uint32_t events)
{
	struct console *console = opaque;

	(void)events;
	if (read_byte(console))
		return;
	loop_remove(console->loop, console->config.in);
	console->reading = false;
}

static void start_reading(struct console *console)
{
	int code;

	if (console->held && !console->ops.receive(console->ops.opaque, console->held_byte))
		return;
	console->held = false;
	if (console->reading || console->at_end || console->config.in < 0)
		return;
	code = loop_add(console->loop, console->config.in, EPOLLIN, on_readable, console);
	console->reading = !code;
	/* A regular file cannot be watched, and is always ready. */
	while (code == -EPERM && read_byte(console))
		continue;
}

static void on_wake(void *opaque, uint32_t events)
{
	struct console *console = opaque;
	eventfd_t count;

	(void)events;
	eventfd_read(console->wake, &count);
	start_writing(console);
	start_reading(console);
}

int console_init(struct console *console, struct loop *loop, const struct console_config *config,
	const struct console_ops *ops, struct error *err)
{
	int code;

	console->config = *config;
	console->ops = *ops;
	console->loop = loop;
	pthread_mutex_init(&console->lock, NULL);
	console->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (console->wake < 0)
		return error_sys(err, -errno, NULL, "cannot set up the serial console");
	code = loop_add(loop, console->wake, EPOLLIN, on_wake, console);
	if (code)
		return error_sys(err, code, NULL, "cannot set up the serial console");
	wake_loop(console); /* once all that receives is there, and the loop runs, reading starts */
	return 0;
}

void console_destroy(struct console *console)
{
	struct pollfd out = { .fd = console->config.out, .events = POLLOUT };

	while (console->head != console->tail && poll(&out, 1, FLUSH_MS) == 1 &&
		out.revents & POLLOUT && write_piece(console))
		continue;
	close(console->wake);
	pthread_mutex_destroy(&console->lock);
}
