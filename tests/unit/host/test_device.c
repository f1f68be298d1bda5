/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "base/text.h"
#include "host/device/device.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PORT "/sys/devices/pci0000:00/0000:00:01.0"
#define CARD PORT "/0000:01:00.0"

static const struct bdf card = { 0, 1, 0, 0 };
static const struct bdf port = { 0, 0, 1, 0 };

static void reads_a_device(void **state)
{
	struct fixture *fixture = *state;
	struct host_device device;
	struct error err = { 0 };

	fixture_device(fixture, CARD, "0x030000", "amdgpu", 29);
	fixture_file(fixture, CARD "/boot_vga", "1\n");
	fixture_file(fixture, CARD "/numa_node", "1\n");
	fixture_file(fixture, CARD "/driver_override", "vfio-pci\n");
	assert_int_equal(host_device_read(&fixture->host, &card, &device, &err), 0);
	assert_int_equal(device.vendor, 0x8086);
	assert_int_equal(device.device, 0x1533);
	assert_int_equal(device.subsystem_vendor, 0x1043);
	assert_int_equal(device.subsystem_device, 0x85f0);
	assert_int_equal(device.class_code, 0x030000);
	assert_int_equal(device.group, 29);
	assert_int_equal(device.numa_node, 1);
	assert_true(device.boot_display);
	assert_false(host_device_is_bridge(&device));
	assert_string_equal(device.driver, "amdgpu");
	assert_string_equal(device.override, "vfio-pci");
}

static void missing_things_are_not_errors(void **state)
{
	struct fixture *fixture = *state;
	struct host_device device;
	struct error err = { 0 };

	fixture_device(fixture, CARD, "0x020000", NULL, -1);
	assert_int_equal(host_device_read(&fixture->host, &card, &device, &err), 0);
	assert_string_equal(device.driver, "");
	assert_string_equal(device.override, "");
	assert_int_equal(device.group, -1);
	assert_int_equal(device.numa_node, -1);
	assert_false(device.boot_display);
}

static void a_device_that_is_not_there_is_one(void **state)
{
	struct fixture *fixture = *state;
	struct host_device device;
	struct error err = { 0 };

	assert_int_equal(host_device_read(&fixture->host, &card, &device, &err), -ENODEV);
	assert_string_equal(err.object, "0000:01:00.0");
}

static void a_bridge_is_told_by_its_header(void **state)
{
	static const char
		bridge[] = "abcdefghijklmn\x81yz",
		ones[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
	struct fixture *fixture = *state;
	struct host_device device;
	struct error err = { 0 };

	fixture_device(fixture, PORT, "0x060400", "pcieport", 1);
	fixture_device(fixture, CARD, "0x020000", NULL, 1);
	assert_int_equal(host_device_read(&fixture->host, &port, &device, &err), 0);
	assert_true(host_device_is_bridge(&device));
	fixture_file(fixture, CARD "/config", bridge);
	assert_int_equal(host_device_read(&fixture->host, &card, &device, &err), 0);
	assert_true(host_device_is_bridge(&device));
	fixture_file(fixture, CARD "/config", ones);
	assert_int_equal(host_device_read(&fixture->host, &card, &device, &err), 0);
	assert_false(host_device_is_bridge(&device));
}

static void a_group_is_listed_in_order(void **state)
{
	struct fixture *fixture = *state;
	struct bdf members[HOST_GROUP_MAX];
	struct error err = { 0 };

	fixture_device(fixture, PORT "/0000:01:00.1", "0x040300", NULL, 5);
	fixture_device(fixture, CARD, "0x030000", NULL, 5);
	fixture_device(fixture, PORT, "0x060400", "pcieport", 5);
	fixture_file(fixture, "/sys/kernel/iommu_groups/5/devices/AMDI0042:00", "");
	assert_int_equal(host_group_devices(&fixture->host, 5, members, &err), 3);
	assert_true(bdf_equal(&members[0], &port));
	assert_true(bdf_equal(&members[1], &card));
	assert_int_equal(members[2].function, 1);
	assert_true(host_group_devices(&fixture->host, 6, members, &err) < 0);
}

static void a_huge_group_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct bdf members[HOST_GROUP_MAX];
	struct error err = { 0 };
	char path[128];

	for (unsigned i = 0; i <= HOST_GROUP_MAX; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/5/devices/%04x:00:00.0", i);
		fixture_file(fixture, path, "");
	}
	assert_int_equal(host_group_devices(&fixture->host, 5, members, &err), -E2BIG);
}

static void hostile_attributes_do_no_harm(void **state)
{
	struct fixture *fixture = *state;
	struct host_device device;
	struct error err = { 0 };
	char huge[10000], path[PATH_MAX];

	memset(huge, 'x', sizeof(huge) - 1);
	huge[sizeof(huge) - 1] = '\0';
	fixture_device(fixture, CARD, "0x020000", NULL, -1);
	fixture_file(fixture, CARD "/vendor", huge);
	fixture_file(fixture, CARD "/class", "99999999999999999999999999\n");
	fixture_file(fixture, CARD "/numa_node", "\x01\x02\xff");
	assert_int_equal(host_device_read(&fixture->host, &card, &device, &err), 0);
	assert_int_equal(device.vendor, 0);
	assert_int_equal(device.numa_node, -1);
	fixture_file(fixture, CARD "/driver_override", huge);
	assert_int_equal(host_device_read(&fixture->host, &card, &device, &err), -EINVAL);

	/* A link that leads to itself, and one to a group with no number. */
	err = (struct error){ 0 };
	fixture_file(fixture, CARD "/driver_override", "\033[31mred\n");
	snprintf(path, sizeof(path), "%s" CARD "/driver", fixture->tree);
	assert_int_equal(symlink("driver", path), 0);
	snprintf(path, sizeof(path), "%s" CARD "/iommu_group", fixture->tree);
	assert_int_equal(symlink("12x", path), 0);
	assert_int_equal(host_device_read(&fixture->host, &card, &device, &err), 0);
	assert_int_equal(device.group, -1);
	assert_string_equal(device.override, "?[31mred");
}

static void what_is_no_regular_file_is_not_read(void **state)
{
	struct fixture *fixture = *state;
	char path[PATH_MAX], text[64];
	FILE *stream;

	fixture_pipe(fixture, "/proc/cmdline");
	assert_true(host_read(&fixture->host, text, sizeof(text), "/proc/cmdline") < 0);
	assert_null(host_open(&fixture->host, "/proc/cmdline"));
	snprintf(path, sizeof(path), "%s/proc/interrupts", fixture->tree);
	assert_int_equal(symlink("/dev/zero", path), 0);
	assert_true(host_read(&fixture->host, text, sizeof(text), "/proc/interrupts") < 0);
	assert_null(host_open(&fixture->host, "/proc/interrupts"));
	assert_null(host_open(&fixture->host, "/proc"));
	fixture_file(fixture, "/proc/swaps", "one\ntwo\n");
	stream = host_open(&fixture->host, "/proc/%s", "swaps");
	assert_non_null(fgets(text, sizeof(text), stream));
	assert_string_equal(text, "one\n");
	assert_non_null(fgets(text, sizeof(text), stream));
	assert_null(fgets(text, sizeof(text), stream));
	fclose(stream);
}

static void a_file_is_not_read_without_end(void **state)
{
	struct fixture *fixture = *state;
	char path[PATH_MAX], text[4096];
	FILE *stream;
	int reads = 0;

	fixture_file(fixture, "/proc/iomem", "");
	snprintf(path, sizeof(path), "%s/proc/iomem", fixture->tree);
	assert_int_equal(truncate(path, 1L << 40), 0);
	stream = host_open(&fixture->host, "/proc/iomem");
	while (fgets(text, sizeof(text), stream) && reads < 10000)
		reads++;
	fclose(stream);
	assert_in_range(reads, 1, 9999);
}

static void assert_text(const char *from, const char *to)
{
	char text[64];

	text_format(text, sizeof(text), "%s", from);
	assert_string_equal(text, to);
}

static void what_controls_a_terminal_is_no_text(void **state)
{
	(void)state;
	assert_text("Zo\xc3\xab \xe2\x82\xac \xf0\x9f\x92\xbe",
		"Zo\xc3\xab \xe2\x82\xac \xf0\x9f\x92\xbe");
	assert_text("a\x1b[31m\x7f", "a?[31m?");
	assert_text("a\xc2\x9b"
		    "31m\xc2\xa0",
		"a??31m\xc2\xa0"); /* CSI as one character */
	assert_text("a\x9b"
		    "31m",
		"a?31m");
	assert_text("a\xc0\x9b\xe0\x82\x9b\xf0\x80\x82\x9b", "a?????????"); /* spelt too long */
	assert_text("caf\xe9", "caf?");
	assert_text("cut \xe2\x82", "cut ??");
	assert_text("\xff\xf8\x88\x80\x80\x80", "??????");
}

static void vfio_drivers_are_known(void **state)
{
	(void)state;
	assert_true(host_driver_is_vfio("vfio-pci"));
	assert_true(host_driver_is_vfio("mlx5_vfio_pci"));
	assert_false(host_driver_is_vfio("pci"));
	assert_false(host_driver_is_vfio(""));
	assert_true(host_driver_is_viable(""));
	assert_true(host_driver_is_viable("pci-stub"));
	assert_false(host_driver_is_viable("nvme"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reads_a_device, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			missing_things_are_not_errors, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			a_device_that_is_not_there_is_one, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			a_bridge_is_told_by_its_header, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			a_group_is_listed_in_order, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			a_huge_group_is_refused, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			hostile_attributes_do_no_harm, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			what_is_no_regular_file_is_not_read, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(
			a_file_is_not_read_without_end, fixture_setup, fixture_teardown),
		cmocka_unit_test(what_controls_a_terminal_is_no_text),
		cmocka_unit_test(vfio_drivers_are_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
