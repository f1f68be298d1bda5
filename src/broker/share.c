/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/share.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define DAEMON    "virtiofsd"
#define MOUNT_AT  "/mnt" /* for virtiofsd alone */
#define ANSWER_MS 10000  /* for it to make its namespaces and answer; it takes some 20 */
#define END_MS    3000   /* it ends with the machine's end of the socket */

int broker_share_open_directory(const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOTDIR)
		return error_set(err, -ENOTDIR, path, "this is no directory, and cannot be shared");
	error_sys(err, -errno, path, "this directory cannot be shared");
	if (err->code == -ENOENT)
		error_hint(err, "make it: mkdir -p %s", path);
	return err->code;
}

/* Of a server that does not answer the kernel tells what it knows. */
static int check_there(const struct broker_share *share, struct error *err)
{
	struct statx stat;

	if (statx(share->directory, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_NLINK, &stat) <
			0 ||
		stat.stx_nlink)
		return 0;
	return error_set(err, -ENOENT, share->config->path,
		"this directory cannot be shared any more: it has been removed");
}

/*
 * Where what was opened is by now. virtiofsd takes a path; an open descriptor, which its namespaces do not confine, it
 * must not have.
 */
static int find_shared(
	const struct broker_share *share, char path[static PATH_MAX], struct error *err)
{
	char link[32];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", share->directory);
	length = readlink(link, path, PATH_MAX - 1);
	path[length < 0 ? 0 : length] = '\0';
	return length < 0 ? error_sys(err, -errno, share->config->path, "cannot be found any more")
			  : 0;
}

/*
 * virtiofsd takes a path, and resolves it more than once. That of root's gets one that is this directory in a mount
 * namespace of its own, and that nobody but root can change. A user's has that user's rights, whatever it finds in the
 * moment that this takes.
 */
static void mount_shared(void *opaque, uid_t uid)
{
	const struct broker_share *share = opaque;
	int tree = open_tree(share->directory, "",
		OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);

	(void)uid;
	if (tree < 0 || unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
		move_mount(tree, "", AT_FDCWD, MOUNT_AT, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
		dprintf(STDERR_FILENO, "the directory cannot be mounted at " MOUNT_AT ": %s\n",
			strerror(errno));
		_exit(127);
	}
	close(share->directory);
}

/* What it says of itself is the only sign of what a version can do. */
static int check_virtiofsd(struct broker_share *share, struct error *err)
{
	cleanup_free char *text = calloc(1, 64 * KIB);
	const char *program = share->backend.program;

	if (!text)
		return error_sys(err, -ENOMEM, program, "cannot ask it what it can do");
	if (broker_backend_start(&share->backend,
		    &(struct broker_backend_start){
			    .argv = (char *[]){ DAEMON, "--help", NULL },
			    .sandbox = { .directory = -1, .has_its_own = true },
			    .out = share->backend.log,
		    },
		    err))
		return err->code;
	broker_backend_end(&share->backend, 0, ANSWER_MS);
	if (pread(share->backend.log, text, 64 * KIB - 1, 0) < 0)
		text[0] = '\0';
	share->is_qemus = strstr(text, "source=PATH");
	if (!share->is_qemus && !strstr(text, "--shared-dir")) {
		broker_backend_read_log(&share->backend, text, 128);
		return error_set(err, -EIO, program, "it does not tell what it can do%s%s",
			text[0] ? ": " : "", text);
	}
	share->squashes = strstr(text, "squash-guest");
	if (share->is_qemus && geteuid() != 0)
		error_set(err, -ENOTSUP, program, "this virtiofsd, QEMU 7.2's, serves root alone");
	else if (share->config->readonly && !strstr(text, "--readonly"))
		error_set(err, -ENOTSUP, program,
			"this version of virtiofsd cannot keep the guest from writing (it has no "
			"--readonly)");
	if (err->code)
		error_hint(err, "the package virtiofsd of Debian 13 can; Debian 12 has none");
	return err->code;
}

int broker_share_open(struct broker_share *share, const char *label,
	const struct broker_share_config *config, struct error *err)
{
	snprintf(share->backend.label, sizeof(share->backend.label), "%s", label);
	share->config = config;
	/* Once: who may rename what its path is made of must not choose another one for the next life. */
	share->directory = broker_share_open_directory(config->path, err);
	if (share->directory < 0 ||
		broker_backend_find(&share->backend, DAEMON, "--share", "virtiofsd", err))
		return err->code;
	return check_virtiofsd(share, err);
}

void broker_share_close(struct broker_share *share)
{
	if (share->directory >= 0)
		close(take_fd(&share->directory));
	broker_backend_close(&share->backend);
}

/* The start */

struct share_words {
	char *argv[16];
	unsigned count;
	char fd[16], path[PATH_MAX], source[PATH_MAX + 16], ids[48], groups[48];
};

static void add_share_word(struct share_words *words, char *word)
{
	words->argv[words->count++] = word;
}

/*
 * A user's serves with that user's rights, whoever it is for in the guest: what a guest's user makes is the host user's
 * own. Of root's nobody makes device nodes, which on the host would be devices.
 */
static void add_share_rights(struct share_words *words, const struct broker_share *share)
{
	if (geteuid() == 0) {
		add_share_word(words, "--modcaps=-mknod");
	} else if (share->squashes) {
		snprintf(words->ids, sizeof(words->ids),
			"--translate-uid=squash-guest:0:%u:4294967295", geteuid());
		snprintf(words->groups, sizeof(words->groups),
			"--translate-gid=squash-guest:0:%u:4294967295", getegid());
		add_share_word(words, words->ids);
		add_share_word(words, words->groups);
	}
}

static int spawn_virtiofsd(struct broker_share *share, int listening, struct error *err)
{
	struct share_words words = { 0 };
	const int fds[] = { listening, share->directory };
	bool mounts = geteuid() == 0;
	const char *path = mounts ? MOUNT_AT : words.path;

	if (!mounts && find_shared(share, words.path, err))
		return err->code;
	snprintf(words.fd, sizeof(words.fd), "--fd=%d", listening);
	add_share_word(&words, DAEMON);
	add_share_word(&words, words.fd);
	if (share->is_qemus) {
		snprintf(words.source, sizeof(words.source), "source=%s", path);
		add_share_word(&words, "-f");
		add_share_word(&words, "-olog_level=err,modcaps=-mknod");
		add_share_word(&words, "-o");
		add_share_word(&words, words.source);
	} else {
		snprintf(words.source, sizeof(words.source), "--shared-dir=%s", path);
		add_share_word(&words, "--log-level=error");
		add_share_word(&words, words.source);
		add_share_rights(&words, share);
		if (share->config->readonly)
			add_share_word(&words, "--readonly");
	}
	return broker_backend_start(&share->backend,
		&(struct broker_backend_start){
			.argv = words.argv,
			.fds = fds,
			.fd_count = mounts ? 2 : 1,
			.sandbox = { .directory = -1, .has_its_own = true },
			.prepare = mount_shared,
			.opaque = share,
		},
		err);
}

/* What it says begins with "[2026-11-30T03:57:32Z ERROR virtiofsd] " or "error: ". */
static int share_not_started(const struct broker_share *share, struct error *err)
{
	char said[256];
	const char *reason;

	broker_backend_read_log(&share->backend, said, sizeof(said));
	reason = said[0] == '[' && strstr(said, "] ") ? strstr(said, "] ") + 2 : said;
	error_set(err, -EIO, share->config->path, DAEMON " has ended as soon as it was started%s%s",
		said[0] ? ": " : "", reason);
	if (geteuid() != 0)
		error_hint(err,
			"without root it needs user namespaces: 'unshare --user --mount true' tells "
			"whether this host allows them");
	return err->code;
}

int broker_share_start(struct broker_share *share, struct error *err)
{
	cleanup_fd int listening = -1;
	int code = 0;

	if (share->backend.pid)
		return 0;
	if (check_there(share, err) == 0 &&
		broker_backend_make_sockets(&listening, &share->machine_fd, err) == 0 &&
		spawn_virtiofsd(share, listening, err) == 0) {
		/* Where it ends, the connection does, too. */
		close(take_fd(&listening));
		code = broker_backend_await(share->machine_fd, ANSWER_MS);
	}
	if (code == -ETIMEDOUT)
		error_set(err, code, share->config->path,
			DAEMON " has not answered within %u seconds", ANSWER_MS / 1000);
	else if (code)
		share_not_started(share, err);
	if (err->code)
		broker_share_end(share);
	return err->code;
}

/* While it runs, and the end */

void broker_share_handed_over(struct broker_share *share, struct loop *loop)
{
	broker_backend_handed_over(&share->backend, &share->machine_fd, loop);
}

void broker_share_end(struct broker_share *share)
{
	if (share->machine_fd >= 0)
		close(take_fd(&share->machine_fd));
	broker_backend_end(&share->backend, 0, END_MS);
}
