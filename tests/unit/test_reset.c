/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/reset.h"

#include "base/fd.h"
#include "host/fixture.h"
#include "host/journal/used.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What a user is told of a device that nothing resets, and what is done for the host. */

#define PORT  "/sys/devices/pci0000:00/0000:00:01.0"
#define CARD  PORT "/0000:01:00.0"
#define ALONE "/sys/devices/pci0000:00/0000:00:08.0"

static const struct bdf card = { 0, 1, 0, 0 };
static const struct bdf alone = { 0, 0, 8, 0 };

static void tell(
	struct fixture *fixture, const struct bdf *bdf, const char *machine, char said[static 512])
{
	int copy = dup(STDERR_FILENO), log = memfd_create("stderr", MFD_CLOEXEC);
	ssize_t got;

	assert_true(copy >= 0 && log >= 0);
	fflush(stderr);
	dup2(log, STDERR_FILENO);
	broker_reset_tell(&fixture->host, bdf, machine);
	fflush(stderr);
	dup2(copy, STDERR_FILENO);
	got = pread(log, said, 511, 0);
	assert_true(got >= 0);
	said[got] = '\0';
	close(log);
	close(copy);
}

static void assert_quiet(struct fixture *fixture, const struct bdf *bdf, const char *machine)
{
	char said[512];

	tell(fixture, bdf, machine, said);
	assert_string_equal(said, "");
}

static void the_second_machine_is_told_of_the_first(void **state)
{
	struct fixture *fixture = *state;
	char said[512], name[HOST_NAME];

	fixture_device(fixture, ALONE, "0x030000", "vfio-pci", 14);
	assert_quiet(fixture, &alone, "first");
	tell(fixture, &alone, "second", said);
	assert_non_null(strstr(said, "0000:00:08.0: it cannot be reset"));
	assert_non_null(strstr(said, "'first'"));
	assert_non_null(strstr(said, "rtcwake"));
	tell(fixture, &alone, "third", said);
	assert_non_null(strstr(said, "'second'"));
	assert_true(host_used_by(&fixture->host, &alone, name));
	assert_string_equal(name, "third");
}

/* By a method of its own, or with its bus. */
static void nothing_is_told_of_a_device_that_is_reset(void **state)
{
	struct fixture *fixture = *state;
	char said[512], name[HOST_NAME];

	fixture_device(fixture, PORT, "0x060400", "pcieport", 13);
	fixture_device(fixture, CARD, "0x030000", "vfio-pci", 13);
	fixture_device(fixture, ALONE, "0x030000", "vfio-pci", 14);
	fixture_file(fixture, ALONE "/reset_method", "pm\n");
	for (unsigned start = 0; start < 2; start++) {
		assert_quiet(fixture, &card, "demo");
		assert_quiet(fixture, &alone, "demo");
	}
	assert_false(host_used_by(&fixture->host, &alone, name));
	/* A function beside it, which the host has, keeps the bus from it. */
	fixture_device(fixture, PORT "/0000:01:00.1", "0x040300", "snd_hda_intel", 15);
	assert_quiet(fixture, &card, "demo");
	tell(fixture, &card, "demo", said);
	assert_non_null(strstr(said, "0000:01:00.0: it cannot be reset"));
}

/* Eight bytes of configuration space, the command register behind the ids. */
static unsigned command_after(struct fixture *fixture, const char *path, const struct bdf *bdf)
{
	char config[PATH_MAX], file[PATH_MAX], bytes[16];

	snprintf(config, sizeof(config), "%s/config", path);
	assert_int_equal(host_path(&fixture->host, file, "%s", config), 0);
	fixture_file(fixture, config, "\x86\x80\x33\x15\x03\x01\x10\x20");
	broker_reset_mute(&fixture->host, bdf);
	assert_int_equal(fd_read_file(file, bytes, sizeof(bytes)), 8);
	assert_memory_equal(bytes, "\x86\x80\x33\x15\x03", 5);
	assert_memory_equal(&bytes[6], "\x10\x20", 2);
	return (uint8_t)bytes[5];
}

/* Between two users; what is reset says nothing by then. */
static void the_line_of_a_device_that_nothing_resets_is_switched_off(void **state)
{
	struct fixture *fixture = *state;

	fixture_device(fixture, ALONE, "0x030000", "vfio-pci", 14);
	assert_int_equal(command_after(fixture, ALONE, &alone), 0x05);
	fixture_file(fixture, ALONE "/reset_method", "pm\n");
	assert_int_equal(command_after(fixture, ALONE, &alone), 0x01);
	broker_reset_mute(&fixture->host, &card); /* it has gone */
}

static void what_is_no_note_is_not_believed(void **state)
{
	static const char *const notes[] = { "", "\n", "cut", "a b\n", "../x\n", "a\nb\n" };
	struct fixture *fixture = *state;
	char name[HOST_NAME];

	assert_int_equal(host_used_note(&fixture->host, &alone, "demo"), 0);
	assert_true(host_used_by(&fixture->host, &alone, name));
	for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
		fixture_file(fixture, "/run/used/0000:00:08.0", notes[i]);
		assert_false(host_used_by(&fixture->host, &alone, name));
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_second_machine_is_told_of_the_first),
		CASE(nothing_is_told_of_a_device_that_is_reset),
		CASE(the_line_of_a_device_that_nothing_resets_is_switched_off),
		CASE(what_is_no_note_is_not_believed),
	};

	return test_run(tests);
}
