/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/backend.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "broker/signals.h"
#include "host/system/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define KILL_MS 3000 /* for the kernel to end it */
#define TICK_MS 10
#define FDS_MAX 80

/* Where programs are that nobody starts by hand: virtiofsd, qemu-bridge-helper. */
#define HELPERS "/usr/libexec:/usr/lib/qemu"

int broker_backend_find(struct broker_backend *backend, const char *name, const char *option,
	const char *package, struct error *err)
{
	const char *path = getenv("PATH");
	cleanup_free char *copy = NULL;
	char *rest, *directory;

	backend->name = name;
	if (asprintf(&copy, "%s:" HELPERS, path ? path : "/usr/bin:/bin") < 0) {
		copy = NULL;
		return error_sys(err, -ENOMEM, name, "cannot look for it");
	}
	rest = copy;
	while ((directory = strsep(&rest, ":"))) {
		if (directory[0] != '/' ||
			snprintf(backend->program, sizeof(backend->program), "%s/%s", directory,
				name) >= (int)sizeof(backend->program) ||
			access(backend->program, X_OK) < 0)
			continue;
		backend->log = memfd_create(name, MFD_CLOEXEC);
		return backend->log < 0 ? error_sys(err, -errno, name, "cannot make its log") : 0;
	}
	error_set(err, -ENOENT, NULL, "%s needs %s, which is not installed", option, name);
	error_hint(err, "install the package %s (apt install %s)", package, package);
	return err->code;
}

void broker_backend_close(struct broker_backend *backend)
{
	if (backend->log >= 0)
		close(take_fd(&backend->log));
}

/* The start */

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void inherit_nothing_but(const struct broker_backend_start *start, int log)
{
	int keep[FDS_MAX + 1], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	size_t count = 0;

	while (count < start->fd_count) {
		keep[count] = start->fds[count];
		count++;
	}
	keep[count++] = log;
	qsort(keep, count, sizeof(*keep), compare_fds);
	dup2(null, STDIN_FILENO);
	dup2(start->out > 0 ? start->out : null, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	fd_close_except(keep, count);
	for (size_t i = 0; i < start->fd_count; i++)
		fcntl(start->fds[i], F_SETFD, 0);
	/* Ctrl-C is the broker's to act on, and what that one ignores or blocks is its own affair. */
	setsid();
	broker_signals_unblock();
	signal(SIGPIPE, SIG_DFL);
	signal(SIGTTIN, SIG_DFL);
	signal(SIGTTOU, SIG_DFL);
}

static void limit(int resource, uint64_t most)
{
	const struct rlimit limit = { most, most };

	if (most)
		setrlimit(resource, &limit);
}

static _Noreturn void become(
	const struct broker_backend *backend, const struct broker_backend_start *start)
{
	struct error err = { 0 };

	inherit_nothing_but(start, backend->log);
	limit(RLIMIT_FSIZE, start->file_max);
	if (start->prepare && geteuid() == 0)
		start->prepare(start->opaque, sandbox_uid());
	if (start->sandbox.has_its_own ||
		sandbox_enter_program(backend->program, &start->sandbox, &err) == 0) {
		if (start->death_signal)
			prctl(PR_SET_PDEATHSIG, start->death_signal);
		/* Last: this process may have more already, as one with sanitizers has. */
		limit(RLIMIT_AS, start->memory_max);
		execv(backend->program, start->argv);
		error_sys(&err, -errno, backend->program, "cannot be started");
	}
	error_print(&err); /* into the log */
	_exit(127);
}

int broker_backend_start(
	struct broker_backend *backend, const struct broker_backend_start *start, struct error *err)
{
	pid_t pid = -1;

	if (start->fd_count > FDS_MAX)
		errno = E2BIG;
	else if (ftruncate(backend->log, 0) == 0 && lseek(backend->log, 0, SEEK_SET) == 0)
		pid = fork();
	if (pid == 0)
		become(backend, start);
	if (pid < 0)
		return error_sys(err, -errno, NULL, "cannot start %s", backend->name);
	backend->pid = pid;
	return 0;
}

int broker_backend_make_sockets(int *listening, int *connected, struct error *err)
{
	char directory[] = "/tmp/penstock-XXXXXX";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct sockaddr *name = (const struct sockaddr *)&address;

	*listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!mkdtemp(directory))
		return error_sys(err, -errno, "/tmp", "cannot make a directory for a socket");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", directory);
	if (*listening < 0 || *connected < 0 || bind(*listening, name, sizeof(address)) < 0 ||
		listen(*listening, 1) < 0 || connect(*connected, name, sizeof(address)) < 0)
		error_sys(err, -errno, address.sun_path, "cannot make a socket");
	unlink(address.sun_path);
	rmdir(directory);
	return err->code;
}

/* A request that changes nothing: GET_FEATURES. */
int broker_backend_await(int socket, unsigned limit_ms)
{
	const uint32_t request[] = { 1, 1, 0 };
	uint8_t reply[sizeof(request) + 8];
	uint64_t deadline = guard_now() + limit_ms, now;
	size_t got = 0;
	ssize_t more = send(socket, request, sizeof(request), MSG_NOSIGNAL);

	while (more > 0 && got < sizeof(reply) && (now = guard_now()) < deadline) {
		struct pollfd wait = { socket, POLLIN, 0 };

		if (poll(&wait, 1, deadline - now) <= 0)
			continue;
		more = recv(socket, reply + got, sizeof(reply) - got, 0);
		got += more > 0 ? more : 0;
	}
	if (got == sizeof(reply))
		return 0;
	return more <= 0 ? -EPIPE : -ETIMEDOUT;
}

void broker_backend_read_log(const struct broker_backend *backend, char *text, size_t size)
{
	ssize_t got = pread(backend->log, text, size - 1, 0);

	text[got < 0 ? 0 : got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
}

/* While it runs, and the end */

static void stop_watching(struct broker_backend *backend)
{
	if (backend->watch < 0)
		return;
	loop_remove(backend->loop, backend->watch);
	close(take_fd(&backend->watch));
}

static void on_end(void *opaque, uint32_t events)
{
	struct broker_backend *backend = opaque;
	char said[128];
	int status = 0;

	(void)events;
	stop_watching(backend);
	waitpid(backend->pid, &status, 0);
	broker_backend_read_log(backend, said, sizeof(said));
	if (WIFSIGNALED(status))
		log_warning("%s: %s (process %d) was killed by signal %d", backend->label,
			backend->name, backend->pid, WTERMSIG(status));
	else
		log_warning("%s: %s (process %d) has ended%s%s", backend->label, backend->name,
			backend->pid, said[0] ? ": " : "", said);
	backend->pid = 0;
}

int broker_backend_watch(struct broker_backend *backend, struct loop *loop)
{
	int code;

	if (!backend->pid || backend->watch >= 0)
		return 0;
	backend->watch = syscall(SYS_pidfd_open, backend->pid, 0);
	if (backend->watch < 0)
		return -errno;
	backend->loop = loop;
	code = loop_add(loop, backend->watch, EPOLLIN, on_end, backend);
	if (code)
		close(take_fd(&backend->watch));
	return code;
}

static bool has_ended(struct broker_backend *backend, unsigned limit_ms)
{
	uint64_t end = guard_now() + limit_ms;

	while (waitpid(backend->pid, &backend->status, WNOHANG) == 0) {
		if (guard_now() >= end)
			return false;
		poll(NULL, 0, TICK_MS);
	}
	return true;
}

void broker_backend_end(struct broker_backend *backend, int signal, unsigned limit_ms)
{
	stop_watching(backend);
	if (!backend->pid)
		return;
	if (signal)
		kill(backend->pid, signal);
	if (!has_ended(backend, limit_ms)) {
		/* It leads a session of its own. */
		kill(-backend->pid, SIGKILL);
		kill(backend->pid, SIGKILL);
		if (!has_ended(backend, KILL_MS))
			log_warning("%s: %s (process %d) does not end: the disk that it writes to "
				    "may hang",
				backend->label, backend->name, backend->pid);
	}
	backend->pid = 0;
}
