/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/device/address.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PORT  "/sys/devices/pci0000:00/0000:00:01.0"
#define CARD  PORT "/0000:01:00.0"
#define SOUND PORT "/0000:01:00.1"
#define DISK  "/sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0"

static void make_host(struct fixture *fixture)
{
	fixture_device(fixture, PORT, "0x060400", "pcieport", 13);
	fixture_device(fixture, CARD, "0x020000", "igb", 13);
	fixture_device(fixture, SOUND, "0x040300", NULL, 13);
	fixture_device(fixture, DISK, "0x010802", "nvme", 14);
	fixture_file(fixture, CARD "/vendor", "0x10de\n");
	fixture_file(fixture, CARD "/device", "0x2504\n");
	fixture_interface(fixture, CARD "/net/enp1s0");
	fixture_interface(fixture, "/sys/devices/virtual/net/bond0");
	fixture_disk(fixture, DISK "/nvme/nvme0/nvme0n1", "259:0\n");
}

static void assert_is(struct fixture *fixture, const char *text, const char *wanted)
{
	struct bdf devices[HOST_ADDRESS_MAX];
	char found[256] = "", name[BDF_TEXT];
	struct error err = { 0 };
	int count = host_address_find(&fixture->host, text, devices, &err);

	for (int i = 0; i < count; i++)
		sprintf(found + strlen(found), "%s%s", i ? " " : "", bdf_format(&devices[i], name));
	if (strcmp(found, wanted))
		fail_msg("'%s' is '%s', not '%s': %s", text, found, wanted, err.what);
}

static void assert_not(struct fixture *fixture, const char *text, int code, const char *what)
{
	struct bdf devices[HOST_ADDRESS_MAX];
	struct error err = { 0 };

	assert_int_equal(host_address_find(&fixture->host, text, devices, &err), code);
	if (!strstr(err.what, what) || !err.hint[0])
		fail_msg("'%s': %s; %s", text, err.what, err.hint);
}

static void addresses(void **state)
{
	make_host(*state);
	assert_is(*state, "0000:01:00.0", "0000:01:00.0");
	assert_is(*state, "01:00.1", "0000:01:00.1");
	assert_is(*state, "pci_0000_01_00_1", "0000:01:00.1");
	/* It may have been pulled, and still be in the journal. */
	assert_is(*state, "0000:77:00.0", "0000:77:00.0");
}

static void all_functions(void **state)
{
	make_host(*state);
	assert_is(*state, "01:00", "0000:01:00.0 0000:01:00.1");
	assert_is(*state, "0000:02:00", "0000:02:00.0");
	assert_not(*state, "03:00", -ENODEV, "no such device");
}

static void vendor_and_device(void **state)
{
	make_host(*state);
	assert_is(*state, "10de:2504", "0000:01:00.0");
	assert_is(*state, "10DE:2504", "0000:01:00.0");
	assert_not(*state, "8086:1533", -ENOTUNIQ, "3 devices are meant by this: ");
	assert_not(*state, "1af4:1000", -ENODEV, "no such device");
}

static void paths(void **state)
{
	make_host(*state);
	assert_is(*state, "/sys/bus/pci/devices/0000:01:00.0", "0000:01:00.0");
	assert_is(*state, "/sys/bus/pci/devices/0000:01:00.0/net/enp1s0", "0000:01:00.0");
	assert_is(*state, CARD, "0000:01:00.0");
	assert_is(*state, PORT, "0000:00:01.0");
	assert_is(*state, "/sys/class/net/enp1s0", "0000:01:00.0");
	assert_not(*state, "/sys/devices/pci0000:00", -ENODEV, "not on a PCI device");
	assert_not(*state, "/sys/nothing", -ENODEV, "no such device");
}

/* realpath() must not lead out of the host that is looked at. */
static void a_path_outside_is_none(void **state)
{
	struct fixture *fixture = *state;
	char link[128];

	make_host(fixture);
	snprintf(link, sizeof(link), "%s/sys/way-out", fixture->tree);
	assert_int_equal(symlink("/", link), 0);
	assert_not(fixture, "/sys/way-out", -EINVAL, "does not name");
}

/* The real path can be shorter than the root as it is given, and is what realpath() leads to. */
static void any_path_of_the_root(void **state)
{
	struct fixture *fixture = *state, other = *fixture;
	struct error err = { 0 };
	char link[128];

	make_host(fixture);
	snprintf(link, sizeof(link), "%s/a-name-that-makes-the-path-longer", fixture->tree);
	assert_int_equal(symlink(".", link), 0);
	assert_int_equal(host_init(&other.host, link, NULL, &err), 0);
	assert_string_equal(other.host.root, fixture->host.root);
	assert_is(&other, "enp1s0", "0000:01:00.0");
	assert_is(&other, CARD, "0000:01:00.0");
	assert_int_equal(chdir("/tmp"), 0);
	assert_int_equal(host_init(&other.host, strrchr(fixture->tree, '/') + 1, NULL, &err), 0);
	assert_string_equal(other.host.root, fixture->host.root);
	assert_int_equal(host_init(&other.host, "/", NULL, &err), 0);
	assert_true(host_is_live(&other.host));
	assert_int_equal(host_init(&other.host, "/nowhere/at/all", NULL, &err), -ENOENT);
	assert_non_null(strstr(err.hint, "PENSTOCK_ROOT"));
}

/* TREE2 is not in TREE. */
static void a_neighbour_of_the_root_is_outside(void **state)
{
	struct fixture *fixture = *state;
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s2/sys", fixture->host.root);
	assert_null(host_inside(&fixture->host, path));
	snprintf(path, sizeof(path), "%s/sys", fixture->host.root);
	assert_string_equal(host_inside(&fixture->host, path), "/sys");
	assert_string_equal(host_inside(&fixture->host, fixture->host.root), "");
}

static void names(void **state)
{
	struct fixture *fixture = *state;

	make_host(fixture);
	fixture_file(fixture, "/dev/nvme0n1", "");
	fixture_link(fixture, "/dev/disk/by-id/nvme-lab", "/dev/nvme0n1");
	assert_is(fixture, "enp1s0", "0000:01:00.0");
	assert_is(fixture, "nvme0n1", "0000:02:00.0");
	assert_is(fixture, "/dev/nvme0n1", "0000:02:00.0");
	assert_is(fixture, "/dev/disk/by-id/nvme-lab", "0000:02:00.0");
	assert_not(fixture, "bond0", -ENODEV, "not on a PCI device");
	assert_not(fixture, "eth7", -ENODEV, "no such device");
	assert_not(fixture, "..", -EINVAL, "does not name");
}

/* One name for two devices, as nothing keeps an interface from being called like a disk. */
static void two_things_of_one_name(void **state)
{
	struct fixture *fixture = *state;

	make_host(fixture);
	fixture_interface(fixture, CARD "/net/nvme0n1");
	assert_not(fixture, "nvme0n1", -ENOTUNIQ, "0000:01:00.0 0000:02:00.0");
}

#define SUBSYSTEM "/sys/devices/virtual/nvme-subsystem/nvme-subsys0"

static void a_disk_of_an_nvme_subsystem(void **state)
{
	struct fixture *fixture = *state;

	make_host(fixture);
	fixture_disk(fixture, SUBSYSTEM "/nvme1n1", "259:1\n");
	fixture_file(fixture, DISK "/nvme/nvme1/dev", "240:1\n");
	fixture_link(fixture, SUBSYSTEM "/nvme1", DISK "/nvme/nvme1");
	assert_is(fixture, "nvme1n1", "0000:02:00.0");
	fixture_file(fixture, SOUND "/nvme/nvme2/dev", "240:2\n");
	fixture_link(fixture, SUBSYSTEM "/nvme2", SOUND "/nvme/nvme2");
	assert_not(fixture, "nvme1n1", -ENOTUNIQ, "2 devices");
}

static void what_names_nothing(void **state)
{
	static const char *const texts[] = { "", ":", "01:", "01:00.8", "01:20.0", "1:2:3:4.5",
		"pci_", "pci_0000_01_00", "pci_0000:01:00.0", "10de:250g", "0000:01:00.0 ", "." };

	make_host(*state);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct bdf devices[HOST_ADDRESS_MAX];
		struct error err = { 0 };
		struct fixture *fixture = *state;

		if (host_address_find(&fixture->host, texts[i], devices, &err) >= 0)
			fail_msg("'%s' is taken for a device", texts[i]);
	}
}

static void text_for_the_terminal_is_harmless(void **state)
{
	struct bdf devices[HOST_ADDRESS_MAX];
	struct fixture *fixture = *state;
	struct error err = { 0 };
	char text[4096];

	memset(text, '\x1b', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_true(host_address_find(&fixture->host, text, devices, &err) < 0);
	assert_null(strchr(err.object, '\x1b'));
}

static void one_where_one_is_wanted(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct bdf bdf;

	make_host(fixture);
	assert_int_equal(host_address_find_one(&fixture->host, "01:00", &bdf, &err), -ENOTUNIQ);
	err = (struct error){ 0 };
	assert_int_equal(host_address_find_one(&fixture->host, "02:00", &bdf, &err), 0);
	assert_int_equal(bdf.bus, 2);
}

static void each_device_once(void **state)
{
	char *words[] = { "01:00.1", "01:00", "enp1s0", "nvme0n1" };
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct bdf *devices;

	make_host(fixture);
	assert_int_equal(host_address_find_all(&fixture->host, words, 4, &devices, &err), 3);
	assert_int_equal(devices[0].function, 1);
	assert_int_equal(devices[1].function, 0);
	assert_int_equal(devices[2].bus, 2);
	free(devices);
	words[3] = "nonsense:";
	assert_int_equal(host_address_find_all(&fixture->host, words, 4, &devices, &err), -EINVAL);
	assert_null(devices);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(addresses),
		TEST(all_functions),
		TEST(vendor_and_device),
		TEST(paths),
		TEST(a_path_outside_is_none),
		TEST(any_path_of_the_root),
		TEST(a_neighbour_of_the_root_is_outside),
		TEST(names),
		TEST(two_things_of_one_name),
		TEST(a_disk_of_an_nvme_subsystem),
		TEST(what_names_nothing),
		TEST(text_for_the_terminal_is_harmless),
		TEST(one_where_one_is_wanted),
		TEST(each_device_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
