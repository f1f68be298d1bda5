/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <sys/types.h>

/*
 * Give up for good, before any hostile byte is looked at, what the machine does not need: new
 * privileges, capabilities, its uid where that is root's, paths (Landlock), and all system calls but
 * those on a list (seccomp). A call that is not on the list kills the process.
 */
int sandbox_enter(struct error *err);

/*
 * The same for a program of somebody else's, which this process is about to become: of system calls it has to forbid
 * itself what it does not need. Of files it may read what a distribution installs, and the program; and read, make and
 * remove those in the directory, where there is one (-1). As root it reaches no network.
 */
int sandbox_enter_program(const char *program, int directory, struct error *err);

/*
 * What is left to do for src/display's program, which the broker has put into the sandbox of sandbox_enter_program() until
 * its libraries are loaded: no paths, and its own list of system calls. It opens nothing, and connects to nothing.
 */
int sandbox_enter_display(struct error *err);

/* The uid and gid that a process of root's has in its sandbox. */
uid_t sandbox_uid(void);
