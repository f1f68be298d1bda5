/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/boot/bios.h"
#include "machine/layout.h"
#include "test.h"

#include <endian.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

/* A machine with RAM and four slots: two ports with devices, one that is empty, and a device on the root bus. */

#define RAM       (16 * MIB)
#define ADDRESS   0xcf8
#define DATA      0xcfc
#define PAM       0x90
#define CLASS_ANY 0x0108

struct fixture {
	struct memory memory;
	struct space mmio, pio;
	struct topology topology;
	struct machine_pci pci;
	struct boot_machine machine;
	struct fw_cfg fw_cfg;
	struct pci_device devices[4];
	unsigned device_count;
	uint8_t image[256 * KIB];
	struct flash flash;
	struct bios bios;
};

static struct error err;

static void on_reset(void *opaque)
{
	(void)opaque;
}

static int setup(void **state)
{
	static struct fixture fixture;

	err = (struct error){ 0 };
	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.mmio);
	space_init(&fixture.pio);
	memory_place(&fixture.memory, RAM, MEMORY_PAGE, NULL, 0, &err);
	memory_map(&fixture.memory, memory_file(RAM, 0), MEMORY_HUGE, &err);
	fixture.pci.reset = on_reset;
	fixture.topology.firmware = true;
	topology_windows(40, RAM, true, &fixture.topology.windows, &err);
	topology_plan(&fixture.topology, 3, &err);
	machine_pci_init(
		&fixture.pci, NULL, &fixture.mmio, &fixture.pio, &fixture.topology, true, &err);
	fw_cfg_init(&fixture.fw_cfg, &fixture.pio, &fixture.memory);
	fixture.machine = (struct boot_machine){ .memory = &fixture.memory, .pci = &fixture.pci };
	for (size_t i = 0; i < sizeof(fixture.image); i++)
		fixture.image[i] = i >> 10 ^ i;
	fixture.flash = (struct flash){ .code = fixture.image, .code_size = sizeof(fixture.image) };
	*state = &fixture;
	return err.code;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	bios_destroy(&fixture->bios);
	for (unsigned i = 0; i < fixture->device_count; i++)
		pci_device_destroy(&fixture->devices[i]);
	machine_pci_destroy(&fixture->pci);
	memory_free(&fixture->memory);
	space_destroy(&fixture->pio);
	space_destroy(&fixture->mmio);
	return 0;
}

static void add(struct fixture *fixture, struct pci_bus *bus, uint8_t devfn, uint16_t class)
{
	static const struct pci_device_ops ops;
	struct pci_device *device = &fixture->devices[fixture->device_count++];

	assert_int_equal(pci_device_init(device, &ops), 0);
	pci_set16(device, PCI_CLASS_DEVICE, class);
	assert_int_equal(pci_bus_add(bus, device, devfn, &err), 0);
}

static struct pci_bus *behind(struct fixture *fixture, unsigned port)
{
	return &fixture->pci.ports[port].bridge.secondary;
}

static void load(struct fixture *fixture)
{
	if (bios_load(&fixture->bios, &fixture->flash, &fixture->machine, &fixture->fw_cfg, &err))
		fail_msg("%s", err.what);
}

/* What it reads at the ports of fw_cfg; -1: there is no such file. */
static int read_file(struct fixture *fixture, const char *name, char *bytes, size_t room)
{
	for (unsigned i = 0; i < fixture->fw_cfg.file_count; i++) {
		const struct fw_cfg_file *file = &fixture->fw_cfg.directory.files[i];
		size_t size = be32toh(file->size);

		if (strcmp(file->name, name))
			continue;
		assert_true(size < room);
		space_write(&fixture->pio, FW_CFG_PORT, 2, be16toh(file->key));
		for (size_t j = 0; j < size; j++)
			bytes[j] = space_read(&fixture->pio, FW_CFG_PORT + 1, 1);
		bytes[size] = '\0';
		return size;
	}
	return -1;
}

static const uint8_t *ram(struct fixture *fixture, uint64_t gpa)
{
	return memory_at(&fixture->memory, gpa, LAYOUT_1M - gpa);
}

TEST(the_images_end_is_below_1_mib)
{
	struct fixture *fixture = *state;

	load(fixture);
	assert_memory_equal(ram(fixture, 0xe0000), fixture->image + 0x20000, 0x20000);
	assert_int_equal(*ram(fixture, 0xdffff), 0);
}

TEST(a_small_image_is_there_whole)
{
	struct fixture *fixture = *state;

	fixture->flash.code_size = 64 * KIB;
	load(fixture);
	assert_memory_equal(ram(fixture, 0xf0000), fixture->image, 0x10000);
	assert_int_equal(*ram(fixture, 0xeffff), 0);
}

TEST(a_tpm_has_an_empty_log)
{
	static char log[0x10001], zeroes[0x10000];
	struct fixture *fixture = *state;

	load(fixture);
	assert_int_equal(read_file(fixture, "etc/tpm/log", log, sizeof(log)), -1);
	bios_destroy(&fixture->bios);
	fixture->machine.tpm = true;
	load(fixture);
	assert_int_equal(read_file(fixture, "etc/tpm/log", log, sizeof(log)), sizeof(zeroes));
	assert_memory_equal(log, zeroes, sizeof(zeroes));
}

/* It looks at PAM0 for whether it has run before, and writes all seven as two double words. */
TEST(pam_holds_what_is_written)
{
	struct fixture *fixture = *state;

	load(fixture);
	for (unsigned at = PAM; at < PAM + 8; at += 4) {
		space_write(&fixture->pio, ADDRESS, 4, 1U << 31 | at);
		assert_int_equal((uint32_t)space_read(&fixture->pio, DATA, 4), 0);
		space_write(&fixture->pio, DATA, 4, 0xffffffff);
		assert_int_equal((uint32_t)space_read(&fixture->pio, DATA, 4),
			at == PAM ? 0x33333330 : 0x00333333);
	}
}

TEST(it_speaks_by_the_serial_port)
{
	struct fixture *fixture = *state;
	char port[16];

	load(fixture);
	assert_int_equal(read_file(fixture, "etc/sercon-port", port, sizeof(port)), 8);
	assert_memory_equal(port, "\xf8\x03\0\0\0\0\0", 8);
}

TEST(devices_are_tried_in_their_order)
{
	struct fixture *fixture = *state;
	char order[1024];
	int size;

	add(fixture, behind(fixture, 2), 0, CLASS_ANY);
	add(fixture, behind(fixture, 0), 3, CLASS_ANY);
	add(fixture, behind(fixture, 0), 0, CLASS_ANY);
	add(fixture, &fixture->pci.root.bus, 9 << 3, 0x0106);
	load(fixture);
	size = read_file(fixture, "bootorder", order, sizeof(order));
	assert_true(size > 0);
	assert_string_equal(order, "/pci@i0cf8/pci-bridge@1/device@0\n"
				   "/pci@i0cf8/pci-bridge@1/device@0,3\n"
				   "/pci@i0cf8/pci-bridge@3/device@0\n"
				   "/pci@i0cf8/device@9\n"
				   "/pci@i0cf8/device@9/drive@0/disk@0\n"
				   "/pci@i0cf8/device@9/drive@1/disk@0\n"
				   "/pci@i0cf8/device@9/drive@2/disk@0\n"
				   "/pci@i0cf8/device@9/drive@3/disk@0\n"
				   "/pci@i0cf8/device@9/drive@4/disk@0\n"
				   "/pci@i0cf8/device@9/drive@5/disk@0\n"
				   "/pci@i0cf8/device@9/drive@6/disk@0\n"
				   "/pci@i0cf8/device@9/drive@7/disk@0");
}

TEST(without_devices_there_is_no_order)
{
	struct fixture *fixture = *state;
	char order[64];

	load(fixture);
	assert_int_equal(read_file(fixture, "bootorder", order, sizeof(order)), -1);
}

#define BIOS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BIOS_TEST(the_images_end_is_below_1_mib),
		BIOS_TEST(a_small_image_is_there_whole),
		BIOS_TEST(a_tpm_has_an_empty_log),
		BIOS_TEST(pam_holds_what_is_written),
		BIOS_TEST(it_speaks_by_the_serial_port),
		BIOS_TEST(devices_are_tried_in_their_order),
		BIOS_TEST(without_devices_there_is_no_order),
	};

	return test_run(tests);
}
