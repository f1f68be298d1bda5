/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <json-c/json.h>

/* Machines by name: those that run, and those that a file NAME.yaml describes. */

#define NAMED_OFF "off" /* the status of one that does not run */

/*
 * The file: of a user in $XDG_CONFIG_HOME/penstock or ~/.config/penstock, else in /etc/penstock; root's are in the
 * latter alone, for a user's home is the user's to write. 0, -ENOENT, or -EINVAL where this is no name.
 */
int named_find(
	const struct host *host, const char *name, char path[static PATH_MAX], struct error *err);

/* Where a new one is to be: the first of these places. 0 or a negative errno. */
int named_place(
	const struct host *host, const char *name, char path[static PATH_MAX], struct error *err);

/* What 'penstock list --json' tells of one, the caller's; NULL: it neither runs nor is it described. */
json_object *named_machine(const struct host *host, const char *name);

/* All of them, sorted. */
json_object *named_machines(const struct host *host);

/* The file with the messages of a machine that was started in the background. */
void named_messages(const struct host *host, const char *name, char path[static PATH_MAX]);

/* A machine that runs, and has a file or block device open. */
struct named_user {
	char name[HOST_NAME];
	pid_t pid;
	bool writes;
};

/* Of a block device dev is its number. Of the caller's machines, not those of other users. */
bool named_find_user(
	const struct host *host, dev_t dev, ino_t ino, bool is_block, struct named_user *user);

/* Whether a process has it open, and for writing. */
bool named_has_open(pid_t pid, dev_t dev, ino_t ino, bool is_block, bool *writes);

#define NAMED_BACKEND (2 * PATH_MAX)

/* One of its "backends", in words: the program, and what it serves. */
void named_tell_backend(json_object *backend, char *text, size_t size);
