/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/binding/bind.h"
#include "host/binding/release.h"
#include "host/system/guard.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* From drivers to vfio-pci and back, with a kernel that moves devices as it is told to, or does not. */

#define PORT  "/sys/devices/pci0000:00/0000:00:01.0"
#define CARD  PORT "/0000:01:00.0"
#define SOUND PORT "/0000:01:00.1"
#define DISK  "/sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0"

static const struct bdf card = { 0, 1, 0, 0 };
static const struct bdf sound = { 0, 1, 0, 1 };
static const struct bdf disk = { 0, 2, 0, 0 };

static const struct bind_options plain = { .owner = "demo" };
static const struct bind_options for_good = { .owner = "bind", .persist = true };

static struct {
	struct fixture *fixture;
	const char *refuses; /* the driver that takes nothing */
	const char *refused; /* the device that nothing takes */
	const char *moved,
		*moved_to;        /* a device, and the driver that has it whatever is asked for */
	const char *keeps;        /* the driver that lets nothing go */
	bool native_only_by_name; /* the host's drivers take a device only when told to */
	bool override_fails;
	const char *meddles; /* somebody sets this override just before a change of ours is made */
	unsigned locked_ms;  /* a read of driver_override waits for so long */
	bool console_stays;  /* whatever is written */
	bool drops_buffer;   /* the firmware's, when vfio-pci takes a card */
} kernel;

static void set_driver(const char *device, const char *driver)
{
	char link[PATH_MAX], path[PATH_MAX];

	if ((kernel.refuses && strcmp(kernel.refuses, driver) == 0) ||
		(kernel.refused && strcmp(kernel.refused, device) == 0))
		return;
	snprintf(link, sizeof(link), "%s/sys/bus/pci/devices/%s/driver", kernel.fixture->tree,
		device);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers/%s", kernel.fixture->tree, driver);
	if (access(path, F_OK) == 0)
		symlink(path, link);
}

static const char *native_driver(const char *device)
{
	return strcmp(device, "0000:01:00.0") == 0   ? "amdgpu"
	       : strcmp(device, "0000:01:00.1") == 0 ? "snd_hda_intel"
						     : "nvme";
}

static void drop_buffer(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/sys/bus/platform/devices/simple-framebuffer.0",
		kernel.fixture->tree);
	unlink(path);
}

static void probe(const char *device)
{
	char override[HOST_NAME];

	host_read(&kernel.fixture->host, override, sizeof(override),
		"/sys/bus/pci/devices/%s/driver_override", device);
	if (kernel.drops_buffer && strcmp(override, "vfio-pci") == 0)
		drop_buffer();
	if (kernel.moved && strcmp(kernel.moved, device) == 0)
		set_driver(device, kernel.moved_to);
	else if (override[0] && strcmp(override, "(null)"))
		set_driver(device, override);
	else if (!kernel.native_only_by_name)
		set_driver(device, native_driver(device));
}

int __real_fd_write_file(const char *path, const char *text);
int __wrap_fd_write_file(const char *path, const char *text);

static int unbind(const char *device)
{
	char link[PATH_MAX], driver[HOST_NAME];

	host_read_link(&kernel.fixture->host, driver, sizeof(driver),
		"/sys/bus/pci/devices/%s/driver", device);
	if (kernel.keeps && strcmp(kernel.keeps, driver) == 0)
		return 0;
	snprintf(link, sizeof(link), "%s/sys/bus/pci/devices/%s/driver", kernel.fixture->tree,
		device);
	return unlink(link) < 0 ? -errno : 0;
}

/* What is done in the children, in its order, but for the sound: "console 0, unbind 0000:01:00.0, ". */
static void note_step(const char *what, const char *object)
{
	char path[128];
	FILE *file;

	if (strcmp(object, "0000:01:00.1") == 0)
		return;
	snprintf(path, sizeof(path), "%s/steps", kernel.fixture->tree);
	file = fopen(path, "ae");
	assert_non_null(file);
	fprintf(file, "%s %s, ", what, object);
	fclose(file);
}

static int write_console(const char *path, const char *text)
{
	note_step("console", text);
	return kernel.console_stays || truncate(path, 0) ? 0 : __real_fd_write_file(path, text);
}

/* The platform device is known to its driver by a link, and the driver to it. */
static int move_framebuffer(const char *name, bool bind)
{
	char at_driver[PATH_MAX], at_device[PATH_MAX];

	note_step(bind ? "bind" : "unbind", name);
	snprintf(at_driver, sizeof(at_driver), "%s/sys/bus/platform/drivers/simple-framebuffer/%s",
		kernel.fixture->tree, name);
	snprintf(at_device, sizeof(at_device), "%s/sys/bus/platform/devices/%s/driver",
		kernel.fixture->tree, name);
	if (!bind)
		return unlink(at_driver) || unlink(at_device) ? -errno : 0;
	return symlink("../../devices/simple-framebuffer.0", at_driver) ||
			       symlink("../../drivers/simple-framebuffer", at_device)
		       ? -errno
		       : 0;
}

int __wrap_fd_write_file(const char *path, const char *text)
{
	const char *file = strrchr(path, '/') + 1, *drivers = strstr(path, "/drivers/");
	char driver[HOST_NAME];

	if (strstr(path, "/vtconsole/"))
		return write_console(path, text);
	if (strstr(path, "/platform/drivers/"))
		return move_framebuffer(text, strcmp(file, "bind") == 0);
	if (strcmp(file, "unbind") == 0) {
		note_step("unbind", text);
		return unbind(text);
	}
	if (strcmp(file, "drivers_probe") == 0) {
		note_step("probe", text);
		probe(text);
		return 0;
	}
	if (strcmp(file, "bind") == 0 && drivers) {
		snprintf(driver, sizeof(driver), "%.*s",
			(int)(file - 1 - (drivers + strlen("/drivers/"))),
			drivers + strlen("/drivers/"));
		set_driver(text, driver);
		return 0;
	}
	if (strcmp(file, "driver_override") == 0 && kernel.override_fails)
		return -EINVAL;
	if (strcmp(file, "driver_override") == 0 && truncate(path, 0) == 0)
		return __real_fd_write_file(path, strcmp(text, "\n") ? text : "(null)\n");
	return __real_fd_write_file(path, text);
}

ssize_t __real_fd_read_file(const char *path, char *buffer, size_t size);
ssize_t __wrap_fd_read_file(const char *path, char *buffer, size_t size);
ssize_t __wrap_fd_read_file(const char *path, char *buffer, size_t size)
{
	if (strstr(path, "/driver_override"))
		usleep(kernel.locked_ms * 1000);
	return __real_fd_read_file(path, buffer, size);
}

static void meddle(void)
{
	if (kernel.meddles)
		fixture_file(kernel.fixture, DISK "/driver_override", kernel.meddles);
}

int __real_guard_write(const struct guard *guard, const char *path, const char *text);
int __wrap_guard_write(const struct guard *guard, const char *path, const char *text);
int __wrap_guard_write(const struct guard *guard, const char *path, const char *text)
{
	meddle();
	return __real_guard_write(guard, path, text);
}

int __real_guard_call(const struct guard *guard, int (*call)(const void *), const void *argument);
int __wrap_guard_call(const struct guard *guard, int (*call)(const void *), const void *argument);
int __wrap_guard_call(const struct guard *guard, int (*call)(const void *), const void *argument)
{
	meddle();
	return __real_guard_call(guard, call, argument);
}

static int setup(void **state)
{
	int code = fixture_setup(state);
	struct fixture *fixture = *state;

	memset(&kernel, 0, sizeof(kernel));
	kernel.fixture = fixture;
	fixture_device(fixture, PORT, "0x060400", "pcieport", 13);
	fixture_device(fixture, CARD, "0x030000", "amdgpu", 13);
	fixture_device(fixture, SOUND, "0x040300", "snd_hda_intel", 13);
	fixture_device(fixture, DISK, "0x010802", "nvme", 14);
	fixture_file(fixture, "/sys/bus/pci/drivers/vfio-pci/bind", "");
	fixture_file(fixture, "/sys/bus/pci/drivers/nouveau/bind", "");
	return code;
}

static void assert_at(
	struct fixture *fixture, const struct bdf *bdf, const char *driver, const char *override)
{
	char now[HOST_NAME], text[HOST_NAME], name[BDF_TEXT];

	assert_int_equal(host_device_driver(&fixture->host, bdf, now), 0);
	assert_string_equal(now, driver);
	host_read(&fixture->host, text, sizeof(text), "/sys/bus/pci/devices/%s/driver_override",
		bdf_format(bdf, name));
	assert_string_equal(strcmp(text, "(null)") ? text : "", override);
}

static void assert_all_as_before(struct fixture *fixture)
{
	struct error err = { 0 };
	struct bdf *records;
	char path[128];

	assert_at(fixture, &card, "amdgpu", "");
	assert_at(fixture, &sound, "snd_hda_intel", "");
	assert_at(fixture, &disk, "nvme", "");
	assert_int_equal(host_journal_list(&fixture->host, &records, &err), 0);
	free(records);
	snprintf(path, sizeof(path), "%s/run/binds", fixture->tree);
	assert_true(rmdir(path) == 0 || errno == ENOENT);
}

static void assert_error(const struct error *err, const char *what, const char *hint)
{
	if (!strstr(err->what, what) || !strstr(err->hint, hint))
		fail_msg("%s: %s; %s", err->object, err->what, err->hint);
}

static void a_machines_devices_go_and_come_back(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), 0);
	assert_at(fixture, &card, "vfio-pci", "vfio-pci");
	assert_at(fixture, &sound, "vfio-pci", "vfio-pci");
	assert_at(fixture, &disk, "nvme", "");
	assert_int_equal(host_journal_read(&fixture->host, &sound, &record, &err), 0);
	assert_string_equal(record.driver, "snd_hda_intel");
	assert_true(record.companion);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_all_as_before(fixture);
}

static size_t heap_in_use(void)
{
	struct mallinfo2 info = mallinfo2(); /* with a sanitizer's allocator: 0 */

	return info.uordblks + info.hblkhd;
}

/* The broker does this for as long as its machine runs. */
static void coming_and_going_leaves_nothing_behind(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	size_t early = 0;

	for (unsigned i = 0; i < 16; i++) {
		if (i == 8)
			early = heap_in_use();
		assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
		assert_int_equal(host_release_unless_taken(&fixture->host, &disk, &err), 0);
	}
	assert_in_range(heap_in_use(), 0, early + 128);
	assert_all_as_before(fixture);
}

static void what_bind_takes_stays_until_it_is_released(void **state)
{
	struct fixture *fixture = *state;
	const struct bdf both[] = { card, disk };
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, both, 2, &for_good, &err), 0);
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_at(fixture, &card, "vfio-pci", "vfio-pci");
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	/* A machine comes and goes in between. */
	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	assert_int_equal(host_release(&fixture->host, &card, true, &err), 0);
	assert_at(fixture, &card, "vfio-pci", "vfio-pci");
	assert_int_equal(host_release(&fixture->host, &card, false, &err), 0);
	assert_at(fixture, &sound, "snd_hda_intel", "");
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	assert_int_equal(host_release_all(&fixture->host, true, &err), 0);
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	assert_int_equal(host_release_all(&fixture->host, false, &err), 0);
	assert_all_as_before(fixture);
}

static const struct bdf disk_and_card[] = { { 0, 2, 0, 0 }, { 0, 1, 0, 0 } };

static void what_vfio_refuses_puts_all_back(void **state)
{
	static const struct bind_options *const options[] = { &plain, &for_good };
	struct fixture *fixture = *state;

	for (int i = 0; i < 2; i++) {
		struct error err = { 0 };

		kernel.refuses = "vfio-pci";
		assert_int_equal(
			host_bind(&fixture->host, disk_and_card, 2, options[i], &err), -EIO);
		assert_string_equal(err.object, "0000:02:00.0");
		assert_error(&err, "vfio-pci did not take it", "dmesg | grep 0000:02:00.0");
		assert_all_as_before(fixture);
	}
}

/* The first one is taken by then. */
static void what_goes_elsewhere_puts_all_back(void **state)
{
	static const struct bind_options *const options[] = { &plain, &for_good };
	struct fixture *fixture = *state;

	for (int i = 0; i < 2; i++) {
		struct error err = { 0 };

		kernel.moved = "0000:01:00.0";
		kernel.moved_to = "amdgpu";
		assert_int_equal(
			host_bind(&fixture->host, disk_and_card, 2, options[i], &err), -EIO);
		assert_string_equal(err.object, "0000:01:00.0");
		assert_error(&err, "did not take it, but has gone to amdgpu", "dmesg | grep");
		assert_all_as_before(fixture);
	}
}

static void what_was_bound_before_stays_after_a_failure(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	pid_t earlier = fork();
	int status;

	if (earlier == 0)
		_exit(host_bind(&fixture->host, &disk, 1, &for_good, &err) ? 1 : 0);
	assert_int_equal(waitpid(earlier, &status, 0), earlier);
	assert_int_equal(status, 0);
	kernel.refuses = "vfio-pci";
	assert_int_equal(host_bind(&fixture->host, disk_and_card, 2, &for_good, &err), -EIO);
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	assert_at(fixture, &card, "amdgpu", "");
	err = (struct error){ 0 };
	assert_int_equal(host_release(&fixture->host, &disk, false, &err), 0);
	assert_all_as_before(fixture);
}

static void a_driver_that_keeps_its_device(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	kernel.keeps = "amdgpu";
	assert_int_equal(host_bind(&fixture->host, disk_and_card, 2, &for_good, &err), -EBUSY);
	assert_error(&err, "cannot take it from its driver amdgpu", "dmesg | grep 0000:01:00.0");
	assert_all_as_before(fixture);
}

static void an_override_that_is_not_taken(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	kernel.override_fails = true;
	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), -EINVAL);
	assert_error(&err, "cannot set driver_override to 'vfio-pci'", "dmesg | grep 0000:02:00.0");
	kernel.override_fails = false;
	assert_all_as_before(fixture);
}

static void an_override_that_no_driver_can_have(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	char name[HOST_NAME + 2] = "";

	memset(name, 'a', HOST_NAME);
	fixture_file(fixture, DISK "/driver_override", name);
	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), -EINVAL);
	assert_error(&err, "no driver's name",
		"echo >/sys/bus/pci/devices/0000:02:00.0/driver_override");
}

static void overrides_of_others_are_put_back(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	fixture_file(fixture, DISK "/driver_override", "nvme\n");
	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	assert_int_equal(host_release_owned(&fixture->host, &disk, &err), 0);
	assert_at(fixture, &disk, "nvme", "nvme");
	fixture_file(fixture, DISK "/driver_override", "nouveau\n");
	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(host_release_owned(&fixture->host, &disk, &err), 0);
	assert_at(fixture, &disk, "nvme", "nouveau");
}

static void a_driver_that_takes_it_only_when_told_to(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	kernel.native_only_by_name = true;
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_all_as_before(fixture);
}

static void another_driver_that_was_faster(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	kernel.moved = "0000:02:00.0";
	kernel.moved_to = "nouveau";
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_all_as_before(fixture);
}

static void a_driver_that_does_not_take_it_back(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	kernel.refuses = "nvme";
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), -EIO);
	assert_error(&err, "its driver nvme did not take it back", "penstock release 0000:02:00.0");
	assert_at(fixture, &disk, "", "");
	/* It can be tried again. */
	err = (struct error){ 0 };
	assert_int_equal(host_journal_read(&fixture->host, &disk, &record, &err), 0);
	kernel.refuses = NULL;
	assert_int_equal(host_release(&fixture->host, &disk, false, &err), 0);
	assert_all_as_before(fixture);
}

static void a_driver_that_is_gone(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	char path[128];

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers/nvme/bind", fixture->tree);
	assert_int_equal(unlink(path), 0);
	*strrchr(path, '/') = '\0';
	assert_int_equal(rmdir(path), 0);
	kernel.moved = "0000:02:00.0";
	kernel.moved_to = "nouveau";
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_at(fixture, &disk, "nouveau", "");
}

/* Somebody has given it to another driver meanwhile, and uses it with that. */
static void what_the_host_uses_again_is_left_there(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(unbind("0000:02:00.0"), 0);
	set_driver("0000:02:00.0", "nouveau");
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_all_as_before(fixture); /* nobody had used it there */
	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(unbind("0000:02:00.0"), 0);
	set_driver("0000:02:00.0", "nouveau");
	fixture_disk(fixture, DISK "/block/sda", "8:0\n");
	fixture_file(fixture, "/proc/self/mountinfo", "22 1 8:0 / /data rw - ext4 /dev/sda rw\n");
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_at(fixture, &disk, "nouveau", "");
}

static void assert_no_record(struct fixture *fixture)
{
	struct error err = { 0 };
	struct host_record record;

	assert_int_equal(host_journal_read(&fixture->host, &disk, &record, &err), -ENOENT);
}

/* Out of vfio-pci, and perhaps to a driver with an override of his own. */
static void what_somebody_takes_is_left_to_him(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(unbind("0000:02:00.0"), 0);
	assert_int_equal(host_release_unless_taken(&fixture->host, &disk, &err), 0);
	assert_at(fixture, &disk, "", "");
	assert_no_record(fixture);
	set_driver("0000:02:00.0", "nvme");
	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(unbind("0000:02:00.0"), 0);
	set_driver("0000:02:00.0", "nouveau");
	fixture_file(fixture, DISK "/driver_override", "nouveau\n");
	assert_int_equal(host_release_unless_taken(&fixture->host, &disk, &err), 0);
	assert_at(fixture, &disk, "nouveau", "nouveau");
	assert_no_record(fixture);
}

/* Its holder is killed in the midst of that; or, before, in the midst of a change of its own. */
static void what_somebody_takes_from_the_dead_is_left_to_him(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	for (unsigned bound = 0; bound < 2; bound++) {
		struct host_record record;
		pid_t child;

		assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
		assert_int_equal(host_journal_read(&fixture->host, &disk, &record, &err), 0);
		assert_true(record.bound);
		child = fixture_start_other(&record.holder);
		record.bound = bound;
		assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
		fixture_end_other(child);
		assert_int_equal(unbind("0000:02:00.0"), 0);
		assert_int_equal(host_release_stale(&fixture->host, true, &err), 0);
		assert_at(fixture, &disk, "", "vfio-pci");
		assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
		assert_at(fixture, &disk, bound ? "" : "nvme", "");
		assert_no_record(fixture);
	}
}

/* One that it dies of while it gives the device back is no other's doing. */
static void what_goes_back_is_not_bound(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	kernel.refused = "0000:02:00.0";
	assert_true(host_release_owned(&fixture->host, &disk, &err) < 0);
	err = (struct error){ 0 };
	assert_int_equal(host_journal_read(&fixture->host, &disk, &record, &err), 0);
	assert_false(record.bound);
	assert_string_equal(record.holder.name, "demo");
	kernel.refused = NULL;
	assert_int_equal(host_release_owned(&fixture->host, &disk, &err), 0);
	assert_all_as_before(fixture);
}

/* He sets an override of his own while ours is being taken away. */
static void who_takes_it_may_be_faster(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(unbind("0000:02:00.0"), 0);
	kernel.meddles = "nouveau\n";
	assert_int_equal(host_release_unless_taken(&fixture->host, &disk, &err), 0);
	assert_at(fixture, &disk, "", "nouveau");
	assert_no_record(fixture);
}

/* The kernel lets nobody read the override meanwhile. */
static void who_takes_it_may_hang(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct host_record record;

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(unbind("0000:02:00.0"), 0);
	kernel.locked_ms = 2000;
	fixture->host.limit_ms = 200;
	assert_int_equal(host_release_unless_taken(&fixture->host, &disk, &err), -ETIMEDOUT);
	assert_error(&err, "waiting for it to be taken", "penstock release 0000:02:00.0");
	err = (struct error){ 0 };
	assert_int_equal(host_journal_read(&fixture->host, &disk, &record, &err), 0);
	fixture_assert_changing(fixture, &disk, true);
	usleep(4000000);
	fixture_assert_changing(fixture, &disk, false);
}

/* Whoever says so may be wrong. */
static void what_nobody_takes_goes_back(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(host_release_unless_taken(&fixture->host, &disk, &err), 0);
	assert_all_as_before(fixture);
	/* And is not ours to give. */
	assert_int_equal(host_bind(&fixture->host, &disk, 1, &for_good, &err), 0);
	assert_int_equal(host_release_unless_taken(&fixture->host, &disk, &err), 0);
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
}

static void what_is_removed_leaves_no_record(void **state)
{
	static const struct bind_options *const options[] = { &plain, &for_good };
	struct fixture *fixture = *state;
	struct error err = { 0 };
	char link[PATH_MAX], away[PATH_MAX];

	snprintf(link, sizeof(link), "%s/sys/bus/pci/devices/0000:02:00.0", fixture->tree);
	snprintf(away, sizeof(away), "%s/away", fixture->tree);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(host_bind(&fixture->host, &disk, 1, options[i], &err), 0);
		/* A machine has it, and bind keeps it or not. */
		assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
		assert_int_equal(rename(link, away), 0);
		assert_int_equal(host_release_unless_taken(&fixture->host, &disk, &err), 0);
		assert_no_record(fixture);
		assert_int_equal(rename(away, link), 0);
		unbind("0000:02:00.0");
		fixture_file(fixture, DISK "/driver_override", "(null)\n");
		set_driver("0000:02:00.0", "nvme");
	}
}

static void one_without_a_record_goes_where_the_kernel_wants(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	assert_int_equal(unbind("0000:02:00.0"), 0);
	set_driver("0000:02:00.0", "vfio-pci");
	fixture_file(fixture, DISK "/driver_override", "vfio-pci\n");
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	assert_int_equal(host_release(&fixture->host, &disk, false, &err), 0);
	assert_all_as_before(fixture);
	/* And what is not at vfio-pci is not touched. */
	kernel.refused = "0000:02:00.0";
	assert_int_equal(host_release(&fixture->host, &disk, false, &err), 0);
	assert_all_as_before(fixture);
}

static void one_that_another_process_holds_is_not_released(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };
	pid_t child;

	assert_int_equal(host_bind(&fixture->host, &disk, 1, &plain, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &disk, &record, &err), 0);
	child = fixture_start_other(&record.holder);
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	assert_int_equal(host_release(&fixture->host, &disk, false, &err), -EBUSY);
	assert_error(&err, "it is held by penstock 'other'", "free again");
	err = (struct error){ 0 };
	assert_int_equal(host_release(&fixture->host, &disk, true, &err), -EBUSY);
	assert_error(&err, "it is held by penstock 'other'", "free again");
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	fixture_end_other(child);
	err = (struct error){ 0 };
	assert_int_equal(host_release_stale(&fixture->host, true, &err), 0);
	assert_at(fixture, &disk, "vfio-pci", "vfio-pci");
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_all_as_before(fixture);
}

/* The host's console on the card */

#define CONSOLE     "/sys/class/vtconsole/vtcon1"
#define FRAMEBUFFER "/sys/devices/platform/simple-framebuffer.0"

static const struct bind_options forced = { .owner = "demo", .force = true };

static void make_fbcon(struct fixture *fixture)
{
	fixture_file(fixture, "/sys/class/vtconsole/vtcon0/name", "(S) dummy device\n");
	fixture_file(fixture, "/sys/class/vtconsole/vtcon0/bind", "0\n");
	fixture_file(fixture, CONSOLE "/name", "(M) frame buffer device\n");
	fixture_file(fixture, CONSOLE "/bind", "1\n");
}

static void make_buffer(struct fixture *fixture, const char *device, const char *name)
{
	char path[PATH_MAX], link[64];

	snprintf(path, sizeof(path), "%s/graphics/%s/device", device, name);
	fixture_link(fixture, path, device);
	snprintf(path, sizeof(path), "%s/graphics/%s", device, name);
	snprintf(link, sizeof(link), "/sys/class/graphics/%s", name);
	fixture_link(fixture, link, path);
}

/* As simpledrm has it, of the boot display. */
static void make_framebuffer(struct fixture *fixture)
{
	fixture_file(fixture, CARD "/boot_vga", "1\n");
	fixture_file(fixture, "/sys/bus/platform/drivers/simple-framebuffer/uevent", "");
	make_buffer(fixture, FRAMEBUFFER, "fb0");
	fixture_link(fixture, "/sys/bus/platform/devices/simple-framebuffer.0", FRAMEBUFFER);
	fixture_link(fixture, "/sys/bus/platform/drivers/simple-framebuffer/simple-framebuffer.0",
		FRAMEBUFFER);
	fixture_link(
		fixture, FRAMEBUFFER "/driver", "/sys/bus/platform/drivers/simple-framebuffer");
}

/* All of them since the last look. */
static void assert_steps(struct fixture *fixture, const char *wanted)
{
	char path[128], text[1024] = "";
	FILE *file;

	snprintf(path, sizeof(path), "%s/steps", fixture->tree);
	file = fopen(path, "re");
	if (file)
		text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	if (file)
		fclose(file);
	unlink(path);
	assert_string_equal(text, wanted);
}

#define MOVE_STEPS "unbind 0000:01:00.0, probe 0000:01:00.0, "

static void assert_console(struct fixture *fixture, int bound)
{
	assert_int_equal(host_read_number(&fixture->host, -1, CONSOLE "/bind"), bound);
}

static void the_console_leaves_before_the_driver_and_comes_back_after_it(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	make_fbcon(fixture);
	make_buffer(fixture, CARD, "fb0");
	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), 0);
	assert_steps(fixture, "console 0, " MOVE_STEPS);
	assert_console(fixture, 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_true(record.screen.console);
	assert_string_equal(record.screen.framebuffer, "");
	assert_int_equal(host_journal_read(&fixture->host, &sound, &record, &err), 0);
	assert_false(record.screen.console);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_steps(fixture, MOVE_STEPS "console 1, ");
	assert_console(fixture, 1);
	assert_all_as_before(fixture);
}

static void the_firmwares_frame_buffer_leaves_after_the_console(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	make_fbcon(fixture);
	make_framebuffer(fixture);
	assert_int_equal(host_bind(&fixture->host, &card, 1, &forced, &err), 0);
	assert_steps(fixture, "console 0, unbind simple-framebuffer.0, " MOVE_STEPS);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_true(record.screen.console);
	assert_string_equal(record.screen.framebuffer, "simple-framebuffer.0");
	assert_string_equal(record.screen.driver, "simple-framebuffer");
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_steps(fixture, MOVE_STEPS "bind simple-framebuffer.0, console 1, ");
	assert_console(fixture, 1);
	assert_all_as_before(fixture);
}

/* As vfio-pci has the kernel do: then it is gone, and the rest comes back. */
static void a_frame_buffer_that_is_gone_is_told(void **state)
{
	struct fixture *fixture = *state;
	int copy = dup(STDERR_FILENO), log = memfd_create("stderr", MFD_CLOEXEC);
	struct error err = { 0 };
	char said[1024] = "";

	make_fbcon(fixture);
	make_framebuffer(fixture);
	kernel.drops_buffer = true;
	assert_true(copy >= 0 && dup2(log, STDERR_FILENO) >= 0);
	assert_int_equal(host_bind(&fixture->host, &card, 1, &forced, &err), 0);
	assert_true(dup2(copy, STDERR_FILENO) >= 0 && pread(log, said, sizeof(said) - 1, 0) > 0);
	close(copy);
	close(log);
	assert_non_null(strstr(said, "dropped the firmware's frame buffer (simple-framebuffer.0)"));
	assert_steps(fixture, "console 0, unbind simple-framebuffer.0, " MOVE_STEPS);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_steps(fixture, MOVE_STEPS "console 1, ");
	assert_all_as_before(fixture);
}

static void another_cards_console_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_fbcon(fixture);
	make_buffer(fixture, CARD, "fb0");
	make_buffer(fixture, PORT, "fb1");
	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), 0);
	assert_steps(fixture, MOVE_STEPS);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_steps(fixture, MOVE_STEPS);
	assert_console(fixture, 1);
	assert_all_as_before(fixture);
}

/* He who takes the card has its screen, too; the console goes where there is one. */
static void the_frame_buffer_of_a_card_that_somebody_takes_is_his(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_fbcon(fixture);
	make_framebuffer(fixture);
	assert_int_equal(host_bind(&fixture->host, &card, 1, &forced, &err), 0);
	assert_int_equal(unbind("0000:01:00.0"), 0);
	assert_steps(fixture, "console 0, unbind simple-framebuffer.0, " MOVE_STEPS);
	assert_int_equal(host_release_unless_taken(&fixture->host, &card, &err), 0);
	assert_steps(fixture, "console 1, ");
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_at(fixture, &card, "", "");
	assert_no_record(fixture);
}

/* Between two steps, wherever: what has been noted is undone, and nothing else. */
static void a_killed_binds_console_comes_back(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;

	make_fbcon(fixture);
	make_framebuffer(fixture);
	for (unsigned done = 0; done < 3; done++) {
		struct error err = { 0 };

		record = (struct host_record){ .bdf = card,
			.driver = "amdgpu",
			.screen = { true, "simple-framebuffer.0", "simple-framebuffer" } };
		fixture_end_other(fixture_start_other(&record.holder));
		assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
		fixture_file(fixture, CONSOLE "/bind", done > 0 ? "0\n" : "1\n");
		if (done > 1)
			assert_int_equal(move_framebuffer("simple-framebuffer.0", false), 0);
		assert_steps(fixture, done > 1 ? "unbind simple-framebuffer.0, " : "");
		assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
		assert_steps(fixture, done == 0   ? ""
				      : done == 1 ? "console 1, "
						  : "bind simple-framebuffer.0, console 1, ");
		assert_console(fixture, 1);
		assert_all_as_before(fixture);
	}
}

/* And where it is not released, but bound once more. */
static void what_a_killed_bind_has_moved_is_not_forgotten(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = { .bdf = card,
		.driver = "amdgpu",
		.screen = { true, "simple-framebuffer.0", "simple-framebuffer" } };
	struct error err = { 0 };

	make_fbcon(fixture);
	make_framebuffer(fixture);
	fixture_end_other(fixture_start_other(&record.holder));
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	fixture_file(fixture, CONSOLE "/bind", "0\n");
	assert_int_equal(move_framebuffer("simple-framebuffer.0", false), 0);
	assert_steps(fixture, "unbind simple-framebuffer.0, ");
	assert_int_equal(host_bind(&fixture->host, &card, 1, &forced, &err), 0);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_steps(fixture, MOVE_STEPS MOVE_STEPS "bind simple-framebuffer.0, console 1, ");
	assert_all_as_before(fixture);
}

static void a_console_that_stays_does_not_stop_it(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_fbcon(fixture);
	make_buffer(fixture, CARD, "fb0");
	kernel.console_stays = true;
	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), 0);
	assert_steps(fixture, "console 0, " MOVE_STEPS);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_all_as_before(fixture);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_machines_devices_go_and_come_back),
		TEST(coming_and_going_leaves_nothing_behind),
		TEST(what_bind_takes_stays_until_it_is_released),
		TEST(what_vfio_refuses_puts_all_back),
		TEST(what_goes_elsewhere_puts_all_back),
		TEST(what_was_bound_before_stays_after_a_failure),
		TEST(a_driver_that_keeps_its_device),
		TEST(an_override_that_is_not_taken),
		TEST(an_override_that_no_driver_can_have),
		TEST(overrides_of_others_are_put_back),
		TEST(a_driver_that_takes_it_only_when_told_to),
		TEST(another_driver_that_was_faster),
		TEST(a_driver_that_does_not_take_it_back),
		TEST(a_driver_that_is_gone),
		TEST(what_the_host_uses_again_is_left_there),
		TEST(what_somebody_takes_is_left_to_him),
		TEST(what_somebody_takes_from_the_dead_is_left_to_him),
		TEST(what_goes_back_is_not_bound),
		TEST(who_takes_it_may_be_faster),
		TEST(who_takes_it_may_hang),
		TEST(what_nobody_takes_goes_back),
		TEST(what_is_removed_leaves_no_record),
		TEST(one_without_a_record_goes_where_the_kernel_wants),
		TEST(one_that_another_process_holds_is_not_released),
		TEST(the_console_leaves_before_the_driver_and_comes_back_after_it),
		TEST(the_firmwares_frame_buffer_leaves_after_the_console),
		TEST(a_frame_buffer_that_is_gone_is_told),
		TEST(another_cards_console_is_left_alone),
		TEST(the_frame_buffer_of_a_card_that_somebody_takes_is_his),
		TEST(a_killed_binds_console_comes_back),
		TEST(what_a_killed_bind_has_moved_is_not_forgotten),
		TEST(a_console_that_stays_does_not_stop_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
