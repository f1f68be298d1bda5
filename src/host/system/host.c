/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/system/host.h"

#include "base/fd.h"
#include "base/size.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRESS_MS 10000
#define LIMIT_MS    60000
#define FILE_MAX    (16 << 20) /* the longest is the kernel's list of modules' aliases */

static int set_run(struct host *host, const char *directory, const char *below, struct error *err)
{
	int used = snprintf(host->run, sizeof(host->run), "%s%s", directory, below);

	if (used < 0 || (size_t)used >= sizeof(host->run))
		return error_set(
			err, -ENAMETOOLONG, directory, "the path is too long for a journal");
	return 0;
}

static int set_root(struct host *host, const char *directory, struct error *err)
{
	if (!directory || !directory[0])
		return 0;
	if (!realpath(directory, host->root)) {
		error_sys(err, -errno, directory, "cannot look at the host in this tree");
		error_hint(err, "PENSTOCK_ROOT is to name a directory with sys/ and proc/");
		return err->code;
	}
	if (strcmp(host->root, "/") == 0)
		host->root[0] = '\0';
	return 0;
}

static bool is_own_directory(const char *path)
{
	struct stat stat_;

	return path && path[0] == '/' && stat(path, &stat_) == 0 && S_ISDIR(stat_.st_mode) &&
	       stat_.st_uid == geteuid();
}

/* A service has no XDG_RUNTIME_DIR, and who has come by su(1) that of another user. */
static int set_user_run(struct host *host, struct error *err)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char path[48];

	if (is_own_directory(runtime))
		return set_run(host, runtime, "/penstock", err);
	snprintf(path, sizeof(path), "/run/user/%u", geteuid());
	if (is_own_directory(path))
		return set_run(host, path, "/penstock", err);
	snprintf(path, sizeof(path), "/tmp/penstock-%u", geteuid());
	return set_run(host, path, "", err);
}

int host_init(struct host *host, const char *root, const char *run, struct error *err)
{
	*host = (struct host){ .progress_ms = PROGRESS_MS, .limit_ms = LIMIT_MS };
	if (set_root(host, root ? root : getenv("PENSTOCK_ROOT"), err))
		return err->code;
	if (run)
		return set_run(host, run, "", err);
	if (host->root[0])
		return set_run(host, host->root, HOST_RUN, err);
	return geteuid() ? set_user_run(host, err) : set_run(host, HOST_RUN, "", err);
}

bool host_is_live(const struct host *host)
{
	return host->root[0] == '\0';
}

static int path_v(const struct host *host, char *path, const char *format, va_list args)
{
	int root = snprintf(path, PATH_MAX, "%s", host->root);
	int rest;

	if (root < 0 || root >= PATH_MAX)
		return -ENAMETOOLONG;
	rest = vsnprintf(path + root, PATH_MAX - root, format, args);
	return rest < 0 || rest >= PATH_MAX - root ? -ENAMETOOLONG : 0;
}

int host_path(const struct host *host, char path[static PATH_MAX], const char *format, ...)
{
	va_list args;
	int code;

	va_start(args, format);
	code = path_v(host, path, format, args);
	va_end(args);
	return code;
}

const char *host_inside(const struct host *host, const char *real)
{
	size_t length = strlen(host->root);

	if (strncmp(real, host->root, length) || (real[length] && real[length] != '/'))
		return NULL;
	return real + length;
}

/* What host_open() gives ends here, however long the file is. */
struct reader {
	int fd;
	size_t left;
};

static ssize_t read_some(void *cookie, char *bytes, size_t size)
{
	struct reader *reader = cookie;
	ssize_t got = read(reader->fd, bytes, min_u64(size, reader->left));

	if (got > 0)
		reader->left -= got;
	return got;
}

static int end_reader(void *cookie)
{
	struct reader *reader = cookie;

	close(reader->fd);
	free(reader);
	return 0;
}

FILE *host_open(const struct host *host, const char *format, ...)
{
	static const cookie_io_functions_t functions = { .read = read_some, .close = end_reader };
	cleanup_free struct reader *reader = calloc(1, sizeof(*reader));
	char path[PATH_MAX];
	FILE *stream;
	va_list args;
	int code;

	va_start(args, format);
	code = path_v(host, path, format, args);
	va_end(args);
	if (code || !reader)
		return NULL;
	*reader = (struct reader){ fd_open_regular(path), FILE_MAX };
	if (reader->fd < 0)
		return NULL;
	stream = fopencookie(reader, "r", functions);
	if (stream)
		reader = NULL;
	else
		close(reader->fd);
	return stream;
}

static ssize_t read_line(const char *path, char *text, size_t size)
{
	ssize_t got = fd_read_file(path, text, size);

	if (got < 0)
		return got;
	text[strcspn(text, "\n")] = '\0';
	text_make_printable(text);
	return strlen(text);
}

ssize_t host_read(const struct host *host, char *text, size_t size, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;
	int code;

	text[0] = '\0';
	va_start(args, format);
	code = path_v(host, path, format, args);
	va_end(args);
	return code ? code : read_line(path, text, size);
}

long host_read_number(const struct host *host, long fallback, const char *format, ...)
{
	char path[PATH_MAX], text[32], *end;
	va_list args;
	long number;
	int code;

	va_start(args, format);
	code = path_v(host, path, format, args);
	va_end(args);
	if (code || read_line(path, text, sizeof(text)) <= 0)
		return fallback;
	errno = 0;
	number = strtol(text, &end, strncmp(text, "0x", 2) ? 10 : 16);
	return errno || end == text || *end ? fallback : number;
}

bool host_exists(const struct host *host, const char *path)
{
	char full[PATH_MAX];

	return host_path(host, full, "%s", path) == 0 && access(full, F_OK) == 0;
}

bool host_cmdline_has(const struct host *host, const char *word)
{
	size_t length = strlen(word);
	char path[PATH_MAX], line[4096], *save;
	bool prefix = length && word[length - 1] == '=';

	if (host_path(host, path, "/proc/cmdline") || fd_read_file(path, line, sizeof(line)) < 0)
		return false;
	for (char *at = strtok_r(line, " \n", &save); at; at = strtok_r(NULL, " \n", &save))
		if (prefix ? strncmp(at, word, length) == 0 : strcmp(at, word) == 0)
			return true;
	return false;
}

const char *host_iommu_off(const struct host *host)
{
	static const char *const words[] = { "iommu=off", "intel_iommu=off", "amd_iommu=off" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (host_cmdline_has(host, words[i]))
			return words[i];
	return NULL;
}

int host_read_link(const struct host *host, char *name, size_t size, const char *format, ...)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *slash;
	va_list args;
	ssize_t got;
	int code;

	name[0] = '\0';
	va_start(args, format);
	code = path_v(host, path, format, args);
	va_end(args);
	if (code)
		return code;
	got = readlink(path, target, sizeof(target) - 1);
	if (got < 0)
		return -errno;
	target[got] = '\0';
	slash = strrchr(target, '/');
	slash = slash ? slash + 1 : target;
	if (!slash[0] || strlen(slash) >= size)
		return -ENAMETOOLONG;
	text_format(name, size, "%s", slash);
	return 0;
}

void host_read_kernel(const struct host *host, char release[static HOST_NAME])
{
	host_read(host, release, HOST_NAME, "/proc/sys/kernel/osrelease");
	if (release[strspn(release, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789.+-_~")])
		release[0] = '\0';
}

/* A link of sysfs names each directory on its way to a device: most need not be followed, a system call for each of them. */
static bool leads_elsewhere(const char *link, const char *directory)
{
	char target[PATH_MAX];
	ssize_t got = readlink(link, target, sizeof(target) - 1);

	target[got < 0 ? 0 : got] = '\0';
	return got >= 0 && !strstr(target, strrchr(directory, '/'));
}

bool host_is_below(const struct host *host, const char *directory, const char *format, ...)
{
	char link[PATH_MAX], path[PATH_MAX], name[PATH_MAX / 2];
	size_t length = strlen(directory);
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	if (host_path(host, link, "%s", name) || leads_elsewhere(link, directory) ||
		!realpath(link, path))
		return false;
	return strncmp(path, directory, length) == 0 && path[length] == '/';
}
