/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/journal/journal.h"

#include "base/fd.h"
#include "base/log.h"
#include "host/system/guard.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define RECORD_SIZE  1024 /* no sound record comes near it */
#define LOCK_POLL_MS 20
#define FIRST_LINE   "penstock device 1"
#define MAKES_VFS    "makes-vfs"
#define FIRST_NAME   "penstock name 1"

/* Is the journal's directory such that only root, or the user whose it is, can change it? */
static bool is_own(const struct stat *stat)
{
	return (stat->st_uid == 0 || stat->st_uid == geteuid()) &&
	       !(stat->st_mode & (S_IWGRP | S_IWOTH));
}

static int tell(const struct host *host, int code, const char *what, struct error *err)
{
	struct stat stat_;

	if (code == -EPERM && stat(host->run, &stat_) == 0 && !is_own(&stat_)) {
		error_set(err, code, host->run, "%s: others may change it", what);
		error_hint(err, "'chmod go-w %s'; it must belong to %s ('ls -ld %s')%s", host->run,
			geteuid() ? "you or to root" : "root", host->run,
			geteuid() ? "; or set XDG_RUNTIME_DIR to a directory of yours" : "");
		return code;
	}
	error_sys(err, code, host->run, "%s", what);
	if (code == -ENOSPC || code == -EDQUOT)
		error_hint(err,
			"the file system is full: see 'df -h %s' and 'df -i %s', and make room",
			host->run, host->run);
	else if (code == -EROFS)
		error_hint(err,
			"the file system is mounted read-only; penstock must keep there what it "
			"changes, to be able to put it back");
	else if (code == -EACCES || code == -EPERM)
		error_hint(err,
			"run this as root, as with sudo; or, for devices that 'penstock bind "
			"--user' has given you, set XDG_RUNTIME_DIR to a directory of yours");
	else if (code == -ELOOP || code == -ENOTDIR)
		error_hint(err,
			"something that is not a directory stands in its place: look at it with "
			"'ls -ld %s %s/*' and remove it",
			host->run, host->run);
	return code;
}

/* Directories: a symbolic link anywhere below RUN, or a RUN that others may write to, is refused.
 */

static int make_directory(int parent, const char *name)
{
	if (mkdirat(parent, name, 0755) == 0) {
		/* Whatever the umask is: other users may see which machine has a device. */
		fchmodat(parent, name, 0755, 0);
		return 0;
	}
	return errno == EEXIST ? 0 : -errno;
}

static int open_directory(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int check_owner(int fd)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return -errno;
	return is_own(&stat) ? 0 : -EPERM;
}

static int open_run(const struct host *host, bool make)
{
	cleanup_fd int run = -1;
	int code;

	if (make && (code = make_directory(AT_FDCWD, host->run)))
		return code;
	run = open_directory(AT_FDCWD, host->run);
	if (run < 0)
		return run;
	code = check_owner(run);
	return code ? code : take_fd(&run);
}

/* A directory below RUN; made, with make, where it is missing. */
static int open_below(const struct host *host, const char *name, bool make)
{
	cleanup_fd int run = open_run(host, make);
	int code;

	if (run < 0)
		return run;
	if (make && (code = make_directory(run, name)))
		return code;
	return open_directory(run, name);
}

/* The same to be read; NULL with errno set. */
static DIR *read_below(const struct host *host, const char *name)
{
	int fd = open_below(host, name, false);
	DIR *directory;

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	directory = fdopendir(fd);
	if (!directory) {
		int code = errno;

		close(fd);
		errno = code;
	}
	return directory;
}

/* Records as text. Strict: one spelling only, and "end" shows that nothing is missing. */

static bool take_line(char **at, const char *key, char *value, size_t size)
{
	size_t length = strlen(key);
	char *end = strchr(*at, '\n');

	if (!end || strncmp(*at, key, length) || (size_t)(end - *at) - length >= size)
		return false;
	*end = '\0';
	strcpy(value, *at + length);
	*at = end + 1;
	for (; *value; value++)
		if (!isprint((unsigned char)*value) || *value == '/')
			return false;
	return true;
}

static bool take_flag(char **at, const char *key, bool *flag)
{
	char value[4];

	if (!take_line(at, key, value, sizeof(value)))
		return false;
	*flag = strcmp(value, "yes") == 0;
	return *flag || strcmp(value, "no") == 0;
}

static bool take_holder(char **at, struct host_holder *holder)
{
	char value[64], again[64];

	if (!take_line(at, "holder ", value, sizeof(value)) ||
		!take_line(at, "name ", holder->name, sizeof(holder->name)))
		return false;
	if (sscanf(value, "%d %" SCNu64, &holder->pid, &holder->start) != 2 || holder->pid < 0)
		return false;
	snprintf(again, sizeof(again), "%d %" PRIu64, holder->pid, holder->start);
	return strcmp(value, again) == 0;
}

/* Only there when a user has been given the node. */
static bool take_user(char **at, uid_t *user)
{
	char value[16], again[16];

	if (strncmp(*at, "user ", 5))
		return true;
	if (!take_line(at, "user ", value, sizeof(value)) || sscanf(value, "%u", user) != 1)
		return false;
	snprintf(again, sizeof(again), "%u", *user);
	return *user && strcmp(value, again) == 0;
}

/* Only there while VFs are being made. */
static bool take_makes_vfs(char **at, bool *makes_vfs)
{
	char nothing[1];

	*makes_vfs = strncmp(*at, MAKES_VFS, strlen(MAKES_VFS)) == 0;
	return !*makes_vfs || take_line(at, MAKES_VFS, nothing, sizeof(nothing));
}

static bool take_end(char **at)
{
	char nothing[1];

	return take_line(at, "end", nothing, sizeof(nothing)) && !**at;
}

static bool parse_record(char *text, struct host_record *record)
{
	char first[1], address[BDF_TEXT];

	return take_line(&text, FIRST_LINE, first, sizeof(first)) &&
	       take_line(&text, "address ", address, sizeof(address)) &&
	       bdf_parse(address, &record->bdf) == 0 &&
	       take_line(&text, "driver ", record->driver, sizeof(record->driver)) &&
	       take_line(&text, "override ", record->override, sizeof(record->override)) &&
	       take_holder(&text, &record->holder) &&
	       take_flag(&text, "persist ", &record->persist) &&
	       take_flag(&text, "companion ", &record->companion) &&
	       take_makes_vfs(&text, &record->makes_vfs) && take_user(&text, &record->user) &&
	       take_end(&text);
}

static bool parse_name(char *text, struct host_holder *holder)
{
	char first[1];

	return take_line(&text, FIRST_NAME, first, sizeof(first)) && take_holder(&text, holder) &&
	       take_end(&text);
}

static int format_record(const struct host_record *record, char text[static RECORD_SIZE])
{
	char address[BDF_TEXT], user[24] = "";

	if (record->user)
		snprintf(user, sizeof(user), "user %u\n", record->user);
	return snprintf(text, RECORD_SIZE,
		FIRST_LINE "\naddress %s\ndriver %s\noverride %s\nholder %d %" PRIu64
			   "\nname %s\npersist %s\ncompanion %s\n%s%send\n",
		bdf_format(&record->bdf, address), record->driver, record->override,
		record->holder.pid, record->holder.start, record->holder.name,
		record->persist ? "yes" : "no", record->companion ? "yes" : "no",
		record->makes_vfs ? MAKES_VFS "\n" : "", user);
}

/* Length, or a negative errno. */
static ssize_t read_entry(const struct host *host, const char *directory, const char *name,
	char text[static RECORD_SIZE])
{
	cleanup_fd int parent = open_below(host, directory, false);
	cleanup_fd int fd = -1;
	ssize_t got;

	if (parent < 0)
		return parent;
	/* Not to be held up by a named pipe in the record's place. */
	fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, text, RECORD_SIZE - 1);
	if (got < 0)
		return -errno;
	text[got] = '\0';
	return got;
}

static int write_temporary(int parent, const char *name, const char *text)
{
	cleanup_fd int fd = -1;
	int code;

	unlinkat(parent, name,
		0); /* what a killed process left; the lock says that none writes now */
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	code = fd_write_all(fd, text, strlen(text));
	/* Whatever the umask is: others may see who has a device. */
	return code ? code : fchmod(fd, 0644) < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* The old record or the new one is there at every moment, never a part of one. */
static int replace_entry(
	const struct host *host, const char *directory, const char *name, const char *text)
{
	cleanup_fd int parent = open_below(host, directory, true);
	char temporary[NAME_MAX];
	int code;

	if (parent < 0)
		return parent;
	snprintf(temporary, sizeof(temporary), ".%s.new", name);
	code = write_temporary(parent, temporary, text);
	if (code == 0 && renameat(parent, temporary, parent, name) < 0)
		code = -errno;
	if (code == 0 && fsync(parent) < 0)
		code = -errno;
	if (code)
		unlinkat(parent, temporary, 0);
	return code;
}

static int remove_entry(const struct host *host, const char *directory, const char *name)
{
	cleanup_fd int parent = open_below(host, directory, false);

	if (parent < 0)
		return parent == -ENOENT ? 0 : parent;
	if (unlinkat(parent, name, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return fsync(parent) < 0 ? -errno : 0;
}

/* Devices. */

int host_journal_read(const struct host *host, const struct bdf *bdf, struct host_record *record,
	struct error *err)
{
	char text[RECORD_SIZE], name[BDF_TEXT], path[sizeof(host->run) + 64];
	ssize_t got;

	*record = (struct host_record){ 0 };
	got = read_entry(host, "devices", bdf_format(bdf, name), text);
	if (got == -ENOENT)
		return got;
	if (got >= 0 && strlen(text) == (size_t)got && parse_record(text, record) &&
		bdf_equal(&record->bdf, bdf))
		return 0;
	*record = (struct host_record){ 0 };
	if (got < 0 && got != -ELOOP && got != -EISDIR)
		return tell(host, got, "cannot read the journal", err);
	snprintf(path, sizeof(path), "%s/devices/%s", host->run, name);
	error_set(err, -EBADMSG, path,
		"the journal's record of this device is damaged, so its previous driver is unknown");
	error_hint(err,
		"'penstock release %s' gives the device to the driver that the kernel picks for it, and "
		"removes the record",
		name);
	return -EBADMSG;
}

int host_journal_write(const struct host *host, const struct host_record *record, struct error *err)
{
	char text[RECORD_SIZE], again[RECORD_SIZE], name[BDF_TEXT];
	struct host_record parsed;
	int code;

	/* A record that could not be read back, for a driver's odd name, must stop the change now.
	 */
	format_record(record, text);
	if (!parse_record(strcpy(again, text), &parsed))
		return error_set(err, -EINVAL, bdf_format(&record->bdf, name),
			"the name of its driver '%s' or its driver_override '%s' is not one that the "
			"journal can hold",
			record->driver, record->override);
	code = replace_entry(host, "devices", bdf_format(&record->bdf, name), text);
	return code ? tell(host, code, "cannot write the journal", err) : 0;
}

int host_journal_remove(const struct host *host, const struct bdf *bdf, struct error *err)
{
	char name[BDF_TEXT];
	int code;

	code = remove_entry(host, "devices", bdf_format(bdf, name));
	return code ? tell(host, code, "cannot remove a record from the journal", err) : 0;
}

static ssize_t collect(DIR *directory, struct bdf **devices)
{
	cleanup_free struct bdf *list = NULL;
	const struct dirent *entry;
	size_t count = 0;

	while ((entry = readdir(directory))) {
		struct bdf bdf, *more;

		if (bdf_parse(entry->d_name, &bdf))
			continue;
		more = reallocarray(list, count + 1, sizeof(*list));
		if (!more)
			return -ENOMEM;
		list = more;
		list[count++] = bdf;
	}
	*devices = list;
	list = NULL;
	return count;
}

ssize_t host_journal_list(const struct host *host, struct bdf **devices, struct error *err)
{
	DIR *directory = read_below(host, "devices");
	ssize_t count;

	*devices = NULL;
	if (!directory)
		return errno == ENOENT ? 0 : tell(host, -errno, "cannot read the journal", err);
	count = collect(directory, devices);
	closedir(directory);
	return count < 0 ? tell(host, count, "cannot read the journal", err) : count;
}

/* Binds. */

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

int host_journal_begin_bind(const struct host *host, struct error *err)
{
	char name[64];
	int code = name_own_bind(name, err);

	if (code)
		return code;
	code = replace_entry(host, "binds", name, "");
	return code ? tell(host, code, "cannot keep a journal", err) : 0;
}

int host_journal_end_bind(const struct host *host, struct error *err)
{
	char name[64];
	int code = name_own_bind(name, err);

	if (code)
		return code;
	code = remove_entry(host, "binds", name);
	return code ? tell(host, code, "cannot write the journal", err) : 0;
}

bool host_journal_is_kept(const struct host *host, const struct host_record *record)
{
	char name[64], text[RECORD_SIZE];

	format_bind(&record->holder, name);
	return record->persist && read_entry(host, "binds", name, text) < 0;
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

void host_journal_forget_binds(const struct host *host)
{
	DIR *directory = read_below(host, "binds");
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

/* Locks. */

static int open_lock(const struct host *host, const char *name)
{
	cleanup_fd int parent = open_below(host, "locks", true);
	int fd;

	if (parent < 0)
		return parent;
	fd = openat(parent, name, O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

/* ".ADDRESS.new", as replace_entry() names it. */
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
	DIR *directory = read_below(host, "devices");
	const struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		cleanup_fd int lock = -1;
		char address[BDF_TEXT];
		struct bdf bdf;

		if (!parse_half(entry->d_name, &bdf))
			continue;
		lock = open_lock(host, bdf_format(&bdf, address));
		if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
			unlinkat(dirfd(directory), entry->d_name, 0);
	}
	if (directory)
		closedir(directory);
}

static int refuse_held(const struct host *host, const struct bdf *bdf, struct error *err)
{
	char name[BDF_TEXT], holder[HOST_HOLDER_TEXT];
	struct error ignored = { 0 };
	struct host_record record;

	if (host_journal_read(host, bdf, &record, &ignored) ||
		!host_holder_is_alive(&record.holder) || host_holder_is_self(&record.holder))
		return 0;
	error_set(err, -EBUSY, bdf_format(bdf, name), "it is held by %s",
		host_holder_describe(&record.holder, holder));
	error_hint(err, "it is free again when that has ended");
	return -EBUSY;
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
	cleanup_fd int fd = open_lock(host, bdf_format(bdf, name));

	if (fd < 0)
		return tell(host, fd, "cannot keep a journal", err);
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

/* Names. */

/* Held for no longer than it takes to read and write one small file. */
static int lock_names(const struct host *host, struct error *err)
{
	cleanup_fd int fd = open_lock(host, "names");

	if (fd < 0)
		return tell(host, fd, "cannot keep the names of machines", err);
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return error_sys(
				err, -errno, host->run, "cannot lock the names of machines");
	return take_fd(&fd);
}

static bool read_name(const struct host *host, const char *name, struct host_holder *holder)
{
	char text[RECORD_SIZE];
	ssize_t got = read_entry(host, "names", name, text);

	return got >= 0 && strlen(text) == (size_t)got && parse_name(text, holder);
}

static int write_name(const struct host *host, const char *name, struct error *err)
{
	struct host_holder self;
	char text[RECORD_SIZE];
	int code = host_holder_self(name, &self, err);

	if (code)
		return code;
	snprintf(text, sizeof(text), FIRST_NAME "\nholder %d %" PRIu64 "\nname %s\nend\n", self.pid,
		self.start, self.name);
	code = replace_entry(host, "names", name, text);
	return code ? tell(host, code, "cannot keep the name of the machine", err) : 0;
}

int host_claim_name(const struct host *host, const char *name, struct error *err)
{
	cleanup_fd int lock = -1;
	struct host_holder holder;
	int code = host_check_name(name, err);

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

void host_release_name(const struct host *host, const char *name)
{
	struct error ignored = { 0 };
	cleanup_fd int lock = lock_names(host, &ignored);
	struct host_holder holder;

	if (lock < 0 || !read_name(host, name, &holder) || !host_holder_is_self(&holder))
		return;
	remove_entry(host, "names", name);
}

void host_forget_names(const struct host *host)
{
	struct error ignored = { 0 };
	DIR *directory = read_below(host, "names");
	cleanup_fd int lock = directory ? lock_names(host, &ignored) : -1;
	const struct dirent *entry;

	while (lock >= 0 && (entry = readdir(directory))) {
		struct host_holder holder;

		/* A dot begins what was half written. */
		if (entry->d_name[0] == '.' ||
			(read_name(host, entry->d_name, &holder) && !host_holder_is_alive(&holder)))
			unlinkat(dirfd(directory), entry->d_name, 0);
	}
	if (directory)
		closedir(directory);
}
