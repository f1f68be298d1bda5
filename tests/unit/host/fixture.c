/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"
#include "host/journal/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

int fixture_setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct error err = { 0 };
	char run[80];

	assert_non_null(fixture);
	strcpy(fixture->tree, "/tmp/penstock-host-XXXXXX");
	assert_non_null(mkdtemp(fixture->tree));
	snprintf(run, sizeof(run), "%s/run", fixture->tree);
	assert_int_equal(host_init(&fixture->host, fixture->tree, run, &err), 0);
	*state = fixture;
	return 0;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	(void)stat, (void)type, (void)walk;
	return remove(path);
}

int fixture_teardown(void **state)
{
	struct fixture *fixture = *state;

	nftw(fixture->tree, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(fixture);
	return 0;
}

static void full_path(const struct fixture *fixture, char full[PATH_MAX], const char *path)
{
	snprintf(full, PATH_MAX, "%s%s", fixture->tree, path);
	for (char *at = full + strlen(fixture->tree) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(full, 0755);
		*at = '/';
	}
}

void fixture_file(struct fixture *fixture, const char *path, const char *text)
{
	char full[PATH_MAX];
	FILE *stream;

	full_path(fixture, full, path);
	if (!text)
		return;
	stream = fopen(full, "w");
	assert_non_null(stream);
	fputs(text, stream);
	fclose(stream);
}

void fixture_pipe(struct fixture *fixture, const char *path)
{
	char full[PATH_MAX];

	full_path(fixture, full, path);
	unlink(full);
	assert_int_equal(mkfifo(full, 0600), 0);
}

void fixture_unblock(struct fixture *fixture, const char *path)
{
	char full[PATH_MAX];
	int fd;

	full_path(fixture, full, path);
	/* One that nobody writes to is a failure, not a test that hangs. */
	fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	assert_true(fd >= 0);
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000), 1);
	fcntl(fd, F_SETFL, 0);
	while (read(fd, full, sizeof(full)) > 0)
		;
	close(fd);
}

void fixture_link(struct fixture *fixture, const char *path, const char *target)
{
	char full[PATH_MAX], relative[PATH_MAX] = "";

	full_path(fixture, full, path);
	for (const char *at = path + 1; (at = strchr(at, '/')); at++)
		strcat(relative, "../");
	strcat(relative, target + 1);
	assert_int_equal(symlink(relative, full), 0);
}

static const char *last(const char *path)
{
	return strrchr(path, '/') + 1;
}

__attribute__((format(printf, 2, 3))) static const char *text(
	char buffer[PATH_MAX], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(buffer, PATH_MAX, format, args);
	va_end(args);
	return buffer;
}

void fixture_device(struct fixture *fixture, const char *path, const char *class_code,
	const char *driver, int group)
{
	char a[PATH_MAX], b[PATH_MAX];

	fixture_file(fixture, text(a, "%s/vendor", path), "0x8086\n");
	fixture_file(fixture, text(a, "%s/device", path), "0x1533\n");
	fixture_file(fixture, text(a, "%s/subsystem_vendor", path), "0x1043\n");
	fixture_file(fixture, text(a, "%s/subsystem_device", path), "0x85f0\n");
	fixture_file(fixture, text(a, "%s/class", path), text(b, "%s\n", class_code));
	fixture_file(fixture, text(a, "%s/numa_node", path), "-1\n");
	fixture_file(fixture, text(a, "%s/driver_override", path), "(null)\n");
	fixture_link(fixture, text(a, "/sys/bus/pci/devices/%s", last(path)), path);
	if (driver) {
		fixture_file(fixture, text(a, "/sys/bus/pci/drivers/%s/bind", driver), "");
		fixture_link(fixture, text(a, "%s/driver", path),
			text(b, "/sys/bus/pci/drivers/%s", driver));
	}
	if (group < 0)
		return;
	fixture_link(fixture, text(a, "%s/iommu_group", path),
		text(b, "/sys/kernel/iommu_groups/%d", group));
	fixture_link(fixture, text(a, "/sys/kernel/iommu_groups/%d/devices/%s", group, last(path)),
		path);
}

void fixture_disk(struct fixture *fixture, const char *path, const char *number)
{
	char a[PATH_MAX];

	fixture_file(fixture, text(a, "%s/dev", path), number);
	fixture_link(fixture, text(a, "/sys/block/%s", last(path)), path);
}

void fixture_partition(struct fixture *fixture, const char *path, const char *number)
{
	char a[PATH_MAX];

	fixture_file(fixture, text(a, "%s/dev", path), number);
	fixture_file(fixture, text(a, "%s/partition", path), "1\n");
}

void fixture_holder(struct fixture *fixture, const char *path, const char *holder)
{
	char a[PATH_MAX];

	fixture_link(fixture, text(a, "%s/holders/%s", path, last(holder)), holder);
}

void fixture_interface(struct fixture *fixture, const char *path)
{
	char a[PATH_MAX];

	fixture_file(fixture, text(a, "%s/flags", path), "0x1003\n");
	fixture_link(fixture, text(a, "/sys/class/net/%s", last(path)), path);
}

static void put_bytes(struct fixture *fixture, const char *path, const char *bytes, size_t size)
{
	char full[PATH_MAX];
	FILE *stream;

	full_path(fixture, full, path);
	stream = fopen(full, "w");
	assert_non_null(stream);
	assert_int_equal(fwrite(bytes, 1, size, stream), size);
	fclose(stream);
}

/* In place: what is left is no longer than what was there. */
static size_t decode_text(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		if (*from == '\\' && from[1])
			*to++ = *++from == 'n' ? '\n' : *from;
		else
			*to++ = *from;
	}
	*to++ = '\n';
	return to - text;
}

static size_t decode_hex(char *text)
{
	size_t size = 0;
	unsigned byte;

	while (sscanf(text + 2 * size, "%2x", &byte) == 1)
		text[size++] = byte;
	return size;
}

static void load_line(struct fixture *fixture, char *line)
{
	char full[PATH_MAX], *space = strchr(line, ' ');

	if (!space) {
		full_path(fixture, full, line); /* makes all up to the last slash */
		return;
	}
	*space = '\0';
	if (strncmp(space + 1, "-> ", 3) == 0) {
		full_path(fixture, full, line);
		assert_int_equal(symlink(space + 4, full), 0);
	} else if (strncmp(space + 1, ": ", 2) == 0) {
		put_bytes(fixture, line, space + 3, decode_hex(space + 3));
	} else {
		assert_int_equal(strncmp(space + 1, "= ", 2), 0);
		put_bytes(fixture, line, space + 3, decode_text(space + 3));
	}
}

void fixture_load(struct fixture *fixture, const char *name)
{
	char path[PATH_MAX], *line = NULL;
	size_t room = 0;
	ssize_t length;
	FILE *stream;

	snprintf(path, sizeof(path), "%s/%s.host", getenv("PENSTOCK_HOSTS"), name);
	stream = fopen(path, "r");
	assert_non_null(stream);
	while ((length = getline(&line, &room, stream)) > 0) {
		/* A byte of room for what decode_text() adds. */
		if (line[length - 1] == '\n')
			line[length - 1] = '\0';
		if (line[0] == '/')
			load_line(fixture, line);
	}
	free(line);
	fclose(stream);
}

pid_t fixture_start_other(struct host_holder *holder)
{
	struct error err = { 0 };
	int ends[2];
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		struct host_holder self = { 0 };

		host_holder_self("other", &self, &err);
		if (write(ends[1], &self, sizeof(self)) == sizeof(self))
			pause();
		_exit(1);
	}
	assert_int_equal(read(ends[0], holder, sizeof(*holder)), sizeof(*holder));
	close(ends[0]);
	close(ends[1]);
	return child;
}

void fixture_end_other(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

void fixture_assert_changing(struct fixture *fixture, const struct bdf *bdf, bool changing)
{
	struct error err = { 0 };
	int lock = host_journal_lock(&fixture->host, bdf, &err);

	if ((lock == -ETIMEDOUT) != changing)
		fail_msg("%s: %s", err.object, err.what);
	if (lock >= 0)
		close(lock);
}
