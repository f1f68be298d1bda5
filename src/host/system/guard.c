/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/system/guard.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>

#define TICK_MS 250

struct write {
	const char *path;
	const char *text;
};

static int write_in_child(const void *argument)
{
	const struct write *write = argument;

	return fd_write_file(write->path, write->text);
}

/*
 * A child that hangs must not keep open what others wait to see closed: the terminal's pipes, the
 * sockets and VFIO descriptors of a machine.
 */
static int close_inherited(int *keep, size_t count)
{
	int null = open("/dev/null", O_RDWR);

	for (int fd = 0; fd < 3; fd++)
		if (null < 0 || dup2(null, fd) < 0)
			close(fd);
	return fd_close_except(keep, count);
}

/* Above the standard ones, which this process may have been started without. */
static int raise_fd(int fd)
{
	return fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static _Noreturn void run_child(
	const struct guard *guard, int result, int (*call)(const void *), const void *argument)
{
	int *keep = malloc((guard->lock_count + 1) * sizeof(*keep)), code = -ENOMEM;

	result = raise_fd(result);
	if (keep) {
		for (size_t i = 0; i < guard->lock_count; i++)
			keep[i] = raise_fd(guard->locks[i]);
		keep[guard->lock_count] = result;
		code = close_inherited(keep, guard->lock_count + 1);
		if (code == 0)
			code = call(argument);
	}
	_exit(fd_write_all(result, &code, sizeof(code)) ? 1 : 0);
}

uint64_t guard_now(void)
{
	return clock_ms();
}

void guard_progress(const struct guard *guard, uint64_t start, uint64_t *told)
{
	uint64_t now = guard_now();

	if (now - *told < guard->host->progress_ms)
		return;
	*told = now;
	log_info("%s: still waiting for %s (%u of at most %u seconds)", guard->object, guard->doing,
		(unsigned)((now - start) / 1000), guard->host->limit_ms / 1000);
}

/* 1 when the child has answered or ended, -ETIMEDOUT when it took too long. */
static int await_child(const struct guard *guard, int fd)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	uint64_t start = guard_now(), told = start;

	for (;;) {
		uint64_t past = guard_now() - start;

		if (past >= guard->host->limit_ms)
			return -ETIMEDOUT;
		if (poll(&wait, 1, min_u64(TICK_MS, guard->host->limit_ms - past)) > 0)
			return 1;
		guard_progress(guard, start, &told);
	}
}

static int collect_child(const struct guard *guard, int fd, pid_t child)
{
	int code = await_child(guard, fd);

	/* Not killed: that would not end the kernel's work, but the child's, which has yet to put back
	 * what it changed. */
	if (code == -ETIMEDOUT)
		return code;
	if (fd_read_all(fd, &code, sizeof(code)))
		code = -EIO;
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return code;
}

int guard_call(const struct guard *guard, int (*call)(const void *), const void *argument)
{
	cleanup_fd int reader = -1, writer = -1;
	sigset_t all, previous;
	int ends[2], code;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	reader = ends[0];
	writer = ends[1];
	/* Ctrl-C reaches the child too, and must not end it between the kernel's work and its
	 * answer. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &previous);
	child = fork();
	code = -errno;
	if (child == 0)
		run_child(guard, writer, call, argument);
	pthread_sigmask(SIG_SETMASK, &previous, NULL);
	if (child < 0)
		return code;
	close(take_fd(&writer));
	return collect_child(guard, reader, child);
}

int guard_write(const struct guard *guard, const char *path, const char *text)
{
	struct write write = { path, text };

	return guard_call(guard, write_in_child, &write);
}
