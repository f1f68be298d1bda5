/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/fixture.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Commands of "penstock" ($PENSTOCK) on recorded hosts, as a user reads them. */

static char output[256 * 1024];

/* The exit status; what is printed goes into output, what is complained of is dropped. */
static int penstock(const struct fixture *fixture, const char *verb, const char *arguments)
{
	char command[512];
	size_t size;
	FILE *pipe;

	snprintf(command, sizeof(command), "LC_ALL=C.UTF-8 PENSTOCK_ROOT=%s %s %s %s 2>/dev/null",
		fixture->tree, getenv("PENSTOCK"), verb, arguments);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	size = fread(output, 1, sizeof(output) - 1, pipe);
	output[size] = '\0';
	return WEXITSTATUS(pclose(pipe));
}

static int ls(const struct fixture *fixture, const char *arguments)
{
	return penstock(fixture, "ls", arguments);
}

static void assert_says(const char *text)
{
	if (!strstr(output, text))
		fail_msg("'%s' is not in:\n%s", text, output);
}

static void assert_silent_of(const char *text)
{
	if (strstr(output, text))
		fail_msg("'%s' is in:\n%s", text, output);
}

/* Source document 002 shows this part of its machine's list. */
static void the_classic_list_is_that_of_the_document(void **state)
{
	static const char *const document[] = {
		"IOMMU Group 28:\n"
		"\t2f:00.0 VGA compatible controller [0300]: Advanced Micro Devices, Inc. [AMD/ATI] "
		"Navi 22 [Radeon RX 6700/6700 XT/6750 XT / 6800M] [1002:73df] (rev c1)\n"
		"IOMMU Group 29:\n"
		"\t2f:00.1 Audio device [0403]: Advanced Micro Devices, Inc. [AMD/ATI] Navi 21/23 "
		"HDMI/DP Audio Controller [1002:ab28]\n",
		"IOMMU Group 32:\n"
		"\t32:00.0 VGA compatible controller [0300]: Advanced Micro Devices, Inc. [AMD/ATI] "
		"Navi 23 [Radeon RX 6600/6600 XT/6600M] [1002:73ff] (rev c1)\n"
		"IOMMU Group 33:\n"
		"\t32:00.1 Audio device [0403]: Advanced Micro Devices, Inc. [AMD/ATI] Navi 21/23 "
		"HDMI/DP Audio Controller [1002:ab28]\n",
		"IOMMU Group 23:\n"
		"\t23:00.0 Non-Volatile memory controller [0108]: Samsung Electronics Co Ltd NVMe SSD "
		"Controller SM981/PM981/PM983 [144d:a808]\n",
		"IOMMU Group 36:\n"
		"\t34:00.3 USB controller [0c03]: Advanced Micro Devices, Inc. [AMD] Matisse USB 3.0 "
		"Host Controller [1022:149c]\n",
	};
	struct fixture *fixture = *state;

	fixture_load(fixture, "ryzen-5900x");
	assert_int_equal(ls(fixture, "--plain"), 0);
	for (size_t i = 0; i < sizeof(document) / sizeof(document[0]); i++)
		assert_says(document[i]);
}

static void the_tree_tells_what_matters(void **state)
{
	struct fixture *fixture = *state;

	fixture_load(fixture, "ryzen-5900x");
	assert_int_equal(ls(fixture, ""), 0);
	assert_says("IOMMU group 28\n└─ 0000:2f:00.0  VGA compatible controller");
	assert_says("reset: bus, BARs 16 GiB + 256 MiB + 256 ports + 1 MiB");
	assert_says("IN USE: its disk nvme0n1p1 is mounted at /boot");
	assert_says("carries the default route");
	assert_says("boot display");
	assert_says("same ID as 0000:32:00.1");
	assert_says("same ID as 0000:2f:00.1");
	/* Groups of bridges are only counted. */
	assert_silent_of("PCI bridge");
	assert_says("groups hold only bridges");
	assert_int_equal(ls(fixture, "--all"), 0);
	assert_says("PCI bridge");
}

/* Of the classes of what belongs to the board. */
static void what_a_guest_may_want_of_the_boards_classes_is_shown(void **state)
{
	struct fixture *fixture = *state;

	fixture_load(fixture, "ryzen-5900x");
	fixture_device(fixture, "/sys/devices/pci0000:00/0000:00:1a.0", "0x080501", NULL, 90);
	fixture_device(fixture, "/sys/devices/pci0000:00/0000:00:1b.0", "0x0b4000", NULL, 91);
	fixture_device(fixture, "/sys/devices/pci0000:00/0000:00:1c.0", "0x088000", NULL, 92);
	assert_int_equal(ls(fixture, ""), 0);
	assert_says("0000:00:1a.0");
	assert_says("0000:00:1b.0");
	assert_silent_of("0000:00:1c.0");
}

static unsigned width(const char *line, size_t size)
{
	unsigned characters = 0;

	for (size_t i = 0; i < size; i++)
		characters += (line[i] & 0xc0) != 0x80;
	return characters;
}

static void lines_fit_a_terminal(void **state)
{
	static const char *const hosts[] = { "ryzen-5900x", "shared-group", "sriov-no-mmio" };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		fixture_load(fixture, hosts[i]);
		assert_int_equal(ls(fixture, "--all"), 0);
		for (const char *line = output, *end; (end = strchr(line, '\n')); line = end + 1)
			if (width(line, end - line) > 80)
				fail_msg("%s: %.*s", hosts[i], (int)(end - line), line);
		fixture_teardown(state);
		fixture_setup(state);
		fixture = *state;
	}
}

static void only_a_terminal_gets_colour(void **state)
{
	struct fixture *fixture = *state;

	fixture_load(fixture, "ryzen-5900x");
	assert_int_equal(ls(fixture, ""), 0);
	assert_silent_of("\033");
}

/* A group is passed whole, so a match shows all of it, bridges as well. */
static void a_pattern_selects_groups(void **state)
{
	struct fixture *fixture = *state;

	fixture_load(fixture, "shared-group");
	assert_int_equal(ls(fixture, "geforce"), 0);
	assert_says("0000:01:00.0");
	assert_says("0000:02:00.0");
	assert_says("0000:00:01.0");
	assert_silent_of("0000:00:1f.4");
	assert_int_equal(ls(fixture, "02:00.0"), 0);
	assert_says("0000:01:00.1");
	assert_int_equal(ls(fixture, "zebra"), 1);
	assert_int_equal(ls(fixture, "a b"), 2);
	assert_int_equal(ls(fixture, "--plain --json"), 2);
}

static void json_has_it_all(void **state)
{
	struct fixture *fixture = *state;

	fixture_load(fixture, "sriov-no-mmio");
	assert_int_equal(ls(fixture, "--json 03:00.0"), 0);
	assert_says("\"version\":1");
	assert_says("\"address\":\"0000:03:00.0\"");
	assert_says("\"group\":12");
	assert_says("\"driver\":\"ixgbe\"");
	assert_says("\"kind\":\"mem64\"");
	assert_says("\"size\":524288");
	assert_says("\"max\":63");
	assert_says("\"in_use\":null");
	assert_silent_of("0000:03:00.1\",\n      \"group\"");
}

static void without_an_iommu_all_are_shown(void **state)
{
	struct fixture *fixture = *state;

	fixture_load(fixture, "intel-no-vtd");
	assert_int_equal(ls(fixture, ""), 0);
	assert_says("No IOMMU group\n");
	assert_says("0000:01:00.0");
}

#define LS_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* No step makes a guest have the board. */
static void the_doctor_leaves_the_board_to_the_host(void **state)
{
	fixture_load(*state, "ryzen-5900x");
	assert_int_equal(penstock(*state, "doctor", "00:00.0"), 1);
	assert_says(
		"\n0000:00:00.0 cannot be passed: it is a part of the board, and stays with the "
		"host\n");
	assert_silent_of("It takes");
	penstock(*state, "doctor", "00:01.1");
	assert_says(
		"\n0000:00:01.1 cannot be passed: it is a PCI bridge, and stays with the host\n");
	assert_int_equal(penstock(*state, "doctor", "--json 00:01.1"), 1);
	assert_silent_of("\"steps\":[\n        \"");
}

/* The lines that change, with their number; all of a new file until it is there to be read. */
static void a_plan_shows_what_changes(void **state)
{
	struct fixture *fixture = *state;

	fixture_load(fixture, "intel-iommu-off");
	fixture_file(fixture, "/run/none", "");
	assert_int_equal(penstock(fixture, "boot-config", "01:00.0"), 0);
	assert_says("0000:01:00.0 [10de:2484]: nouveau -> vfio-pci at boot\n");
	assert_says("\n/etc/default/grub: would be changed\n  why: ");
	assert_says("\n  line 3:\n"
		    "  - GRUB_CMDLINE_LINUX_DEFAULT=\"quiet intel_iommu=off\"\n"
		    "  + GRUB_CMDLINE_LINUX_DEFAULT=\"quiet intel_iommu=off intel_iommu=on\"\n\n");
	assert_says("\n/etc/modules-load.d/penstock.conf: would be made\n");
	assert_says("\n  | vfio-pci\n");
	assert_says("\nTo run afterwards, as root, then reboot:\n  update-initramfs -u -k all\n"
		    "  update-grub\n\nNothing was changed; --write does it.\n");
	assert_int_equal(penstock(fixture, "boot-config", "--write 01:00.0"), 0);
	assert_says("\n/etc/default/grub: changed\n");
	assert_says("\n/etc/modules-load.d/penstock.conf: made\n");
	assert_silent_of("\n  | vfio-pci\n");
	assert_says("\nRun next, as root, then reboot:\n");
	assert_silent_of("Nothing was changed");
	assert_int_equal(penstock(fixture, "boot-config", "01:00.0"), 0);
	assert_says("\n/etc/default/grub: is so already\n");
}

static void undoing_shows_what_was_left(void **state)
{
	struct fixture *fixture = *state;

	fixture_load(fixture, "intel-iommu-off");
	fixture_file(fixture, "/run/none", "");
	assert_int_equal(penstock(fixture, "boot-config", "--write 01:00.0"), 0);
	fixture_file(fixture, "/etc/modules-load.d/penstock.conf", "mine\n");
	fixture_file(fixture, "/etc/default/grub",
		"# new\nGRUB_CMDLINE_LINUX_DEFAULT=\"splash intel_iommu=on\"\n");
	assert_int_equal(penstock(fixture, "boot-config", "--undo"), 1);
	assert_says("\n/etc/modules-load.d/penstock.conf: was left as it is\n"
		    "  it was changed after penstock wrote it: remove it yourself");
	assert_says("\n/etc/default/grub: changed\n"
		    "  it was changed after penstock wrote it; that is kept, and only "
		    "'intel_iommu=on' was taken out\n  line 2:\n");
	assert_says("  + GRUB_CMDLINE_LINUX_DEFAULT=\"splash\"\n");
}

static void what_no_command_can_mean_is_wrong_usage(void **state)
{
	static const char *const wrong[][2] = { { "bind", "" }, { "bind", "--nonsense 01:00.0" },
		{ "release", "" }, { "release", "--all 01:00.0" }, { "release", "--stale --all" },
		{ "rom", "" }, { "rom", "dump 01:00.0" }, { "rom", "show 01:00.0 file" },
		{ "rom", "--nonsense" }, { "boot-config", "" }, { "boot-config", "--undo 01:00.0" },
		{ "doctor", "--nonsense" }, { "reset", "" } };
	char arguments[160];

	fixture_load(*state, "shared-group");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(arguments, sizeof(arguments), "%s 2>&1 >/dev/null | grep -q -e '--help'",
			wrong[i][1]);
		assert_int_equal(penstock(*state, wrong[i][0], arguments), 0);
		assert_int_equal(penstock(*state, wrong[i][0], wrong[i][1]), 2);
		assert_string_equal(output, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LS_TEST(the_classic_list_is_that_of_the_document),
		LS_TEST(the_tree_tells_what_matters),
		LS_TEST(what_a_guest_may_want_of_the_boards_classes_is_shown),
		LS_TEST(lines_fit_a_terminal),
		LS_TEST(only_a_terminal_gets_colour),
		LS_TEST(a_pattern_selects_groups),
		LS_TEST(json_has_it_all),
		LS_TEST(without_an_iommu_all_are_shown),
		LS_TEST(the_doctor_leaves_the_board_to_the_host),
		LS_TEST(a_plan_shows_what_changes),
		LS_TEST(undoing_shows_what_was_left),
		LS_TEST(what_no_command_can_mean_is_wrong_usage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
