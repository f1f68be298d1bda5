/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/device/nodes.h"
#include "host/device/processes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define CARD  "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0"
#define OTHER "/sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0"

/* A device at path with the node /dev/NAME. */
static void make_node(
	struct fixture *fixture, const char *path, const char *number, const char *name)
{
	char file[PATH_MAX], text[128];

	snprintf(file, sizeof(file), "%s/uevent", path);
	snprintf(text, sizeof(text), "MAJOR=1\nDEVNAME=%s\nDEVTYPE=x\n", name);
	fixture_file(fixture, file, text);
	snprintf(file, sizeof(file), "/sys/dev/%s", number);
	fixture_link(fixture, file, path);
}

static bool is_boot_display;

/* The names of all nodes, each behind a space: the order is the directory's. */
static void find(struct fixture *fixture, bool vital, const char *driver, char *text, size_t size)
{
	struct host_device device = {
		.bdf = { 0, 1, 0, 0 },
		.class_code = 0x030000,
		.boot_display = is_boot_display,
	};
	struct host_nodes nodes;
	size_t used = 0;

	strcpy(device.driver, driver);
	text[0] = '\0';
	host_nodes_find(&fixture->host, &device, &nodes);
	assert_false(nodes.incomplete);
	for (size_t i = 0; i < nodes.count && used < size; i++)
		if (nodes.nodes[i].vital || !vital)
			used += snprintf(text + used, size - used, " %s", nodes.nodes[i].name);
	host_nodes_free(&nodes);
}

static void assert_nodes(
	struct fixture *fixture, bool vital, const char *driver, const char *wanted)
{
	char text[1024], copy[256], *save;
	size_t length = 0;

	find(fixture, vital, driver, text, sizeof(text));
	strcat(text, " ");
	strcpy(copy, wanted);
	for (char *at = strtok_r(copy, " ", &save); at; at = strtok_r(NULL, " ", &save)) {
		char word[64];

		snprintf(word, sizeof(word), " %s ", at);
		if (!strstr(text, word))
			fail_msg("no %s in '%s'", at, text);
		length += strlen(at) + 1;
	}
	assert_int_equal(strlen(text), length + 1);
}

static void what_is_below_the_device_has_its_nodes(void **state)
{
	fixture_device(*state, CARD, "0x0c0330", "xhci_hcd", 1);
	fixture_device(*state, OTHER, "0x010802", "nvme", 2);
	make_node(*state, CARD "/usb1/1-1", "char/189:1", "bus/usb/001/002");
	make_node(*state, CARD "/usb1/1-1/1-1:1.0/host4/block/sdb", "block/8:16", "sdb");
	make_node(*state, CARD "/usb1/1-1/1-1:1.0/host4/block/sdb/sdb1", "block/8:17", "sdb1");
	make_node(*state, OTHER "/nvme/nvme0/nvme0n1", "block/259:0", "nvme0n1");
	assert_nodes(*state, false, "xhci_hcd", "bus/usb/001/002 sdb sdb1");
	assert_nodes(*state, true, "xhci_hcd", "sdb sdb1");
}

static void graphics_and_nvme_namespaces_are_vital(void **state)
{
	fixture_device(*state, CARD, "0x030000", "amdgpu", 1);
	make_node(*state, CARD "/drm/card0", "char/226:0", "dri/card0");
	make_node(*state, CARD "/graphics/fb0", "char/29:0", "fb0");
	make_node(*state, CARD "/drm/card0/i2c-3", "char/89:3", "i2c-3");
	make_node(*state, CARD "/nvme/nvme0/ng0n1", "char/510:0", "ng0n1");
	make_node(*state, CARD "/nvme/nvme0", "char/511:0", "nvme0");
	assert_nodes(*state, true, "amdgpu", "dri/card0 fb0 ng0n1");
	assert_nodes(*state, false, "amdgpu", "dri/card0 fb0 ng0n1 i2c-3 nvme0");
}

static void make_framebuffer(struct fixture *fixture, const char *path, unsigned number)
{
	char node[128], name[16], link[128];

	snprintf(node, sizeof(node), "%s/graphics/fb%u", path, number);
	snprintf(name, sizeof(name), "fb%u", number);
	snprintf(link, sizeof(link), "char/29:%u", number);
	make_node(fixture, node, link, name);
	snprintf(link, sizeof(link), "/sys/bus/platform/devices/efi-framebuffer.%u", number);
	fixture_link(fixture, link, path);
	snprintf(link, sizeof(link), "/sys/bus/platform/drivers/efi-framebuffer/efi-framebuffer.%u",
		number);
	fixture_link(fixture, link, path);
}

/* That of the firmware counts for the card that it is below, or else for the boot display. */
static void the_firmwares_frame_buffer_is_vital(void **state)
{
	struct fixture *fixture = *state;

	fixture_device(fixture, CARD, "0x030000", NULL, 1);
	fixture_file(fixture, "/sys/devices/platform/uevent", "");
	make_framebuffer(fixture, "/sys/devices/platform/efi-framebuffer.0", 0);
	assert_nodes(fixture, true, "", "");
	is_boot_display = true;
	assert_nodes(fixture, true, "", "fb0");
	is_boot_display = false;
	make_framebuffer(fixture, CARD "/efi-framebuffer.1", 1);
	assert_nodes(fixture, true, "", "fb1");
}

static void many_disks_are_all_found(void **state)
{
	char path[128], number[32], name[32];
	struct host_device device = { .bdf = { 0, 1, 0, 0 } };
	struct fixture *fixture = *state;
	struct host_nodes nodes;

	fixture_device(fixture, CARD, "0x010700", "mpt3sas", 1);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), CARD "/host0/target%u/block/sd%u", i, i);
		snprintf(number, sizeof(number), "block/8:%u", i);
		snprintf(name, sizeof(name), "sd%u", i);
		make_node(fixture, path, number, name);
	}
	host_nodes_find(&fixture->host, &device, &nodes);
	assert_int_equal(nodes.count, 300);
	host_nodes_free(&nodes);
}

static void a_path_of_nvme_multipath_has_the_nodes_of_its_head(void **state)
{
	static const char head[] = "/sys/devices/virtual/nvme-subsystem/nvme-subsys3/nvme3n1";

	fixture_device(*state, CARD, "0x010802", "nvme", 1);
	fixture_disk(*state, CARD "/nvme/nvme0/nvme3c0n1", "0:0\n");
	fixture_disk(*state, head, "259:4\n");
	make_node(*state, head, "block/259:4", "nvme3n1");
	make_node(*state, "/sys/devices/virtual/nvme-subsystem/nvme-subsys3/nvme3n1/nvme3n1p1",
		"block/259:5", "nvme3n1p1");
	assert_nodes(*state, true, "nvme", "nvme3n1 nvme3n1p1 ng3n1");
}

static void an_nvidia_card_has_the_node_of_its_minor(void **state)
{
	fixture_device(*state, CARD, "0x030000", "nvidia", 1);
	assert_nodes(*state, true, "nvidia", "");
	fixture_file(*state, "/proc/driver/nvidia/gpus/0000:01:00.0/information",
		"Model: \t\t NVIDIA GeForce RTX 3060\nIRQ:   \t\t 139\n"
		"Bus Location: \t 0000:01:00.0\nDevice Minor: \t 1\n");
	fixture_file(*state, "/proc/driver/nvidia/gpus/0000:02:00.0/information",
		"Device Minor: \t 0\n");
	assert_nodes(*state, true, "nvidia", "nvidia1");
	assert_nodes(*state, true, "nouveau", "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_below_the_device_has_its_nodes),
		TEST(graphics_and_nvme_namespaces_are_vital),
		TEST(the_firmwares_frame_buffer_is_vital),
		TEST(many_disks_are_all_found),
		TEST(a_path_of_nvme_multipath_has_the_nodes_of_its_head),
		TEST(an_nvidia_card_has_the_node_of_its_minor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
