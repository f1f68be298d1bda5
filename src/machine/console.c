/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/console.h"

#include "base/size.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define ESCAPE        1       /* Ctrl-A */
#define KICK_SIGNAL   SIGUSR2 /* makes read() and write() return; its handler does nothing */
#define KICK_NS       10000000
#define PIECE         1024
#define FLUSH_MS      2000
#define BACKGROUND_MS 500

void console_put(struct console *console, uint8_t byte)
{
	if (console->config.out < 0)
		return;
	pthread_mutex_lock(&console->lock);
	if (console->head == console->tail)
		pthread_cond_signal(&console->changed);
	if (console->head - console->tail < CONSOLE_BUFFER)
		console->buffer[console->head++ % CONSOLE_BUFFER] = byte;
	pthread_mutex_unlock(&console->lock);
}

bool console_has_room(struct console *console)
{
	bool room;

	pthread_mutex_lock(&console->lock);
	room = console->config.lossy ||
	       console->head - console->tail <= CONSOLE_BUFFER - CONSOLE_ROOM;
	console->was_full |= !room;
	pthread_mutex_unlock(&console->lock);
	return room;
}

void console_resume(struct console *console)
{
	eventfd_write(console->wake, 1);
}

/* Output */

/* How many bytes need not be tried again. */
static uint32_t write_some(int fd, const uint8_t *bytes, uint32_t size)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	struct timespec moment = { .tv_nsec = 1000000 };
	ssize_t written = write(fd, bytes, size);

	if (written < 0 && errno == EAGAIN) {
		/* Ready need not mean that there is room for a whole piece. */
		poll(&room, 1, -1);
		nanosleep(&moment, NULL);
		return 0;
	}
	if (written < 0 && errno == EINTR)
		return 0;
	/* A reader that has gone away (EPIPE, EIO) loses the rest, and the guest runs on. */
	return written < 0 ? size : (uint32_t)written;
}

/* Called, and returns, with the lock held. */
static void write_piece(struct console *console)
{
	uint8_t piece[PIECE];
	uint32_t size = 0, done;
	bool was_full;

	while (size < sizeof(piece) && console->tail + size != console->head) {
		piece[size] = console->buffer[(console->tail + size) % CONSOLE_BUFFER];
		size++;
	}
	pthread_mutex_unlock(&console->lock);
	done = write_some(console->config.out, piece, size);
	pthread_mutex_lock(&console->lock);
	console->tail += done;
	was_full = console->was_full && done;
	if (!was_full)
		return;
	console->was_full = false;
	pthread_mutex_unlock(&console->lock);
	console->ops.room(console->ops.opaque);
	pthread_mutex_lock(&console->lock);
}

static void *write_output(void *opaque)
{
	struct console *console = opaque;

	pthread_mutex_lock(&console->lock);
	while (!console->abandoned) {
		if (console->head != console->tail)
			write_piece(console);
		else if (!console->ending)
			pthread_cond_wait(&console->changed, &console->lock);
		else
			break;
	}
	pthread_mutex_unlock(&console->lock);
	return NULL;
}

/* Input */

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

/*
 * How many keys may wait for the guest. From a terminal many, or a guest that takes none would keep
 * Ctrl-A x from being seen; other input is left where it is.
 */
static uint32_t keys_max(const struct console *console)
{
	return console->config.escapes ? CONSOLE_KEYS : 1;
}

static void take_byte(struct console *console, uint8_t byte)
{
	if (!take_escape(console, byte) &&
		console->keys_end - console->first_key < keys_max(console))
		console->keys[console->keys_end++ % CONSOLE_KEYS] = byte;
}

static void offer_keys(struct console *console)
{
	while (console->first_key != console->keys_end &&
		console->ops.receive(
			console->ops.opaque, console->keys[console->first_key % CONSOLE_KEYS]))
		console->first_key++;
}

/* False at the input's end. */
static bool read_byte(struct console *console, bool hung_up)
{
	struct timespec while_in_background = { .tv_nsec = BACKGROUND_MS * 1000000 };
	uint8_t byte;
	ssize_t got = read(console->config.in, &byte, 1);

	if (got == 1) {
		take_byte(console, byte);
		return true;
	}
	/* The terminal is another program's now: what is typed is not for us. */
	if (got < 0 && errno == EIO && console->config.escapes && !hung_up) {
		nanosleep(&while_in_background, NULL);
		return true;
	}
	return got < 0 && (errno == EINTR || errno == EAGAIN);
}

static bool is_ending(struct console *console)
{
	bool ending;

	pthread_mutex_lock(&console->lock);
	ending = console->ending;
	pthread_mutex_unlock(&console->lock);
	return ending;
}

static void *read_keys(void *opaque)
{
	struct console *console = opaque;
	bool at_end = false;
	eventfd_t count;

	while (!is_ending(console)) {
		bool full = !console->config.escapes && console->first_key != console->keys_end;
		struct pollfd ready[] = {
			{ .fd = console->wake, .events = POLLIN },
			{ .fd = at_end || full ? -1 : console->config.in, .events = POLLIN },
		};

		if (poll(ready, 2, -1) < 0)
			continue;
		if (ready[0].revents)
			eventfd_read(console->wake, &count);
		if (ready[1].revents)
			at_end = !read_byte(console, ready[1].revents & POLLHUP);
		offer_keys(console);
	}
	return NULL;
}

/* Start and end */

static void do_nothing(int signal)
{
	(void)signal;
}

int console_init(struct console *console, const struct console_config *config,
	const struct console_ops *ops, struct error *err)
{
	console->config = *config;
	console->ops = *ops;
	pthread_mutex_init(&console->lock, NULL);
	pthread_cond_init(&console->changed, NULL);
	console->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (console->wake < 0)
		return error_sys(err, -errno, NULL, "cannot set up the serial console");
	return 0;
}

int console_start(struct console *console, struct error *err)
{
	struct sigaction kick = { .sa_handler = do_nothing }; /* no SA_RESTART */
	int code = 0;

	sigaction(KICK_SIGNAL, &kick, NULL);
	if (console->config.out >= 0) {
		code = pthread_create(&console->writer, NULL, write_output, console);
		console->writes = !code;
	}
	if (console->config.in >= 0 && !code) {
		code = pthread_create(&console->reader, NULL, read_keys, console);
		console->reads = !code;
	}
	return code ? error_sys(err, -code, NULL, "cannot start the serial console") : 0;
}

/* True when the thread ends within this time. */
static bool join_thread(pthread_t thread, uint64_t ns)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	ns += end.tv_nsec;
	end.tv_sec += ns / 1000000000;
	end.tv_nsec = ns % 1000000000;
	return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &end) == 0;
}

/* A signal that comes just before the call that it is to interrupt is lost: hence more of them. */
static void kick_and_join(pthread_t thread)
{
	do
		pthread_kill(thread, KICK_SIGNAL);
	while (!join_thread(thread, KICK_NS));
}

static void end_threads(struct console *console, bool *flag)
{
	pthread_mutex_lock(&console->lock);
	*flag = true;
	pthread_cond_signal(&console->changed);
	pthread_mutex_unlock(&console->lock);
}

void console_destroy(struct console *console)
{
	end_threads(console, &console->ending);
	console_resume(console);
	if (console->reads)
		kick_and_join(console->reader);
	if (console->writes && !join_thread(console->writer, FLUSH_MS * 1000000ULL)) {
		end_threads(console, &console->abandoned);
		kick_and_join(console->writer);
	}
	console->reads = console->writes = false;
	close(console->wake);
	pthread_cond_destroy(&console->changed);
	pthread_mutex_destroy(&console->lock);
}
