/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * Give up for good, before any hostile byte is looked at, what the machine does not need: new
 * privileges, capabilities, its uid where that is root's, paths (Landlock), and all system calls but
 * those on a list (seccomp). A call that is not on the list kills the process.
 */
int sandbox_enter(struct error *err);

/* A file that a program may open again by its descriptor: /proc/self/fd/N. */
struct sandbox_file {
	int fd;
	bool writable;
};

/* Of files a program may read what a distribution installs (with files here, not what is in /etc), itself, and these. */
struct sandbox_program {
	int directory; /* in which it may read, make and remove files; -1: none */
	const struct sandbox_file *files;
	unsigned file_count;
	bool has_ring;    /* io_uring, where it has files: see sandbox_confines_rings() */
	bool has_its_own; /* which needs what this one forbids: it is left to the program */
};

/*
 * The same for a program of somebody else's, which this process is about to become. As root it reaches no network.
 *
 * Of system calls it has to forbid itself what it does not need; but one with files makes no socket, and what it opens
 * is not asked for its owner: as root's it has a uid that owns nothing, and CAP_DAC_OVERRIDE, which Landlock leaves
 * these files for. Where the kernel has no Landlock it has no capability, and opens what anybody may.
 */
int sandbox_enter_program(
	const char *path, const struct sandbox_program *program, struct error *err);

/*
 * Whether the kernel, Linux 7.3's for one, holds the rings of a process that is in a sandbox to what that one lets it do
 * by system calls. Where it does not, no process in one has a ring.
 */
bool sandbox_confines_rings(void);

/*
 * What is left to do for src/display's program, which the broker has put into the sandbox of sandbox_enter_program() until
 * its libraries are loaded: no paths, and its own list of system calls. It opens nothing, and connects to nothing.
 */
int sandbox_enter_display(struct error *err);

/* The uid and gid that a process of root's has in its sandbox. */
uid_t sandbox_uid(void);
