/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/journal/holder.h"

#include "base/fd.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/*
 * State and start time from /proc/PID/stat (proc(5), fields 3 and 22). The command name in field 2
 * is the process's own choice and may hold anything, so the fields are counted from its last ')'.
 */
static int read_stat(pid_t pid, char *state, uint64_t *start)
{
	char path[64], text[1024];
	const char *at;
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	got = fd_read_file(path, text, sizeof(text));
	if (got < 0)
		return got;
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1, " %c", state) != 1)
		return -EIO;
	at += 2;
	for (int field = 3; at && field < 22; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	return at && sscanf(at, "%" SCNu64, start) == 1 ? 0 : -EIO;
}

static pid_t acting_for; /* 0: for itself */

void host_holder_act_for(pid_t parent)
{
	acting_for = parent;
}

static pid_t own_pid(void)
{
	return acting_for ? acting_for : getpid();
}

int host_holder_self(const char *name, struct host_holder *holder, struct error *err)
{
	char state;
	int code;

	*holder = (struct host_holder){ .pid = own_pid() };
	text_format(holder->name, sizeof(holder->name), "%s", name);
	code = read_stat(holder->pid, &state, &holder->start);
	if (code)
		return error_sys(
			err, code, "/proc/self/stat", "cannot tell when this process started");
	return 0;
}

bool host_holder_is_self(const struct host_holder *holder)
{
	uint64_t start;
	char state;

	return holder->pid == own_pid() && read_stat(holder->pid, &state, &start) == 0 &&
	       start == holder->start;
}

/* With hidepid, /proc shows another user's process to nobody; a signal's answer tells of it. */
static bool is_gone(pid_t pid, int code)
{
	return (code == -ENOENT || code == -ESRCH) && kill(pid, 0) < 0 && errno == ESRCH;
}

/*
 * A zombie has closed its files and holds nothing any more. One that cannot be looked at, as with too many
 * open files, may live.
 */
bool host_holder_is_alive(const struct host_holder *holder)
{
	uint64_t start;
	char state;
	int code;

	if (holder->pid <= 0)
		return false;
	code = read_stat(holder->pid, &state, &start);
	if (code)
		return !is_gone(holder->pid, code);
	return start == holder->start && state != 'Z' && state != 'X';
}

char *host_holder_describe(const struct host_holder *holder, char text[static HOST_HOLDER_TEXT])
{
	snprintf(text, HOST_HOLDER_TEXT, "penstock '%s' (pid %d)", holder->name, holder->pid);
	return text;
}

int host_holder_refuse(const struct host_holder *holder, const struct bdf *bdf, struct error *err)
{
	char name[BDF_TEXT], text[HOST_HOLDER_TEXT];

	error_set(err, -EBUSY, bdf_format(bdf, name), "it is held by %s",
		host_holder_describe(holder, text));
	error_hint(err, "it is free again when that has ended");
	return -EBUSY;
}
