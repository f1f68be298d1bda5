/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/journal/entry.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Is the journal's directory such that only root, or the user whose it is, can change it? */
static bool is_own(const struct stat *stat)
{
	return (stat->st_uid == 0 || stat->st_uid == geteuid()) &&
	       !(stat->st_mode & (S_IWGRP | S_IWOTH));
}

int journal_tell(const struct host *host, int code, const char *what, struct error *err)
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

/* Directories: a symbolic link anywhere below RUN, or a RUN that others may write to, is refused. */

static int make_directory(int parent, const char *name)
{
	if (mkdirat(parent, name, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	/* Whatever the umask is: other users may see which machine has a device. */
	return fchmodat(parent, name, 0755, 0) < 0 ? -errno : 0;
}

static int open_directory(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* With make it is made where it is missing. */
static int enter_directory(int parent, const char *name, bool make)
{
	int code, fd = open_directory(parent, name);

	if (fd != -ENOENT || !make)
		return fd;
	code = make_directory(parent, name);
	return code ? code : open_directory(parent, name);
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
	cleanup_fd int run = enter_directory(AT_FDCWD, host->run, make);
	int code;

	if (run < 0)
		return run;
	code = check_owner(run);
	return code ? code : take_fd(&run);
}

int journal_open_directory(const struct host *host, const char *name, bool make)
{
	cleanup_fd int run = open_run(host, make);

	return run < 0 ? run : enter_directory(run, name, make);
}

DIR *journal_read_directory(const struct host *host, const char *name)
{
	int fd = journal_open_directory(host, name, false);
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

ssize_t journal_read_entry(const struct host *host, const char *directory, const char *name,
	char text[static JOURNAL_ENTRY_SIZE])
{
	cleanup_fd int parent = journal_open_directory(host, directory, false);
	cleanup_fd int fd = -1;
	ssize_t got;

	if (parent < 0)
		return parent;
	/* Not to be held up by a named pipe in the record's place. */
	fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, text, JOURNAL_ENTRY_SIZE - 1);
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

int journal_replace_entry(
	const struct host *host, const char *directory, const char *name, const char *text)
{
	cleanup_fd int parent = journal_open_directory(host, directory, true);
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

int journal_remove_entry(const struct host *host, const char *directory, const char *name)
{
	cleanup_fd int parent = journal_open_directory(host, directory, false);

	if (parent < 0)
		return parent == -ENOENT ? 0 : parent;
	if (unlinkat(parent, name, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return fsync(parent) < 0 ? -errno : 0;
}
