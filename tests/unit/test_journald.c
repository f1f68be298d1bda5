/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/error.h"
#include "base/journald.h"
#include "base/log.h"

#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

ssize_t __wrap_sendto(int fd, const void *bytes, size_t size, int flags,
	const struct sockaddr *address, socklen_t length);

/* What the journal was sent last, and whether it takes it. */
static char entry[4096];
static bool is_there;
/* The last that it was sent was nothing, for whoever waits until the rest is read. */
static bool waits;

ssize_t __wrap_sendto(int fd, const void *bytes, size_t size, int flags,
	const struct sockaddr *address, socklen_t length)
{
	(void)fd, (void)flags, (void)length;
	assert_string_equal(
		((const struct sockaddr_un *)address)->sun_path, "/run/systemd/journal/socket");
	if (!is_there)
		return -1;
	assert_true(size < sizeof(entry));
	waits = !size;
	if (waits)
		return 0;
	memcpy(entry, bytes, size);
	entry[size] = '\0';
	return size;
}

/* What goes to stderr while speak() is called, which is the journal's stream, or is said to be. */
static void hear(void (*speak)(void), bool is_stream, char *text, size_t size)
{
	int said = memfd_create("stderr", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
	struct stat status;
	char stream[64];
	ssize_t got;

	entry[0] = '\0';
	fstat(said, &status);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)status.st_dev,
		(unsigned long long)status.st_ino + !is_stream);
	setenv("JOURNAL_STREAM", stream, 1);
	dup2(said, STDERR_FILENO);
	speak();
	dup2(saved, STDERR_FILENO);
	got = pread(said, text, size - 1, 0);
	text[got < 0 ? 0 : got] = '\0';
	close(saved);
	close(said);
}

static void tell_error(void)
{
	struct error err = { 0 };

	error_set(&err, -EBUSY, "0000:01:00.0", "in use by 10000:e1:00.7\n");
	error_hint(&err, "wait");
	error_print(&err);
}

static void warn(void)
{
	log_warning("vm1: at /sys/bus/pci/devices/0000:02:1f.3, not 00:1f.3, 12:30:45.6 or fade.");
}

static void inform(void)
{
	log_info("two");
}

static void inform_as_machine(void)
{
	journald_leave();
	log_info("two");
}

TEST(messages_have_their_devices)
{
	char text[256];

	is_there = true;
	hear(tell_error, true, text, sizeof(text));
	assert_string_equal(text, "");
	assert_string_equal(entry, "MESSAGE=0000:01:00.0: in use by 10000:e1:00.7?; next: wait\n"
				   "PRIORITY=3\nSYSLOG_IDENTIFIER=penstock\n"
				   "PENSTOCK_DEVICE=0000:01:00.0\nPENSTOCK_DEVICE=10000:e1:00.7\n");
	assert_true(waits);
	hear(warn, true, text, sizeof(text));
	assert_string_equal(text, "");
	assert_string_equal(entry,
		"MESSAGE=vm1: at /sys/bus/pci/devices/0000:02:1f.3, not 00:1f.3, 12:30:45.6 or fade.\n"
		"PRIORITY=4\nSYSLOG_IDENTIFIER=penstock\nPENSTOCK_DEVICE=0000:02:1f.3\n");
	hear(inform, true, text, sizeof(text));
	assert_false(waits);
	assert_string_equal(entry, "MESSAGE=two\nPRIORITY=6\nSYSLOG_IDENTIFIER=penstock\n");
}

TEST(messages_for_others_are_on_stderr)
{
	char text[256];

	is_there = true;
	hear(tell_error, false, text, sizeof(text));
	assert_string_equal(
		text, "penstock: 0000:01:00.0: in use by 10000:e1:00.7?\n  next: wait\n");
	hear(inform_as_machine, true, text, sizeof(text));
	assert_string_equal(text, "penstock: two\n");
	assert_string_equal(entry, "");
	is_there = false;
	hear(inform, true, text, sizeof(text));
	assert_string_equal(text, "penstock: two\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_have_their_devices),
		cmocka_unit_test(messages_for_others_are_on_stderr),
	};

	return test_run(tests);
}
