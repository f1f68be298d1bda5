/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/journal/journal.h"
#include "host/reset/bus.h"
#include "host/reset/reset.h"
#include "host/reset/way.h"
#include "host/system/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PORT  "/sys/devices/pci0000:00/0000:00:01.0"
#define CARD  PORT "/0000:01:00.0"
#define SOUND PORT "/0000:01:00.1"
#define ALONE "/sys/devices/pci0000:00/0000:00:08.0"

static const struct bdf card = { 0, 1, 0, 0 };
static const struct bdf sound = { 0, 1, 0, 1 };
static const struct bdf alone = { 0, 0, 8, 0 };

/* The bytes of configuration space that are looked at; a file of them, as sysfs has one. */
static void write_config(struct fixture *fixture, const char *device, uint8_t vendor, uint8_t bar)
{
	uint8_t config[64] = { vendor, 0x80, 0x33, 0x15 };
	char path[PATH_MAX];
	int fd;

	config[0x13] = bar;
	if (vendor == 0xff)
		memset(config, 0xff, sizeof(config));
	snprintf(path, sizeof(path), "%s%s/config", fixture->tree, device);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0 && write(fd, config, sizeof(config)) == sizeof(config));
	close(fd);
}

static void make_device(struct fixture *fixture, const char *path, const char *driver, int group,
	const char *methods)
{
	char file[PATH_MAX];

	fixture_device(fixture, path, "0x030000", driver, group);
	write_config(fixture, path, 0x86, 0xe0);
	if (!methods)
		return;
	snprintf(file, sizeof(file), "%s/reset_method", path);
	fixture_file(fixture, file, methods);
	snprintf(file, sizeof(file), "%s/reset", path);
	fixture_file(fixture, file, "");
}

static void make_card(struct fixture *fixture, const char *methods, const char *sound_driver)
{
	fixture_device(fixture, PORT, "0x060400", "pcieport", 13);
	make_device(fixture, CARD, "vfio-pci", 13, methods);
	make_device(fixture, SOUND, sound_driver, 13, "");
	make_device(fixture, ALONE, NULL, 14, "pm\n");
}

static void assert_content(struct fixture *fixture, const char *file, const char *wanted)
{
	char text[64];

	host_read(&fixture->host, text, sizeof(text), "%s", file);
	assert_string_equal(text, wanted);
}

static int reset_it(struct fixture *fixture, const struct bdf *bdf, const char *method, bool dry,
	struct host_reset *reset, struct error *err)
{
	*err = (struct error){ 0 };
	assert_int_equal(host_reset_read(&fixture->host, bdf, reset, err), 0);
	return host_reset_run(&fixture->host, reset, method, dry, err);
}

static void assert_refused(struct fixture *fixture, const struct bdf *bdf, const char *method,
	int code, const char *what, const char *hint)
{
	struct host_reset reset;
	struct error err;

	assert_int_equal(reset_it(fixture, bdf, method, false, &reset, &err), code);
	if (!strstr(err.what, what) || !strstr(err.hint, hint))
		fail_msg("%s: %s; %s", err.object, err.what, err.hint);
	assert_string_equal(reset.used, "");
	assert_content(fixture, CARD "/reset", "");
}

static void methods_and_what_the_bus_hits(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err = { 0 };

	make_card(fixture, "flr bus\n", NULL);
	fixture_device(fixture, "/sys/devices/pci0000:00/0000:00:01.1/0000:02:00.0", "0x010802",
		"nvme", 15);
	assert_int_equal(host_reset_read(&fixture->host, &card, &reset, &err), 0);
	assert_int_equal(reset.method_count, 2);
	assert_string_equal(reset.methods[0], "flr");
	assert_string_equal(reset.methods[1], "bus");
	assert_int_equal(reset.hit_count, 2);
	assert_true(bdf_equal(&reset.hits[0], &card));
	assert_true(bdf_equal(&reset.hits[1], &sound));
	/* On a root bus there is no bridge whose reset would hit anything. */
	assert_int_equal(host_reset_read(&fixture->host, &alone, &reset, &err), 0);
	assert_int_equal(reset.hit_count, 0);
}

static void the_first_method_is_used(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err;

	make_card(fixture, "flr pm\n", NULL);
	assert_int_equal(reset_it(fixture, &card, NULL, false, &reset, &err), 0);
	assert_string_equal(reset.used, "flr");
	assert_content(fixture, CARD "/reset", "1");
	assert_content(fixture, CARD "/reset_method", "flr pm");
	assert_int_equal(reset_it(fixture, &card, "pm", false, &reset, &err), 0);
	assert_string_equal(reset.used, "pm");
	assert_content(fixture, CARD "/reset_method", "flr pm");
}

/* The kernel would have to probe it anew, and a list of one leaves nothing to choose. */
static void a_single_method_is_not_chosen(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err;

	make_card(fixture, "flr\n", NULL);
	fixture_file(fixture, ALONE "/reset_method", "pm \n");
	assert_int_equal(reset_it(fixture, &alone, NULL, false, &reset, &err), 0);
	assert_string_equal(reset.used, "pm");
	assert_content(fixture, ALONE "/reset_method", "pm ");
	/* The kernel's own bus reset does nothing for one that is not alone. */
	fixture_file(fixture, CARD "/reset_method", "flr bus \n");
	assert_int_equal(reset_it(fixture, &card, NULL, false, &reset, &err), 0);
	assert_string_equal(reset.used, "flr");
	assert_content(fixture, CARD "/reset_method", "flr bus ");
}

/*
 * In place of the kernel, in the child that writes to it: only the method that works resets, all others are
 * refused, and what is written is kept.
 */
static struct kernel {
	const char *works;
	char chosen[32];
	char written[256];
} * kernel;

int __real_fd_write_file(const char *path, const char *text);
int __wrap_fd_write_file(const char *path, const char *text);
int __wrap_fd_write_file(const char *path, const char *text)
{
	const char *file = strrchr(path, '/') + 1;
	size_t used;

	if (!kernel)
		return __real_fd_write_file(path, text);
	used = strlen(kernel->written);
	snprintf(kernel->written + used, sizeof(kernel->written) - used, "%s=%s;", file, text);
	if (strcmp(file, "reset_method") == 0) {
		snprintf(kernel->chosen, sizeof(kernel->chosen), "%s", text);
		return strcmp(text, "odd") == 0 ? -EINVAL : 0;
	}
	return strcmp(kernel->chosen, kernel->works) == 0 ? 0 : -ENOTTY;
}

static int reset_by_kernel(struct fixture *fixture, const char *works, const char *method,
	const char *written, struct host_reset *reset, struct error *err)
{
	int code;

	kernel = mmap(
		NULL, sizeof(*kernel), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(kernel != MAP_FAILED);
	kernel->works = works;
	code = reset_it(fixture, &card, method, false, reset, err);
	assert_string_equal(kernel->written, written);
	munmap(kernel, sizeof(*kernel));
	kernel = NULL;
	return code;
}

static void methods_are_tried_until_one_works(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err;

	make_card(fixture, "odd flr pm\n", NULL);
	assert_int_equal(
		reset_by_kernel(fixture, "pm", NULL,
			"reset_method=odd;reset_method=flr;reset=1;reset_method=pm;reset=1;"
			"reset_method=odd flr pm;",
			&reset, &err),
		0);
	assert_string_equal(reset.used, "pm");
	assert_int_equal(
		reset_by_kernel(fixture, "flr", NULL,
			"reset_method=odd;reset_method=flr;reset=1;reset_method=odd flr pm;",
			&reset, &err),
		0);
	assert_string_equal(reset.used, "flr");
}

static void only_the_method_that_is_asked_for_is_tried(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err;

	make_card(fixture, "flr pm\n", NULL);
	assert_int_equal(reset_by_kernel(fixture, "pm", "pm",
				 "reset_method=pm;reset=1;reset_method=flr pm;", &reset, &err),
		0);
	assert_string_equal(reset.used, "pm");
	assert_int_equal(reset_by_kernel(fixture, "flr", "pm",
				 "reset_method=pm;reset=1;reset_method=flr pm;", &reset, &err),
		-ENOTTY);
	assert_string_equal(reset.used, "");
	assert_non_null(strstr(err.what, "no reset that was tried works"));
	assert_non_null(strstr(err.hint, "dmesg"));
}

static void old_kernels_do_not_tell_methods(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err;

	make_card(fixture, NULL, NULL);
	fixture_file(fixture, CARD "/reset", "");
	assert_int_equal(reset_it(fixture, &card, NULL, false, &reset, &err), 0);
	assert_string_equal(reset.used, "default");
	assert_content(fixture, CARD "/reset", "1");
}

static void a_dry_run_changes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err;

	make_card(fixture, "flr bus\n", "vfio-pci");
	assert_int_equal(reset_it(fixture, &card, NULL, true, &reset, &err), 0);
	assert_int_equal(reset_it(fixture, &card, "bus", true, &reset, &err), 0);
	assert_string_equal(reset.used, "");
	assert_content(fixture, CARD "/reset", "");
	assert_int_not_equal(access(fixture->host.run, F_OK), 0);
}

static void what_the_host_has_is_refused(void **state)
{
	struct fixture *fixture = *state;

	make_card(fixture, "flr\n", "snd_hda_intel");
	assert_refused(fixture, &sound, NULL, -EBUSY,
		"a bus reset hits 0000:01:00.0 0000:01:00.1, but 0000:01:00.1 is not free: it is at "
		"the host's driver snd_hda_intel",
		"penstock bind 0000:01:00.1");
	assert_refused(fixture, &card, "bus", -EBUSY,
		"but 0000:01:00.1 is not free: it is at the host's driver snd_hda_intel", "bind");
	assert_refused(fixture, &(struct bdf){ 0, 0, 1, 0 }, NULL, -EOPNOTSUPP, "has a way", "");
	assert_refused(
		fixture, &card, "af_flr", -EINVAL, "no reset method 'af_flr'", "it has: flr bus");
}

static void a_function_of_a_host_driver_is_refused(void **state)
{
	struct fixture *fixture = *state;

	make_card(fixture, "flr\n", NULL);
	make_device(fixture, PORT "/0000:01:00.2", "xhci_hcd", 13, "flr\n");
	assert_refused(fixture, &(struct bdf){ 0, 1, 0, 2 }, NULL, -EBUSY,
		"it is at the host's driver xhci_hcd", "penstock bind 0000:01:00.2");
}

/* VFIO wants them all, so one without a driver is in the way as well. */
static void a_bus_reset_needs_all_at_vfio(void **state)
{
	struct fixture *fixture = *state;

	make_card(fixture, "flr\n", NULL);
	assert_refused(fixture, &card, "bus", -EBUSY,
		"but 0000:01:00.1 is not free: it is not at vfio-pci",
		"penstock bind 0000:01:00.1");
}

static pid_t hold(struct fixture *fixture, const struct bdf *bdf)
{
	struct host_record record = { .bdf = *bdf };
	struct error err = { 0 };
	int ends[2];
	char byte;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		host_holder_self("demo", &record.holder, &err);
		host_journal_write(&fixture->host, &record, &err);
		if (write(ends[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	close(ends[1]);
	return child;
}

static void a_machines_device_is_refused(void **state)
{
	struct fixture *fixture = *state;
	pid_t child;

	make_card(fixture, "flr\n", "vfio-pci");
	child = hold(fixture, &sound);
	assert_refused(fixture, &card, "bus", -EBUSY,
		"but 0000:01:00.1 is not free: it is held by penstock 'demo'", "free again");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	child = hold(fixture, &card);
	assert_refused(fixture, &card, NULL, -EBUSY, "it is held by penstock 'demo'", "free again");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void a_lost_device_is_named(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct reset_way way;
	struct error err;

	make_card(fixture, "flr\n", NULL);
	write_config(fixture, CARD, 0xff, 0);
	assert_int_equal(reset_it(fixture, &card, NULL, false, &reset, &err), -ENODEV);
	assert_string_equal(err.object, "0000:01:00.0");
	assert_non_null(strstr(err.what, "has not come back"));
	assert_true(bdf_equal(&reset.lost.bdf, &card));
	assert_true(reset_way_out(&reset.lost, 0, &way));
	assert_false(way.resets);
	/* With the device goes its driver_override. */
	assert_string_equal(way.command,
		"echo 0 >/sys/bus/pci/drivers_autoprobe; "
		"echo 1 >/sys/bus/pci/devices/0000:01:00.0/remove; sleep 1; "
		"echo 1 >/sys/bus/pci/rescan; penstock bind 0000:01:00.0; "
		"echo 1 >/sys/bus/pci/drivers_autoprobe");
	assert_true(reset_way_out(&reset.lost, 1, &way));
	assert_true(way.resets);
	assert_string_equal(way.command, "rtcwake -m mem -s 10");
	assert_false(reset_way_out(&reset.lost, 2, &way));
}

static void what_was_at_no_driver_is_not_bound(void **state)
{
	struct host_device device = { .bdf = card };
	struct reset_way way;

	(void)state;
	assert_true(reset_way_out(&device, 0, &way));
	assert_string_equal(way.command,
		"echo 1 >/sys/bus/pci/devices/0000:01:00.0/remove; sleep 1; "
		"echo 1 >/sys/bus/pci/rescan");
}

/* Linked in place of guard_call(), which comes between the look before the reset and the reset. */
static struct fixture *loses_bars;

int __real_guard_call(const struct guard *guard, int (*call)(const void *), const void *argument);
int __wrap_guard_call(const struct guard *guard, int (*call)(const void *), const void *argument);
int __wrap_guard_call(const struct guard *guard, int (*call)(const void *), const void *argument)
{
	if (loses_bars)
		write_config(loses_bars, CARD, 0x86, 0);
	return __real_guard_call(guard, call, argument);
}

static void lost_bars_are_seen(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err;

	make_card(fixture, "flr\n", NULL);
	loses_bars = fixture;
	reset_it(fixture, &card, NULL, false, &reset, &err);
	loses_bars = NULL;
	assert_int_equal(err.code, -ENODEV);
	assert_non_null(strstr(err.what, "without the addresses of its BARs"));
	assert_true(bdf_equal(&reset.lost.bdf, &card));
}

static void a_hung_reset_is_given_up(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err;

	make_card(fixture, "flr\n", NULL);
	fixture_pipe(fixture, CARD "/reset");
	fixture->host.limit_ms = 200;
	assert_int_equal(reset_it(fixture, &card, NULL, false, &reset, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.what, "waiting for its reset"));
	fixture_unblock(fixture, CARD "/reset");
}

/* In place of VFIO's bus reset: what a guarded child does, for as long as the test's kernel takes. */
static unsigned bus_takes_us;

int __wrap_reset_bus_run(const void *reset_bus);
int __wrap_reset_bus_run(const void *reset_bus)
{
	(void)reset_bus;
	usleep(bus_takes_us);
	return 0;
}

/* Given up, but under way in the kernel: nobody may have any of the devices meanwhile. */
static void a_bus_reset_locks_all_that_it_hits(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err;

	make_card(fixture, "flr\n", "vfio-pci");
	fixture->host.limit_ms = 100;
	bus_takes_us = 1000000;
	assert_int_equal(reset_it(fixture, &card, "bus", false, &reset, &err), -ETIMEDOUT);
	fixture_assert_changing(fixture, &card, true);
	fixture_assert_changing(fixture, &sound, true);
	fixture_assert_changing(fixture, &alone, false);
	fixture->host.limit_ms = 5000;
	fixture_assert_changing(fixture, &card, false);
	fixture_assert_changing(fixture, &sound, false);
}

static void vendor_reset_is_for_its_chips_only(void **state)
{
	struct host_device device = { .bdf = card, .vendor = 0x1002, .device = 0x731f };
	struct reset_way way;

	(void)state;
	assert_true(reset_way_out(&device, 0, &way));
	assert_non_null(strstr(way.command, "modprobe vendor-reset"));
	assert_non_null(strstr(way.command, "0000:01:00.0/reset_method"));
	device.device = 0x73bf; /* Navi 21 resets itself */
	assert_true(reset_way_out(&device, 0, &way));
	assert_null(strstr(way.command, "vendor-reset"));
	device = (struct host_device){ .bdf = card, .vendor = 0x10de, .device = 0x731f };
	assert_true(reset_way_out(&device, 0, &way));
	assert_null(strstr(way.command, "vendor-reset"));
}

static void hostile_methods(void **state)
{
	struct fixture *fixture = *state;
	struct host_reset reset;
	struct error err = { 0 };

	make_card(fixture,
		"a b c d e f g h i j k l a-name-that-is-longer-than-any-method-has \x1b[31m\n",
		NULL);
	assert_int_equal(host_reset_read(&fixture->host, &card, &reset, &err), 0);
	assert_int_equal(reset.method_count, RESET_METHODS_MAX);
	fixture_file(fixture, CARD "/reset_method", " \x1b[31m  \n");
	assert_int_equal(host_reset_read(&fixture->host, &card, &reset, &err), 0);
	assert_int_equal(reset.method_count, 1);
	assert_string_equal(reset.methods[0], "?[31m");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(methods_and_what_the_bus_hits),
		TEST(the_first_method_is_used),
		TEST(a_single_method_is_not_chosen),
		TEST(methods_are_tried_until_one_works),
		TEST(only_the_method_that_is_asked_for_is_tried),
		TEST(old_kernels_do_not_tell_methods),
		TEST(a_dry_run_changes_nothing),
		TEST(what_the_host_has_is_refused),
		TEST(a_function_of_a_host_driver_is_refused),
		TEST(a_bus_reset_needs_all_at_vfio),
		TEST(a_machines_device_is_refused),
		TEST(a_lost_device_is_named),
		TEST(what_was_at_no_driver_is_not_bound),
		TEST(lost_bars_are_seen),
		TEST(a_hung_reset_is_given_up),
		TEST(a_bus_reset_locks_all_that_it_hits),
		TEST(vendor_reset_is_for_its_chips_only),
		TEST(hostile_methods),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
