/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/backend.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "base/text.h"
#include "broker/oom.h"
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
#define LOG_MAX (64 * KIB) /* what it says beyond that is not kept */

/* Of a size that nobody can change: no program fills the host's memory by what it says. */
int broker_backend_use(struct broker_backend *backend, const char *name, struct error *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	backend->name = name;
	backend->log = fd;
	if (fd < 0 || ftruncate(fd, LOG_MAX) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_sys(err, -errno, name, "cannot make its log");
	return 0;
}

/* Where programs are that nobody starts by hand: virtiofsd, qemu-bridge-helper. */
#define HELPERS "/usr/libexec:/usr/lib/qemu"

int broker_backend_find(struct broker_backend *backend, const char *name, const char *option,
	const char *package, struct error *err)
{
	const char *path = getenv("PATH");
	cleanup_free char *copy = NULL;
	char *rest, *directory;

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
		return broker_backend_use(backend, name, err);
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
	broker_oom_unprotect();
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

static int empty_log(const struct broker_backend *backend)
{
	const int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (fallocate(backend->log, how, 0, LOG_MAX) < 0)
		return -1;
	return lseek(backend->log, 0, SEEK_SET) < 0 ? -1 : 0;
}

int broker_backend_start(
	struct broker_backend *backend, const struct broker_backend_start *start, struct error *err)
{
	pid_t pid = -1;

	if (start->fd_count > FDS_MAX)
		errno = E2BIG;
	else if (empty_log(backend) == 0)
		pid = fork();
	if (pid == 0)
		become(backend, start);
	if (pid < 0)
		return error_sys(err, -errno, NULL, "cannot start %s", backend->name);
	backend->pid = pid;
	backend->asked = false;
	backend->loop = NULL;
	backend->end[0] = '\0';
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

/* Not what it only warns of, as long as there is anything else. */
static const char *choose_line(char *log, bool last)
{
	const char *chosen = NULL, *line;

	for (char *rest = log; (line = strsep(&rest, "\n"));)
		if (line[strspn(line, " \t\r")] && (last || !chosen || strcasestr(chosen, "warn")))
			chosen = line;
	return chosen ? chosen : "";
}

void broker_backend_read_log(const struct broker_backend *backend, char *text, size_t size)
{
	cleanup_free char *log = calloc(1, LOG_MAX + 1);

	text[0] = '\0';
	if (!log || pread(backend->log, log, LOG_MAX, 0) < 0)
		return;
	/* It may end in a byte that is none of a whole character's, or be no text to all who are shown it. */
	text_format(text, size, "%s", choose_line(log, backend->says_why_last));
}

/* While it runs, and the end */

static void stop_watching(struct broker_backend *backend)
{
	if (backend->watch < 0)
		return;
	loop_remove(backend->loop, backend->watch);
	close(take_fd(&backend->watch));
}

static void note_end(struct broker_backend *backend, int status)
{
	char said[64];

	broker_backend_read_log(backend, said, sizeof(said));
	if (WIFSIGNALED(status))
		snprintf(backend->end, sizeof(backend->end), "killed by signal %d",
			WTERMSIG(status));
	else
		snprintf(backend->end, sizeof(backend->end), "exit code %d%s%s",
			WEXITSTATUS(status), said[0] ? ": " : "", said);
}

static void on_end(void *opaque, uint32_t events)
{
	struct broker_backend *backend = opaque;
	int status = 0;

	(void)events;
	stop_watching(backend);
	waitpid(backend->pid, &status, 0);
	note_end(backend, status);
	/* Some end well when the machine is gone, which may be news still. */
	if (status)
		log_warning("%s: %s (process %d) has ended: %s", backend->label, backend->name,
			backend->pid, backend->end);
	backend->pid = 0;
	if (backend->ended)
		backend->ended(backend->opaque);
}

int broker_backend_watch(struct broker_backend *backend, struct loop *loop)
{
	int code;

	if (!backend->pid || backend->watch >= 0)
		return 0;
	backend->watch = syscall(SYS_pidfd_open, backend->pid, 0);
	if (backend->watch < 0)
		return -errno;
	code = loop_add(loop, backend->watch, EPOLLIN, on_end, backend);
	if (code)
		close(take_fd(&backend->watch));
	else
		backend->loop = loop;
	return code;
}

void broker_backend_handed_over(struct broker_backend *backend, int *machine_fd, struct loop *loop)
{
	if (*machine_fd >= 0)
		close(take_fd(machine_fd));
	/* Without it nobody but the guest hears of its end. */
	(void)broker_backend_watch(backend, loop);
}

void broker_backend_ask_to_end(struct broker_backend *backend, int signal)
{
	stop_watching(backend);
	if (backend->pid && !backend->asked && signal)
		kill(backend->pid, signal);
	backend->asked = true;
}

static bool has_ended(struct broker_backend *backend, unsigned limit_ms)
{
	uint64_t end = guard_now() + limit_ms;

	while (waitpid(backend->pid, &backend->status, WNOHANG) == 0) {
		if (guard_now() >= end)
			return false;
		if (backend->loop)
			loop_step(backend->loop, TICK_MS);
		else
			poll(NULL, 0, TICK_MS);
	}
	return true;
}

void broker_backend_end(struct broker_backend *backend, int signal, unsigned limit_ms)
{
	broker_backend_ask_to_end(backend, signal);
	if (!backend->pid)
		return;
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
