/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/tpm.h"

#include "base/fd.h"
#include "base/size.h"
#include "host/system/guard.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ANSWER_MS \
	10000 /* for swtpm to answer a request; it takes some 10, and 100 for its self-test */
#define END_MS     3000 /* for swtpm to end by itself, and then for the kernel to end it */
#define STATE_FILE "tpm2-00.permall" /* swtpm's name for it */

#define FILE_MAX (16 * MIB) /* for what it writes: state of some KiB, and its log */

/* Of swtpm's control channel (swtpm_ioctls(3)): numbers are big-endian, a reply begins with a TPM's result. */
enum { CMD_INIT = 2, CMD_CANCEL = 9, CMD_SET_BUFFERSIZE = 17 };

/* The state */

static int open_state(struct broker_tpm *tpm, struct error *err)
{
	const char *path = tpm->path;

	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		error_sys(err, -errno, path, "cannot make the directory of the TPM's state");
		error_hint(err, "is its directory there, and may you write to it?");
		return err->code;
	}
	tpm->state = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tpm->state < 0 || faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) < 0) {
		error_sys(err, -errno, path, "cannot use the TPM's state");
		error_hint(err, "ls -ld %s shows what is there: it must be a directory of yours",
			path);
		return err->code;
	}
	tpm->is_new = faccessat(tpm->state, STATE_FILE, F_OK, 0) < 0 && errno == ENOENT;
	if (flock(tpm->state, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return error_sys(err, -errno, path, "cannot be locked");
	error_set(err, -EBUSY, path, "is in use by another machine");
	error_hint(err,
		"each machine has a TPM of its own, next to its variables: name another file with "
		"--nvram");
	return err->code;
}

int broker_tpm_open(struct broker_tpm *tpm, const char *nvram, bool has_firmware, struct error *err)
{
	tpm->has_firmware = has_firmware;
	snprintf(tpm->backend.label, sizeof(tpm->backend.label), "tpm");
	if (broker_backend_find(&tpm->backend, "swtpm", "--tpm", "swtpm", err))
		return err->code;
	if (!nvram) {
		tpm->is_new = true;
		tpm->state = memfd_create("tpm", MFD_CLOEXEC);
		return tpm->state < 0 ? error_sys(err, -errno, NULL, "cannot make the TPM's state")
				      : 0;
	}
	if (snprintf(tpm->path, sizeof(tpm->path), "%s.tpm", nvram) >= (int)sizeof(tpm->path))
		return error_sys(err, -ENAMETOOLONG, nvram, "has no room for the TPM's state");
	return open_state(tpm, err);
}

void broker_tpm_close(struct broker_tpm *tpm)
{
	if (tpm->state >= 0)
		close(tpm->state);
	broker_backend_close(&tpm->backend);
}

/*
 * swtpm of root's has a uid of its own, and between its lives the state is root's again. Its files, that is: whatever
 * else is there, or has another name elsewhere, stays as it is.
 */
static void give_state_to(void *opaque, uid_t uid)
{
	const struct broker_tpm *tpm = opaque;
	int again = tpm->path[0] ? openat(tpm->state, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	DIR *directory = again < 0 ? NULL : fdopendir(again);
	struct dirent *entry;
	struct stat stat;

	while (directory && (entry = readdir(directory)))
		if (fstatat(tpm->state, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
			S_ISREG(stat.st_mode) && stat.st_nlink == 1)
			(void)!fchownat(tpm->state, entry->d_name, uid, uid, AT_SYMLINK_NOFOLLOW);
	if (directory)
		closedir(directory);
	(void)!fchown(tpm->state, uid, uid);
}

/* The start */

static int start_swtpm(struct broker_tpm *tpm, int control, int data, struct error *err)
{
	char state[64], channel[64], fd[16];
	char *const argv[] = { "swtpm", "socket", "--tpm2", "--tpmstate", state, "--ctrl", channel,
		"--fd", fd, "--terminate", "--seccomp", "action=kill", NULL };
	const int fds[] = { control, data, tpm->state };
	bool kept = tpm->path[0];

	/* By its descriptor: no other directory on the way to it has to let that uid pass. */
	snprintf(state, sizeof(state),
		kept ? "dir=/proc/self/fd/%d,mode=0600" : "backend-uri=file:///proc/self/fd/%d",
		tpm->state);
	snprintf(channel, sizeof(channel), "type=unixio,clientfd=%d", control);
	snprintf(fd, sizeof(fd), "%d", data);
	return broker_backend_start(&tpm->backend,
		&(struct broker_backend_start){
			.argv = argv,
			.fds = fds,
			.fd_count = ARRAY_SIZE(fds),
			.sandbox.directory = kept ? tpm->state : -1,
			.file_max = FILE_MAX,
			.prepare = give_state_to,
			.opaque = tpm,
		},
		err);
}

static int spawn(struct broker_tpm *tpm, struct error *err)
{
	int control[2] = { -1, -1 }, data[2] = { -1, -1 };

	tpm->machine.cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (tpm->machine.cancel_fd < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data) < 0 ||
		fcntl(data[0], F_SETFL, O_NONBLOCK) < 0)
		error_sys(err, -errno, NULL, "cannot start swtpm");
	else
		start_swtpm(tpm, control[1], data[1], err);
	tpm->control = control[0];
	tpm->machine.fd = data[0];
	if (control[1] >= 0)
		close(control[1]);
	if (data[1] >= 0)
		close(data[1]);
	return err->code;
}

static int not_started(const struct broker_tpm *tpm, int code, const char *what, struct error *err)
{
	char said[128];

	broker_backend_read_log(&tpm->backend, said, sizeof(said));
	error_set(err, code, tpm->path[0] ? tpm->path : NULL, "swtpm %s%s%s", what,
		said[0] ? ": " : "", said);
	if (tpm->path[0])
		error_hint(err,
			"put a backup of this directory in its place, or move it away: the guest "
			"then gets a new TPM, and what the old one has sealed is lost");
	return err->code;
}

static int not_answered(const struct broker_tpm *tpm, struct error *err)
{
	error_set(err, -ETIMEDOUT, tpm->path[0] ? tpm->path : NULL,
		"swtpm has not answered within %u seconds", ANSWER_MS / 1000);
	error_hint(err,
		"the host may be overloaded, or the disk that this is on hangs: 'dmesg | tail' may "
		"tell; 'swtpm --version' shows whether it starts at all");
	return err->code;
}

/* Send a request and have so many bytes of what comes back. */
static int exchange(int fd, const void *request, size_t size, void *reply, size_t wanted)
{
	uint64_t deadline = guard_now() + ANSWER_MS;
	size_t got = 0;

	if (size && send(fd, request, size, MSG_NOSIGNAL) != (ssize_t)size)
		return -EPIPE;
	while (got < wanted) {
		struct pollfd wait = { fd, POLLIN, 0 };
		uint64_t now = guard_now();
		ssize_t more;

		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(&wait, 1, deadline - now) <= 0)
			continue;
		more = recv(fd, (char *)reply + got, wanted - got, 0);
		if (more <= 0)
			return -EPIPE;
		got += more;
	}
	return 0;
}

/* Ask by the control channel, with one number. The result, or a negative errno. */
static int ask_swtpm(
	const struct broker_tpm *tpm, uint32_t command, uint32_t number, size_t reply_size)
{
	const uint32_t request[] = { htobe32(command), htobe32(number) };
	uint32_t reply[4];
	int code = exchange(tpm->control, request, sizeof(request), reply, reply_size);

	return code ? code : (int)(be32toh(reply[0]) & INT_MAX);
}

/* The same as a guest would. Nothing but the result is of interest. */
static int ask_tpm(const struct broker_tpm *tpm, const uint8_t *command, size_t size)
{
	uint32_t head[10 / 2], length, result;
	uint8_t rest[64];
	int code = exchange(tpm->machine.fd, command, size, head, 10);

	if (code)
		return code;
	memcpy(&length, (uint8_t *)head + 2, sizeof(length));
	memcpy(&result, (uint8_t *)head + 6, sizeof(result));
	length = be32toh(length);
	if (length < 10 || length > 10 + sizeof(rest))
		return -EBADMSG;
	code = exchange(tpm->machine.fd, NULL, 0, rest, length - 10);
	return code ? code : (int)(be32toh(result) & INT_MAX);
}

static const uint8_t startup[] = { 0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0 };

/*
 * In the place of firmware, where a kernel runs first: TPM2_Startup and TPM2_SelfTest. Linux could do it, but calls the
 * lack of the one an error, and gives the other two seconds.
 */
static int stand_in(const struct broker_tpm *tpm)
{
	static const uint8_t self_test[] = { 0x80, 1, 0, 0, 0, 11, 0, 0, 1, 0x43, 0 };
	int code = ask_tpm(tpm, startup, sizeof(startup));

	return code ? code : ask_tpm(tpm, self_test, sizeof(self_test));
}

/*
 * A new TPM has PCRs for four hashes, and firmware would measure all that it starts four times. Leave it SHA-256, as
 * swtpm_setup(8) does: TPM2_Startup, TPM2_PCR_Allocate, TPM2_Shutdown (TPM 2.0 part 3), and it is so from the next
 * start on.
 */
static int make_new(struct broker_tpm *tpm)
{
	static const uint8_t shutdown[] = { 0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x45, 0, 0 };
	static const uint8_t allocate[] = { 0x80, 2, 0, 0, 0, 55, 0, 0, 1, 0x2b, 0x40, 0, 0,
		0x0c, /* for the platform, whose password is empty */
		0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0,
		4, /* SHA-1, 256, 384, 512, each with a mask of PCRs */
		0, 0x04, 3, 0, 0, 0, 0, 0x0b, 3, 0xff, 0xff, 0xff, 0, 0x0c, 3, 0, 0, 0, 0, 0x0d, 3,
		0, 0, 0 };
	int code = ask_tpm(tpm, startup, sizeof(startup));

	if (!code)
		code = ask_tpm(tpm, allocate, sizeof(allocate));
	if (!code)
		code = ask_tpm(tpm, shutdown, sizeof(shutdown));
	if (!code)
		code = ask_swtpm(tpm, CMD_INIT, 0, 4);
	tpm->is_new = code != 0;
	return code;
}

/* What it may send at once, then its power. */
static int power_on(struct broker_tpm *tpm, struct error *err)
{
	int code = ask_swtpm(tpm, CMD_SET_BUFFERSIZE, TPM_BUFFER_SIZE, 16);
	char text[64];

	if (!code)
		code = ask_swtpm(tpm, CMD_INIT, 0, 4);
	if (!code && tpm->is_new)
		code = make_new(tpm);
	if (!code && !tpm->has_firmware)
		code = stand_in(tpm);
	if (code == -ETIMEDOUT)
		return not_answered(tpm, err);
	if (code < 0)
		return not_started(tpm, code, "has ended as soon as it was started", err);
	if (!code)
		return 0;
	snprintf(text, sizeof(text), "cannot work with this state (result %#x)", code);
	return not_started(tpm, -EIO, text, err);
}

int broker_tpm_start(struct broker_tpm *tpm, struct error *err)
{
	if (tpm->state < 0 || tpm->backend.pid)
		return 0;
	if (spawn(tpm, err) || power_on(tpm, err))
		broker_tpm_end(tpm, NULL);
	return err->code;
}

/* While it runs, and the end */

/* A command that takes long is given up. What swtpm says to that is of no interest, nor is it waited for. */
static void on_cancel(void *opaque, uint32_t events)
{
	const struct broker_tpm *tpm = opaque;
	const uint32_t request = htobe32(CMD_CANCEL);
	char replies[256];
	eventfd_t count;

	(void)events;
	eventfd_read(tpm->machine.cancel_fd, &count);
	while (recv(tpm->control, replies, sizeof(replies), MSG_DONTWAIT) > 0)
		;
	send(tpm->control, &request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void broker_tpm_handed_over(struct broker_tpm *tpm, struct loop *loop)
{
	if (!tpm->backend.pid)
		return;
	close(take_fd(&tpm->machine.fd));
	loop_add(loop, tpm->machine.cancel_fd, EPOLLIN, on_cancel, tpm);
	/* Without it nobody but the guest hears of its end. */
	(void)broker_backend_watch(&tpm->backend, loop);
}

void broker_tpm_end(struct broker_tpm *tpm, struct loop *loop)
{
	int *const fds[] = { &tpm->control, &tpm->machine.fd, &tpm->machine.cancel_fd };
	bool was_started = tpm->control >= 0;

	if (loop && tpm->machine.cancel_fd >= 0)
		loop_remove(loop, tpm->machine.cancel_fd);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (*fds[i] >= 0)
			close(take_fd(fds[i]));
	/* It ends with its last connection. */
	broker_backend_end(&tpm->backend, 0, END_MS);
	if (was_started && geteuid() == 0)
		give_state_to(tpm, 0);
}
