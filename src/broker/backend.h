/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "base/loop.h"
#include "machine/sandbox.h"

#include <limits.h>
#include <sys/types.h>

/*
 * A program of the distribution's that serves the guest a device: a child of the broker's, confined, started anew for
 * each life of the machine. What it says goes into a log of its own, of which a line tells why it has ended.
 */

struct broker_backend {
	char label[16];   /* what it serves: "tpm", "disk0" */
	const char *name; /* "swtpm" */
	char program[PATH_MAX];
	int log; /* a memfd; -1: it was not found, or is not wanted */
	bool says_why_last; /* why it has ended: after what it only notes; others say it first, and then what follows */
	pid_t pid;    /* 0: it does not run */
	int status;   /* of its end, when that has been waited for, as waitpid(2) tells it */
	bool asked;   /* to end */
	char end[96]; /* how it has, unasked; "" */
	int watch;    /* a pidfd in the loop; -1 */
	struct loop *loop;
	/* After an end that nobody has asked for; NULL: nothing is done about it. */
	void (*ended)(void *opaque);
	void *opaque;
};

#define BROKER_BACKEND_NONE             \
	{                               \
		.log = -1, .watch = -1, \
	}

/* Find the program in PATH, or where the likes of it are. For the error: the option that needs it, and Debian's package that has it. */
int broker_backend_find(struct broker_backend *backend, const char *name, const char *option,
	const char *package, struct error *err);
/* The same where its path is known already. */
int broker_backend_use(struct broker_backend *backend, const char *name, struct error *err);
/* Has ended before. */
void broker_backend_close(struct broker_backend *backend);

struct broker_backend_start {
	char *const *argv;
	const int *fds; /* that it gets, by their numbers here; no others */
	size_t fd_count;
	struct sandbox_program sandbox;
	int out;             /* where its output goes; 0: nowhere */
	uint64_t file_max;   /* bytes that a file of its may have; 0: any number */
	uint64_t memory_max; /* the same for its address space */
	int death_signal; /* what it gets where the broker is killed; 0: SIGKILL, or nothing where its sandbox is its own */
	/* As root it gets this uid. Called in its process, before that gives up being root's. */
	void (*prepare)(void *opaque, uid_t uid);
	void *opaque;
};

/* What it cannot do in its own process it says in its log, and ends. */
int broker_backend_start(struct broker_backend *backend, const struct broker_backend_start *start,
	struct error *err);

/*
 * A socket that listens, with one connection made already: as it has no name any more, the only one ever. Nobody
 * else's, which an abstract name would allow. The caller closes them, -1 or not.
 */
int broker_backend_make_sockets(int *listening, int *connected, struct error *err);

/* Of one that speaks vhost-user, at the other end: until it answers. 0, -EPIPE: it has ended, or -ETIMEDOUT. */
int broker_backend_await(int socket, unsigned limit_ms);

/* Warn, and call ended(), when it ends before it is asked to; the loop goes on while it is waited for in the end. */
int broker_backend_watch(struct broker_backend *backend, struct loop *loop);
/* The machine's process has this descriptor, which is closed here, and set to -1. */
void broker_backend_handed_over(struct broker_backend *backend, int *machine_fd, struct loop *loop);

/* The line that it has said which tells why it has ended, "" where there is none. */
void broker_backend_read_log(const struct broker_backend *backend, char *text, size_t size);

/* Once, by the signal, if not 0. */
void broker_backend_ask_to_end(struct broker_backend *backend, int signal);
/* The same, and give it so long; then kill it, and what it has started. */
void broker_backend_end(struct broker_backend *backend, int signal, unsigned limit_ms);
