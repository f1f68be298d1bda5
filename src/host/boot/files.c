/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/files.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

bool boot_bytes_equal(const struct boot_bytes *a, const struct boot_bytes *b)
{
	if (!a->data || !b->data)
		return !a->data && !b->data;
	return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* With a NUL behind it, for what is read as text. */
bool boot_bytes_copy(struct boot_bytes *to, const struct boot_bytes *from)
{
	*to = (struct boot_bytes){ 0 };
	if (!from->data)
		return true;
	to->data = malloc(from->size + 1);
	if (!to->data)
		return false;
	memcpy(to->data, from->data, from->size);
	to->data[from->size] = '\0';
	to->size = from->size;
	return true;
}

/* Cut a path to what is there of it, but not below least bytes. Its length then. */
static size_t cut_component(char *path, size_t least)
{
	struct stat stat;

	while (strlen(path) > least && lstat(path, &stat) < 0)
		*strrchr(path, '/') = '\0';
	return strlen(path);
}

int boot_files_resolve(const struct host *host, const char *path, char full[static PATH_MAX])
{
	size_t root = strlen(host->root), used;
	char there[PATH_MAX];
	int code = host_path(host, there, "%s", path);

	if (code)
		return code;
	path += cut_component(there, root) - root;
	if (!realpath(there[0] ? there : "/", full))
		return -errno;
	/* An absolute link in a tree leads out of it, to the files of this machine. */
	if (!host_inside(host, full))
		return -EXDEV;
	used = strcmp(full, "/") ? strlen(full) : 0;
	if (used + strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(full + used, path);
	return 0;
}

static int read_open(int fd, struct boot_bytes *bytes)
{
	struct stat stat;
	int code;

	if (fstat(fd, &stat) < 0)
		return -errno;
	if (!S_ISREG(stat.st_mode))
		return S_ISDIR(stat.st_mode) ? -EISDIR : -EINVAL;
	if ((uint64_t)stat.st_size > BOOT_SIZE_MAX)
		return -EFBIG;
	bytes->data = calloc(1, stat.st_size + 1);
	if (!bytes->data)
		return -ENOMEM;
	bytes->size = stat.st_size;
	code = fd_read_all(fd, bytes->data, bytes->size);
	if (code) {
		free(bytes->data);
		*bytes = (struct boot_bytes){ 0 };
	}
	return code;
}

int boot_files_read(
	const struct host *host, const char *path, struct boot_bytes *bytes, struct error *err)
{
	cleanup_fd int fd = -1;
	char full[PATH_MAX];
	int code = boot_files_resolve(host, path, full);

	*bytes = (struct boot_bytes){ 0 };
	if (code == 0) {
		/* Not to be held up by a named pipe. */
		fd = open(full, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		code = fd < 0 ? -errno : read_open(fd, bytes);
	}
	if (code == -ENOENT || code == -ENOTDIR)
		return 0;
	return code ? boot_files_tell(err, code, path, "cannot read it") : 0;
}

static void format_temporary(const char *full, char path[static PATH_MAX])
{
	const char *slash = strrchr(full, '/');
	size_t directory = slash ? slash + 1 - full : 0;

	snprintf(path, PATH_MAX, "%.*s.%s.penstock-new", (int)directory, full, full + directory);
}

static int write_beside(
	const char *path, const char *full, const struct boot_bytes *bytes, unsigned mode)
{
	cleanup_fd int fd = -1;
	struct stat stat;
	int code;

	unlink(path); /* what a killed process left */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (lstat(full, &stat) == 0) {
		mode = stat.st_mode & 07777;
		if (fchown(fd, stat.st_uid, stat.st_gid) < 0)
			return -errno;
	}
	code = fd_write_all(fd, bytes->data, bytes->size);
	if (code)
		return code;
	return fchmod(fd, mode) < 0 || fsync(fd) < 0 ? -errno : 0;
}

int boot_files_prepare(const char *full, const struct boot_bytes *bytes, unsigned mode)
{
	char path[PATH_MAX];
	int code;

	format_temporary(full, path);
	code = write_beside(path, full, bytes, mode);
	if (code)
		unlink(path);
	return code;
}

int boot_files_replace(const char *full)
{
	cleanup_fd int directory = -1;
	char path[PATH_MAX], *slash;

	format_temporary(full, path);
	if (rename(path, full) < 0)
		return -errno;
	slash = strrchr(path, '/');
	*slash = '\0';
	directory = open(path[0] ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* The file is in its place; that a crash could undo this is no reason to fail. */
	if (directory >= 0)
		(void)!fsync(directory);
	return 0;
}

void boot_files_discard(const char *full)
{
	char path[PATH_MAX];

	format_temporary(full, path);
	unlink(path);
}

int boot_files_tell(struct error *err, int code, const char *path, const char *what)
{
	error_sys(err, code, path, "%s", what);
	if (code == -ENOSPC || code == -EDQUOT)
		error_hint(err, "the file system is full: see 'df -h %s', and make room", path);
	else if (code == -EROFS)
		error_hint(err,
			"the file system is read-only: change it in the way of your distribution, or "
			"remount it (mount -o remount,rw)");
	else if (code == -EACCES || code == -EPERM)
		error_hint(err,
			"run this as root, as with sudo; for root, see 'lsattr %s' (chattr +i)",
			path);
	else if (code == -EXDEV)
		error_hint(err, "its symbolic link leads out of the tree");
	return code;
}
