/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "broker/image_work.h"
#include "fake_program.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* On a file system that makes no file without a name, which there is none of here. qemu-img does nothing. */

static char directory[] = "/tmp/penstock-work-XXXXXX";
static const struct broker_disk_config config = { .path = "new.qcow2" };
static struct error err;
static bool has_links;
static void (*meanwhile)(void); /* before it gets its name */

int __wrap_open64(const char *path, int flags, ...);
int __real_open64(const char *path, int flags, ...);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __real_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);

int __wrap_open64(const char *path, int flags, ...)
{
	va_list args;
	int fd;

	if ((flags & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	va_start(args, flags);
	fd = __real_open64(path, flags, flags & O_CREAT ? va_arg(args, mode_t) : 0);
	va_end(args);
	return fd;
}

int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	if (meanwhile)
		meanwhile();
	errno = EPERM;
	return has_links ? __real_linkat(from_fd, from, to_fd, to, flags) : -1;
}

static int setup(void **state)
{
	(void)state;
	fake_program_make(directory, "qemu-img");
	assert_int_equal(chdir(directory), 0);
	/* With sanitizers this program wants more memory than it may have. */
	assert_int_equal(unlink("qemu-img"), 0);
	assert_int_equal(symlink("/bin/true", "qemu-img"), 0);
	err = (struct error){ 0 };
	has_links = true;
	meanwhile = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_program_remove(directory);
	return 0;
}

/* The hidden file; "": there is none. Besides it there are the program and so many others. */
static void find_hidden(char name[static 64], unsigned others)
{
	DIR *stream = opendir(".");
	struct dirent *entry;
	unsigned count = 0;

	name[0] = '\0';
	while ((entry = readdir(stream))) {
		if (strncmp(entry->d_name, ".penstock-", 10) == 0)
			snprintf(name, 64, "%.63s", entry->d_name);
		else if (entry->d_name[0] != '.')
			count++;
	}
	closedir(stream);
	assert_int_equal(count, 1 + others);
}

static void make_file(const char *name)
{
	FILE *file = fopen(name, "w");

	fputs("precious", file);
	fclose(file);
}

static void assert_precious(const char *name)
{
	char text[16];

	assert_true(fd_read_file(name, text, sizeof(text)) > 0);
	assert_string_equal(text, "precious");
}

static void see_no_half_image(void)
{
	char hidden[64];

	find_hidden(hidden, 0);
	assert_string_not_equal(hidden, "");
}

static void take_its_name(void)
{
	make_file(config.path);
}

static void take_its_hidden_name(void)
{
	char hidden[64];

	find_hidden(hidden, 0);
	assert_int_equal(unlink(hidden), 0);
	make_file(hidden);
	make_file(config.path);
}

TEST(half_an_image_does_not_have_its_name)
{
	struct stat stat;
	char hidden[64];

	for (unsigned i = 0; i < 2; i++) {
		has_links = i;
		meanwhile = see_no_half_image;
		broker_image_create(&config, 1 << 20, &err);
		if (err.code)
			fail_msg("%s: %s", err.object, err.what);
		assert_int_equal(lstat(config.path, &stat), 0);
		assert_int_equal(stat.st_mode & 07777, 0600);
		assert_int_equal(stat.st_nlink, 1);
		find_hidden(hidden, 1);
		assert_string_equal(hidden, "");
		assert_int_equal(unlink(config.path), 0);
	}
}

TEST(one_that_came_meanwhile_is_kept)
{
	char hidden[64];

	for (unsigned i = 0; i < 2; i++) {
		has_links = i;
		meanwhile = take_its_name;
		err = (struct error){ 0 };
		assert_int_equal(broker_image_create(&config, 1 << 20, &err), -EEXIST);
		assert_precious(config.path);
		find_hidden(hidden, 1);
		assert_string_equal(hidden, "");
		assert_int_equal(unlink(config.path), 0);
	}
}

TEST(what_is_another_ones_is_not_removed)
{
	char hidden[64];

	meanwhile = take_its_hidden_name;
	assert_int_equal(broker_image_create(&config, 1 << 20, &err), -EEXIST);
	find_hidden(hidden, 1);
	assert_precious(hidden);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(half_an_image_does_not_have_its_name),
		test(one_that_came_meanwhile_is_kept),
		test(what_is_another_ones_is_not_removed),
	};

	return test_run(tests);
}
