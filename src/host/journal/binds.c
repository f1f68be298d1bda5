/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/journal/binds.h"

#include "base/fd.h"
#include "host/journal/entry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static void format_bind(const struct host_holder *holder, char name[static 64])
{
	snprintf(name, 64, "%d-%" PRIu64, holder->pid, holder->start);
}

static int name_own_bind(char name[static 64], struct error *err)
{
	struct host_holder self;
	int code = host_holder_self("bind", &self, err);

	if (code == 0)
		format_bind(&self, name);
	return code;
}

int host_binds_begin(const struct host *host, struct error *err)
{
	char name[64];
	int code = name_own_bind(name, err);

	if (code)
		return code;
	code = journal_replace_entry(host, "binds", name, "");
	return code ? journal_tell(host, code, "cannot keep a journal", err) : 0;
}

int host_binds_end(const struct host *host, struct error *err)
{
	char name[64];
	int code = name_own_bind(name, err);

	if (code)
		return code;
	code = journal_remove_entry(host, "binds", name);
	return code ? journal_tell(host, code, "cannot write the journal", err) : 0;
}

bool host_binds_kept(const struct host *host, const struct host_record *record)
{
	char name[64], text[JOURNAL_ENTRY_SIZE];

	format_bind(&record->holder, name);
	return record->persist && journal_read_entry(host, "binds", name, text) < 0;
}

static bool is_same_process(const struct host_holder *a, const struct host_holder *b)
{
	return a->pid == b->pid && a->start == b->start;
}

/* A record that cannot be read may be anybody's. */
static bool has_records(const struct host *host, const struct host_holder *holder)
{
	cleanup_free struct bdf *devices = NULL;
	struct error ignored = { 0 };
	ssize_t count = host_journal_list(host, &devices, &ignored);
	bool found = count < 0;

	for (ssize_t i = 0; i < count && !found; i++) {
		struct host_record record;
		int code = host_journal_read(host, &devices[i], &record, &ignored);

		found = code ? code != -ENOENT : is_same_process(&record.holder, holder);
	}
	return found;
}

void host_binds_forget(const struct host *host)
{
	DIR *directory = journal_read_directory(host, "binds");
	const struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		struct host_holder holder = { 0 };
		/* What was killed while it wrote its file has left a temporary one. */
		const char *name = entry->d_name + (entry->d_name[0] == '.');

		if (sscanf(name, "%d-%" SCNu64, &holder.pid, &holder.start) == 2 &&
			(host_holder_is_self(&holder) || !host_holder_is_alive(&holder)) &&
			!has_records(host, &holder))
			unlinkat(dirfd(directory), entry->d_name, 0);
	}
	if (directory)
		closedir(directory);
}
