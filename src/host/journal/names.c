/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/journal/names.h"

#include "base/fd.h"
#include "base/text.h"
#include "host/journal/entry.h"
#include "host/journal/lock.h"
#include "host/journal/record.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/file.h>

int host_name_check(const char *name, struct error *err)
{
	size_t length = strlen(name);
	bool good = length > 0 && length < HOST_NAME && name[0] != '.' && name[0] != '-';

	for (size_t i = 0; i < length && good; i++)
		good = isalnum((unsigned char)name[i]) || strchr("._-", name[i]);
	if (good)
		return 0;
	error_set(err, -EINVAL, name, "this cannot be the name of a machine");
	error_hint(err,
		"use 1 to %d letters, digits, '.', '_' and '-', with a letter or digit first",
		HOST_NAME - 1);
	return -EINVAL;
}

/* Held for no longer than it takes to read and write one small file. */
static int lock_names(const struct host *host, struct error *err)
{
	cleanup_fd int fd = journal_open_lock(host, "names");

	if (fd < 0)
		return journal_tell(host, fd, "cannot keep the names of machines", err);
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return error_sys(
				err, -errno, host->run, "cannot lock the names of machines");
	return take_fd(&fd);
}

static bool read_name(const struct host *host, const char *name, struct host_holder *holder)
{
	char text[JOURNAL_ENTRY_SIZE];
	ssize_t got = journal_read_entry(host, "names", name, text);

	return got >= 0 && strlen(text) == (size_t)got && record_parse_name(text, holder);
}

static int write_name(const struct host *host, const char *name, struct error *err)
{
	struct host_holder self;
	char text[JOURNAL_ENTRY_SIZE];
	int code = host_holder_self(name, &self, err);

	if (code)
		return code;
	record_format_name(&self, text);
	code = journal_replace_entry(host, "names", name, text);
	return code ? journal_tell(host, code, "cannot keep the name of the machine", err) : 0;
}

int host_name_claim(const struct host *host, const char *name, struct error *err)
{
	cleanup_fd int lock = -1;
	struct host_holder holder;
	int code = host_name_check(name, err);

	if (code)
		return code;
	lock = lock_names(host, err);
	if (lock < 0)
		return lock;
	/* What cannot be read says nothing about a living machine, and holds no device. */
	if (read_name(host, name, &holder) && host_holder_is_alive(&holder) &&
		!host_holder_is_self(&holder)) {
		error_set(err, -EEXIST, name, "a machine of this name is running (pid %d)",
			holder.pid);
		error_hint(err, "choose another one with --name, or stop that machine");
		return -EEXIST;
	}
	return write_name(host, name, err);
}

bool host_name_owner(const struct host *host, const char *name, struct host_holder *holder)
{
	return read_name(host, name, holder) && host_holder_is_alive(holder);
}

void host_name_release(const struct host *host, const char *name)
{
	struct error ignored = { 0 };
	cleanup_fd int lock = lock_names(host, &ignored);
	struct host_holder holder;

	if (lock < 0 || !read_name(host, name, &holder) || !host_holder_is_self(&holder))
		return;
	/* One that is left is soon that of a process that has ended. */
	(void)journal_remove_entry(host, "names", name);
}

void host_names_forget(const struct host *host)
{
	struct error ignored = { 0 };
	DIR *directory = journal_read_directory(host, "names");
	cleanup_fd int lock = directory ? lock_names(host, &ignored) : -1;
	const struct dirent *entry;

	while (lock >= 0 && (entry = readdir(directory))) {
		char socket[HOST_NAME + 16];
		struct host_holder holder;

		/* A dot begins what was half written. */
		if (entry->d_name[0] != '.' &&
			(!read_name(host, entry->d_name, &holder) || host_holder_is_alive(&holder)))
			continue;
		unlinkat(dirfd(directory), entry->d_name, 0);
		/* Nobody listens there any more. */
		text_format(socket, sizeof(socket), "../%s.sock", entry->d_name);
		unlinkat(dirfd(directory), socket, 0);
	}
	if (directory)
		closedir(directory);
}
