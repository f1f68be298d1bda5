/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <gcov.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Linked into every program of a coverage build, and into no other: when a process ends, its counters
 * go to the end of the file that $PENSTOCK_COVERAGE names or, in the lab, of /out/counters. It is opened
 * before main(), so the machine process, which may open none, writes them as well. scripts/coverage makes
 * the file and reads it: for each process a mark and the size of what follows; in this, for each object
 * file the sizes of its name and of its counters, the name, and the counters as a .gcda file has them.
 * Sizes have 32 bits.
 */

#define MARK       "penstock counters:" /* and what is behind it: who is killed writes only a part */
#define DESCRIPTOR 250 /* out of the way of tests that count descriptors or run out of them */

extern const struct gcov_info *const __start_gcov_counters[] __attribute__((weak));
extern const struct gcov_info *const __stop_gcov_counters[] __attribute__((weak));

int __real_close_range(unsigned first, unsigned last, int flags);
int __wrap_close_range(unsigned first, unsigned last, int flags);
void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));

static int file = -1;

struct buffer {
	uint8_t *bytes;
	size_t used, room;
	size_t data; /* where the current object's counters begin */
};

static void append(const void *bytes, unsigned count, void *argument)
{
	struct buffer *buffer = argument;

	if (buffer->used + count > buffer->room) {
		buffer->room = 2 * buffer->room + count;
		buffer->bytes = realloc(buffer->bytes, buffer->room);
		if (!buffer->bytes)
			abort();
	}
	memcpy(buffer->bytes + buffer->used, bytes, count);
	buffer->used += count;
}

static void append_name(const char *name, void *argument)
{
	struct buffer *buffer = argument;
	uint32_t sizes[2] = { strlen(name) };

	append(sizes, sizeof(sizes), buffer);
	append(name, sizes[0], buffer);
	buffer->data = buffer->used;
}

static void *allocate(unsigned size, void *argument)
{
	(void)argument;
	return malloc(size);
}

/* In one write, as other processes write to the file too. */
__attribute__((destructor)) static void write_counters(void)
{
	struct buffer buffer = { 0 };
	uint32_t total = 0;

	if (file < 0)
		return;
	append(MARK, sizeof(MARK) - 1, &buffer);
	append(&total, sizeof(total), &buffer);
	for (const struct gcov_info *const *info = __start_gcov_counters;
		info < __stop_gcov_counters; info++) {
		size_t start = buffer.used;
		uint32_t size;

		__gcov_info_to_gcda(*info, append_name, append, allocate, &buffer);
		size = buffer.used - buffer.data;
		memcpy(buffer.bytes + start + sizeof(size), &size, sizeof(size));
	}
	total = buffer.used - (sizeof(MARK) - 1) - sizeof(total);
	memcpy(buffer.bytes + sizeof(MARK) - 1, &total, sizeof(total));
	if (write(file, buffer.bytes, buffer.used) != (ssize_t)buffer.used)
		abort();
	free(buffer.bytes);
	file = -1;
}

__attribute__((constructor)) static void open_file(void)
{
	const char *path = getenv("PENSTOCK_COVERAGE");
	int fd = open(path ? path : "/out/counters", O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd < 0)
		return;
	file = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR);
	close(fd);
}

void __wrap__exit(int status)
{
	write_counters();
	__real__exit(status);
}

/* What closes all descriptors leaves that one open. */
int __wrap_close_range(unsigned first, unsigned last, int flags)
{
	if (file < 0 || (unsigned)file < first || (unsigned)file > last)
		return __real_close_range(first, last, flags);
	if ((unsigned)file > first && __real_close_range(first, file - 1, flags) < 0)
		return -1;
	return (unsigned)file < last ? __real_close_range(file + 1, last, flags) : 0;
}
