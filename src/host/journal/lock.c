/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/journal/lock.h"

#include "base/fd.h"
#include "host/journal/entry.h"
#include "host/journal/journal.h"
#include "host/system/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#define LOCK_POLL_MS 20

int journal_open_lock(const struct host *host, const char *name)
{
	cleanup_fd int parent = journal_open_directory(host, "locks", true);
	int fd;

	if (parent < 0)
		return parent;
	fd = openat(parent, name, O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

/* ".ADDRESS.new", as journal_replace_entry() names it. */
static bool parse_half(const char *name, struct bdf *bdf)
{
	char address[BDF_TEXT];
	size_t length = strlen(name);

	if (name[0] != '.' || length < 5 || length - 4 > sizeof(address) ||
		strcmp(name + length - 4, ".new"))
		return false;
	snprintf(address, length - 4, "%s", name + 1);
	return bdf_parse(address, bdf) == 0;
}

/* Who writes a record has the lock of its device. */
void host_journal_forget_halves(const struct host *host)
{
	DIR *directory = journal_read_directory(host, "devices");
	const struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		cleanup_fd int lock = -1;
		char address[BDF_TEXT];
		struct bdf bdf;

		if (!parse_half(entry->d_name, &bdf))
			continue;
		lock = journal_open_lock(host, bdf_format(&bdf, address));
		if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
			unlinkat(dirfd(directory), entry->d_name, 0);
	}
	if (directory)
		closedir(directory);
}

static int refuse_held(const struct host *host, const struct bdf *bdf, struct error *err)
{
	struct error ignored = { 0 };
	struct host_record record;

	if (host_journal_read(host, bdf, &record, &ignored) ||
		!host_holder_is_alive(&record.holder) || host_holder_is_self(&record.holder))
		return 0;
	return host_holder_refuse(&record.holder, bdf, err);
}

/* Whoever has the lock may be a process that was killed: its child is still in the kernel. */
static int wait_for_lock(const struct host *host, const struct bdf *bdf, int fd, struct error *err)
{
	char name[BDF_TEXT];
	struct guard guard = {
		.host = host,
		.object = bdf_format(bdf, name),
		.doing = "another change of it to end",
	};
	uint64_t start = guard_now(), told = start;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_sys(err, -errno, name, "cannot lock it against other changes");
		if (refuse_held(host, bdf, err))
			return err->code;
		if (guard_now() - start >= host->limit_ms) {
			error_set(err, -ETIMEDOUT, name,
				"an earlier change of it has not ended within %u seconds",
				host->limit_ms / 1000);
			error_hint(err,
				"the kernel hangs on this device: 'dmesg | tail' may say why; "
				"where it does not come back, only a reboot helps");
			return -ETIMEDOUT;
		}
		guard_progress(&guard, start, &told);
		usleep(LOCK_POLL_MS * 1000);
	}
	return 0;
}

int host_journal_lock(const struct host *host, const struct bdf *bdf, struct error *err)
{
	char name[BDF_TEXT];
	cleanup_fd int fd = journal_open_lock(host, bdf_format(bdf, name));

	if (fd < 0)
		return journal_tell(host, fd, "cannot keep a journal", err);
	if (wait_for_lock(host, bdf, fd, err) || refuse_held(host, bdf, err))
		return err->code;
	return take_fd(&fd);
}

void host_journal_unlock(struct host_locks *locks)
{
	while (locks->count)
		close(locks->fds[--locks->count]);
	free(locks->fds);
	locks->fds = NULL;
}

int host_journal_lock_all(const struct host *host, const struct bdf *devices, size_t count,
	struct host_locks *locks, struct error *err)
{
	cleanup_free struct bdf *sorted = malloc(count * sizeof(*sorted));
	char name[BDF_TEXT];

	*locks = (struct host_locks){ .fds = malloc(count * sizeof(*locks->fds)) };
	if (!sorted || !locks->fds) {
		host_journal_unlock(locks);
		return error_sys(err, -ENOMEM, bdf_format(devices, name),
			"cannot lock it against other changes");
	}
	memcpy(sorted, devices, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), bdf_compare);
	while (locks->count < count) {
		int lock = host_journal_lock(host, &sorted[locks->count], err);

		if (lock < 0) {
			host_journal_unlock(locks);
			return lock;
		}
		locks->fds[locks->count++] = lock;
	}
	return 0;
}
