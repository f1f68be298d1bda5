/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "pci/root.h"
#include "test.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdbool.h>
#include <string.h>

/*
 * A bus with one device in slot 1: BAR 0 is 32-bit memory of 16 KiB, BAR 1 ports, BAR 2 64-bit
 * memory, prefetchable, of 8 GiB, BAR 4 32-bit memory of 256 bytes.
 */

#define ECAM       0xe0000000ULL
#define IO_BASE    0x6000
#define IO_SIZE    0xa000
#define MEM32_BASE 0x80000000ULL
#define MEM32_SIZE 0x60000000ULL
#define MEM64_BASE 0x100000000000ULL
#define MEM64_SIZE 0x100000000000ULL

#define DEVFN  (1 << 3)
#define CONFIG (ECAM + (DEVFN << 12))
#define MEM32  0
#define PORTS  1
#define MEM64  2
#define SMALL  4

struct access {
	unsigned bar;
	uint64_t offset;
	unsigned size;
	uint64_t value;
	unsigned count;
};

struct fixture {
	struct pci_device device; /* first: the operations get it */
	struct space mmio, pio;
	struct pci_root root;
	struct access read, write;
	unsigned mapped[PCI_DECODES], unmapped[PCI_DECODES];
	uint64_t mapped_at[PCI_DECODES];
	bool was_decoded_at_unmap;
	unsigned resets;
};

static uint64_t bar_read(struct pci_device *device, unsigned bar, uint64_t offset, unsigned size)
{
	struct fixture *fixture = (struct fixture *)device;

	fixture->read = (struct access){ bar, offset, size, 0, fixture->read.count + 1 };
	return 0x1122334455667788;
}

static void bar_write(
	struct pci_device *device, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
	struct fixture *fixture = (struct fixture *)device;

	fixture->write = (struct access){ bar, offset, size, value, fixture->write.count + 1 };
}

static void bar_mapped(struct pci_device *device, unsigned bar)
{
	struct fixture *fixture = (struct fixture *)device;

	fixture->mapped[bar]++;
	fixture->mapped_at[bar] = device->bars[bar].address;
}

static void bar_unmapped(struct pci_device *device, unsigned bar)
{
	struct fixture *fixture = (struct fixture *)device;

	fixture->unmapped[bar]++;
	fixture->was_decoded_at_unmap = device->bars[bar].decoded;
}

static const struct pci_device_ops ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_mapped = bar_mapped,
	.bar_unmapped = bar_unmapped,
};

static void on_reset(void *opaque)
{
	struct fixture *fixture = opaque;

	fixture->resets++;
}

static const struct pci_root_ops root_ops = { .reset = on_reset };

static int add(struct fixture *fixture, struct pci_device *device, uint8_t devfn, struct error *err)
{
	return pci_bus_add(&fixture->root.bus, device, devfn, err) || pci_bus_place(device, err)
		       ? err->code
		       : 0;
}

static void make_device(struct pci_device *device)
{
	pci_device_init(device, &ops);
	pci_set16(device, PCI_VENDOR_ID, 0x1234);
	pci_set16(device, PCI_DEVICE_ID, 0x5678);
	pci_device_set_bar(device, MEM32, PCI_BAR_MEM32, false, 16 * KIB);
	pci_device_set_bar(device, PORTS, PCI_BAR_IO, false, 32);
	pci_device_set_bar(device, MEM64, PCI_BAR_MEM64, true, 8 * GIB);
	pci_device_set_bar(device, SMALL, PCI_BAR_MEM32, false, 256);
}

static int setup(void **state)
{
	static const struct pci_windows windows = {
		.io = { IO_BASE, IO_SIZE, IO_BASE },
		.mem32 = { MEM32_BASE, MEM32_SIZE, MEM32_BASE },
		.mem64 = { MEM64_BASE, MEM64_SIZE, MEM64_BASE },
	};
	static struct fixture fixture;
	struct error err = { 0 };

	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.mmio);
	space_init(&fixture.pio);
	pci_root_init(&fixture.root, &fixture.mmio, &fixture.pio, ECAM, 1, &windows, &err);
	fixture.root.ops = &root_ops;
	fixture.root.opaque = &fixture;
	fixture.root.has_ports = true;
	make_device(&fixture.device);
	add(&fixture, &fixture.device, DEVFN, &err);
	*state = &fixture;
	return err.code;
}

/* What some tests have beside it. */
static struct fixture other;

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	pci_device_destroy(&other.device);
	pci_root_destroy(&fixture->root);

	space_destroy(&fixture->mmio);
	space_destroy(&fixture->pio);
	pci_device_destroy(&fixture->device);
	return 0;
}

static uint64_t get(struct fixture *fixture, unsigned offset, unsigned size)
{
	uint64_t value = space_read(&fixture->mmio, CONFIG + offset, size);

	return size == 8 ? value : value & ((1ULL << 8 * size) - 1);
}

static void set(struct fixture *fixture, unsigned offset, unsigned size, uint64_t value)
{
	space_write(&fixture->mmio, CONFIG + offset, size, value);
}

static unsigned bar(unsigned i)
{
	return PCI_BASE_ADDRESS_0 + 4 * i;
}

static void decode(struct fixture *fixture, uint16_t command)
{
	set(fixture, PCI_COMMAND, 2, command);
}

static uint64_t address_of(struct fixture *fixture, unsigned i)
{
	uint64_t low = get(fixture, bar(i), 4);

	if (i == PORTS)
		return low & ~3;
	return (low & ~15) | (i == MEM64 ? get(fixture, bar(i + 1), 4) << 32 : 0);
}

/* Configuration space */

static void the_guest_reads_every_size(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, 0, 4), 0x56781234);
	assert_int_equal(get(fixture, 0, 2), 0x1234);
	assert_int_equal(get(fixture, 2, 2), 0x5678);
	assert_int_equal(get(fixture, 1, 1), 0x12);
	assert_int_equal(get(fixture, 1, 2), 0x7812);
	assert_int_equal(get(fixture, 0, 8), 0x56781234);
	assert_int_equal(get(fixture, 3, 1), 0x56);
}

static void what_is_not_writable_stays(void **state)
{
	struct fixture *fixture = *state;
	uint8_t before[256];

	memcpy(before, fixture->device.config, sizeof(before));
	set(fixture, PCI_VENDOR_ID, 4, 0);
	set(fixture, PCI_STATUS, 2, 0xffff);
	set(fixture, PCI_CLASS_REVISION, 4, 0xffffffff);
	set(fixture, PCI_HEADER_TYPE, 1, 0xff);
	set(fixture, PCI_SUBSYSTEM_VENDOR_ID, 4, 0xffffffff);
	set(fixture, PCI_INTERRUPT_PIN, 1, 0xff);
	set(fixture, 0x40, 8, UINT64_MAX);
	assert_memory_equal(before, fixture->device.config, sizeof(before));
	set(fixture, PCI_CACHE_LINE_SIZE, 1, 0xa5);
	assert_int_equal(get(fixture, PCI_CACHE_LINE_SIZE, 1), 0xa5);
	set(fixture, PCI_INTERRUPT_LINE, 1, 11);
	assert_int_equal(get(fixture, PCI_INTERRUPT_LINE, 1), 11);
	/* A device decodes what it has BARs for, and has no other command bits. */
	decode(fixture, 0xffff);
	assert_int_equal(get(fixture, PCI_COMMAND, 2), PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
}

static void a_mask_is_of_bits(void **state)
{
	struct fixture *fixture = *state;

	pci_set32(&fixture->device, 0x50, 0xaaaaaaaa);
	fixture->device.writable[0x51] = 0x0f;
	set(fixture, 0x50, 4, 0x55555555);
	assert_int_equal(get(fixture, 0x50, 4), 0xaaaaa5aa);
	set(fixture, 0x51, 1, 0xff);
	assert_int_equal(get(fixture, 0x50, 4), 0xaaaaafaa);
}

static void the_space_ends(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, 0xfe, 4), 0xffff0000);
	assert_int_equal(get(fixture, 0x100, 4), UINT32_MAX);
	fixture->device.config_size = PCI_CONFIG_SIZE;
	memset(fixture->device.writable + 0xff0, 0xff, 16);
	assert_int_equal(get(fixture, 0x100, 4), 0);
	set(fixture, 0xffe, 4, 0x12345678);
	assert_int_equal(get(fixture, 0xffe, 2), 0x5678);
	assert_int_equal(get(fixture, 0xffe, 4), 0xffff5678);
	assert_int_equal(get(fixture, 0xfff, 1), 0x56);
	set(fixture, 0xffc, 8, 0);
	assert_true(get(fixture, 0xffc, 8) == 0xffffffff00000000);
	set(fixture, 0xfff, 8, UINT64_MAX);
	assert_int_equal(get(fixture, 0xffc, 4), 0xff000000);
}

static void eight_bytes_are_two_double_words(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, bar(MEM64), 8, 0x0000123456789abc);
	assert_int_equal(get(fixture, bar(MEM64), 4) & ~15, 0);
	assert_int_equal(get(fixture, bar(MEM64 + 1), 4), 0x1234);
	assert_true(get(fixture, bar(MEM64), 8) == 0x000012340000000c);
}

static void an_absent_device_reads_ones(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned devfn = 0; devfn < 256; devfn++) {
		uint64_t at = ECAM + (devfn << 12);

		if (devfn == DEVFN)
			continue;
		assert_int_equal(space_read(&fixture->mmio, at, 1) & 0xff, 0xff);
		assert_int_equal(space_read(&fixture->mmio, at, 4) & UINT32_MAX, UINT32_MAX);
		assert_true(space_read(&fixture->mmio, at, 8) == UINT64_MAX);
		space_write(&fixture->mmio, at, 8, 0);
	}
	/* Another bus, and the last byte of ECAM space. */
	assert_int_equal(
		space_read(&fixture->mmio, CONFIG + (1 << 20), 4) & UINT32_MAX, UINT32_MAX);
	assert_true(space_read(&fixture->mmio, ECAM + (256 << 20) - 1, 8) == UINT64_MAX);
	assert_true(space_read(&fixture->mmio, ECAM + PCI_ECAM_BUS_SIZE - 1, 8) == UINT64_MAX);
	assert_int_equal(get(fixture, 0, 4), 0x56781234);
}

/* CF8 and CFC */

static uint32_t in(struct fixture *fixture, unsigned port, unsigned size)
{
	return space_read(&fixture->pio, port, size) & ((2ULL << (8 * size - 1)) - 1);
}

static void out(struct fixture *fixture, unsigned port, unsigned size, uint32_t value)
{
	space_write(&fixture->pio, port, size, value);
}

static uint32_t config_address(unsigned devfn, unsigned offset)
{
	return 1U << 31 | devfn << 8 | offset;
}

static void the_ports_reach_configuration_space(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, 0xcf8, 4, config_address(DEVFN, 0));
	assert_int_equal(in(fixture, 0xcf8, 4), config_address(DEVFN, 0));
	assert_int_equal(in(fixture, 0xcfc, 4), 0x56781234);
	assert_int_equal(in(fixture, 0xcfe, 2), 0x5678);
	assert_int_equal(in(fixture, 0xcfd, 1), 0x12);
	assert_int_equal(in(fixture, 0xcfd, 2), 0x7812);
	out(fixture, 0xcf8, 4, config_address(DEVFN, PCI_INTERRUPT_LINE));
	out(fixture, 0xcfc, 1, 9);
	assert_int_equal(get(fixture, PCI_INTERRUPT_LINE, 1), 9);
	out(fixture, 0xcf8, 4, config_address(DEVFN, bar(MEM32)));
	out(fixture, 0xcfe, 2, 0x9000);
	assert_int_equal(address_of(fixture, MEM32) >> 16, 0x9000);
}

static void the_address_port_takes_double_words(void **state)
{
	struct fixture *fixture = *state;
	uint32_t address = config_address(DEVFN, 0x10);

	out(fixture, 0xcf8, 4, address);
	out(fixture, 0xcf8, 1, 0);
	out(fixture, 0xcf8, 2, 0);
	out(fixture, 0xcfa, 2, 0);
	out(fixture, 0xcfb, 1, 0);
	assert_int_equal(in(fixture, 0xcf8, 4), address);
	assert_int_equal(in(fixture, 0xcfb, 1), 0x80);
	assert_int_equal(in(fixture, 0xcf8, 2), address & 0xffff);
	/* Bits 30 to 24 and 1 to 0 are reserved. */
	out(fixture, 0xcf8, 4, UINT32_MAX);
	assert_int_equal(in(fixture, 0xcf8, 4), 0x80fffffc);
}

static void a_disabled_address_reads_ones(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, 0xcf8, 4, config_address(DEVFN, PCI_INTERRUPT_LINE) & ~(1U << 31));
	assert_int_equal(in(fixture, 0xcfc, 4), UINT32_MAX);
	out(fixture, 0xcfc, 4, 9);
	assert_int_equal(get(fixture, PCI_INTERRUPT_LINE, 1), 0);
	out(fixture, 0xcf8, 4, config_address(DEVFN, 0) | 1 << 16); /* bus 1 */
	assert_int_equal(in(fixture, 0xcfc, 4), UINT32_MAX);
	out(fixture, 0xcf8, 4, config_address(DEVFN + 1, 0));
	assert_int_equal(in(fixture, 0xcfc, 4), UINT32_MAX);
	assert_int_equal(in(fixture, 0xcfc, 2), 0xffff);
	assert_int_equal(in(fixture, 0xcfc, 1), 0xff);
}

static void an_access_over_the_ports_ends_is_nobodys(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, 0xcf8, 4, config_address(DEVFN, PCI_INTERRUPT_LINE));
	out(fixture, 0xcfd, 4, UINT32_MAX);
	out(fixture, 0xcff, 2, UINT32_MAX);
	out(fixture, 0xcf7, 2, UINT32_MAX);
	assert_int_equal(in(fixture, 0xcfd, 4), UINT32_MAX);
	assert_int_equal(get(fixture, PCI_INTERRUPT_LINE, 4), 0);
	assert_int_equal(fixture->resets, 0);
}

static void cf9_resets(void **state)
{
	struct fixture *fixture = *state;

	out(fixture, 0xcf9, 1, 0x02); /* which kind of reset, not yet now */
	out(fixture, 0xcf8, 4, config_address(DEVFN, 0x04 << 2));
	out(fixture, 0xcf8, 2, 0x0606);
	out(fixture, 0xcf9, 2, 0x0606);
	assert_int_equal(fixture->resets, 0);
	out(fixture, 0xcf9, 1, 0x06);
	assert_int_equal(fixture->resets, 1);
	fixture->root.ops = &(const struct pci_root_ops){ 0 };
	out(fixture, 0xcf9, 1, 0x06);
	assert_int_equal(fixture->resets, 1);
}

/* BARs */

/* Each register by both ways, and a device in the last slot as well. */
static void the_ports_reach_what_ecam_does(void **state)
{
	struct fixture *fixture = *state;
	struct pci_device last;
	struct error err = { 0 };

	for (unsigned at = 0x40; at < 256; at++)
		fixture->device.config[at] = at * 7;
	for (unsigned at = 0; at < 256; at++) {
		out(fixture, 0xcf8, 4, config_address(DEVFN, at & ~3));
		assert_int_equal(in(fixture, 0xcfc + at % 4, 1), get(fixture, at, 1));
	}
	pci_device_init(&last, &ops);
	assert_int_equal(add(fixture, &last, 0xff, &err), 0);
	assert_int_equal(last.devfn, 0xff);
	out(fixture, 0xcf8, 4, config_address(0xff, PCI_CACHE_LINE_SIZE));
	out(fixture, 0xcfc, 1, 0xa5);
	assert_int_equal(in(fixture, 0xcfc, 1), 0xa5);
	assert_int_equal(last.config[PCI_CACHE_LINE_SIZE], 0xa5);
	pci_device_destroy(&last);
}

/* Another bus, or no address, or the address itself. */
static void a_write_that_is_not_for_the_device_misses_it(void **state)
{
	struct fixture *fixture = *state;

	memset(&fixture->device.writable[0x3c], 0xff, 4);
	for (unsigned bit = 16; bit < 24; bit++) {
		out(fixture, 0xcf8, 4, config_address(DEVFN, 0x3c) | 1U << bit);
		out(fixture, 0xcfc, 4, UINT32_MAX);
		assert_int_equal(in(fixture, 0xcfc, 4), UINT32_MAX);
	}
	out(fixture, 0xcf8, 4, config_address(DEVFN, 0x3c) & ~(1U << 31));
	out(fixture, 0xcfc, 4, UINT32_MAX);
	out(fixture, 0xcf8, 4, config_address(DEVFN, 0x40));
	for (unsigned port = 0xcf8; port < 0xcfc; port++)
		out(fixture, port, 1, 0xff);
	assert_int_equal(get(fixture, 0x3c, 4), 0);
}

static void a_space_that_is_taken_is_an_error(void **state)
{
	struct fixture *fixture = *state;
	struct pci_windows windows = fixture->root.bus.windows;
	struct pci_root root;
	struct error err = { 0 };

	assert_int_equal(
		pci_root_init(&root, &fixture->mmio, &fixture->pio, ECAM, 1, &windows, &err),
		-EEXIST);
	assert_non_null(strstr(err.what, "configuration space"));
	err = (struct error){ 0 };
	assert_int_equal(pci_root_init(&root, &fixture->mmio, &fixture->pio,
				 ECAM + PCI_ECAM_BUS_SIZE, 1, &windows, &err),
		-EEXIST); /* the ports */
}

/* As hostile as a size may be: the type's bits stay. */
static void the_smallest_bars_keep_their_type(void **state)
{
	struct fixture *fixture = *state;
	struct pci_device small;
	struct error err = { 0 };

	pci_device_init(&small, &ops);
	pci_device_set_bar(&small, 0, PCI_BAR_MEM32, true, 1);
	pci_device_set_bar(&small, 1, PCI_BAR_IO, false, 1);
	pci_device_set_bar(&small, 2, PCI_BAR_IO, false, 4);
	assert_int_equal(add(fixture, &small, DEVFN + 1, &err), 0);
	for (unsigned i = 0; i < 3; i++)
		pci_device_config_write(&small, bar(i), 4, UINT32_MAX);
	assert_int_equal(pci_get32(&small, bar(0)), 0xfffffff8);
	assert_int_equal(pci_get32(&small, bar(1)), 0xfffffffd);
	assert_int_equal(pci_get32(&small, bar(2)), 0xfffffffd);
	pci_device_config_write(&small, bar(2), 4, IO_BASE + 0x104);
	assert_int_equal(pci_device_bar_register(&small, 2), IO_BASE + 0x104);
	pci_device_destroy(&small);
}

/* As large as the window. */
static void a_bar_may_fill_its_window(void **state)
{
	struct fixture *fixture = *state;
	struct pci_device other;
	struct error err = { 0 };

	fixture->root.bus.windows.mem32 = (struct pci_window){ 0x80000000, GIB, 0x80000000 };
	pci_device_init(&other, &ops);
	pci_device_set_bar(&other, 0, PCI_BAR_MEM32, false, GIB);
	assert_int_equal(add(fixture, &other, DEVFN + 1, &err), 0);
	assert_int_equal(pci_device_bar_register(&other, 0), 0x80000000);
	pci_device_destroy(&other);
}

static void sizing_tells_the_size_and_the_kind(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < PCI_BARS; i++)
		set(fixture, bar(i), 4, UINT32_MAX);
	assert_int_equal(get(fixture, bar(MEM32), 4), 0xffffc000);
	assert_int_equal(get(fixture, bar(PORTS), 4), 0xffffffe1);
	assert_int_equal(get(fixture, bar(MEM64), 4), 0x0000000c);
	assert_int_equal(get(fixture, bar(MEM64 + 1), 4), 0xfffffffe);
	assert_int_equal(get(fixture, bar(SMALL), 4), 0xffffff00);
	assert_int_equal(get(fixture, bar(5), 4), 0);
	/* Neither a ROM: its register would be behind the BARs. */
	set(fixture, PCI_ROM_ADDRESS, 4, UINT32_MAX);
	assert_int_equal(get(fixture, PCI_ROM_ADDRESS, 4), 0);
}

static void a_rom_has_an_enable_bit_of_its_own(void **state)
{
	struct fixture *fixture = *state;
	struct pci_device other;
	struct error err = { 0 };
	uint64_t address;

	pci_device_init(&other, &ops);
	pci_device_set_bar(&other, PCI_ROM, PCI_BAR_MEM32, false, 64 * KIB);
	assert_int_equal(add(fixture, &other, DEVFN + 1, &err), 0);
	address = pci_device_bar_register(&other, PCI_ROM);
	assert_int_equal(address % (64 * KIB), 0);
	assert_true(address >= MEM32_BASE);
	pci_device_config_write(&other, PCI_ROM_ADDRESS, 4, UINT32_MAX);
	assert_int_equal(pci_device_config_read(&other, PCI_ROM_ADDRESS, 4), 0xffff0001);
	assert_int_equal(pci_device_bar_register(&other, PCI_ROM), 0xffff0000);
	pci_device_config_write(&other, PCI_ROM_ADDRESS, 4, address);
	pci_device_config_write(&other, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	assert_int_equal(pci_get16(&other, PCI_COMMAND), PCI_COMMAND_MEMORY);
	assert_false(other.bars[PCI_ROM].decoded);
	pci_device_config_write(&other, PCI_ROM_ADDRESS, 1, PCI_ROM_ADDRESS_ENABLE);
	assert_true(other.bars[PCI_ROM].decoded);
	assert_int_equal(other.bars[PCI_ROM].address, address);
	/* The address may change under the bit. */
	pci_device_set_bar_register(&other, PCI_ROM, address + 64 * KIB);
	assert_int_equal(pci_get32(&other, PCI_ROM_ADDRESS), (address + 64 * KIB) | 1);
	pci_device_config_write(&other, PCI_COMMAND, 2, 0);
	assert_false(other.bars[PCI_ROM].decoded);
	pci_bus_remove(&other);
	pci_device_destroy(&other);
}

/* No register has them, and bits of the command register that no BAR needs say whether they are there. */
static void a_vga_card_has_addresses_that_stay(void **state)
{
	struct fixture *fixture = *state;
	struct pci_device card;
	struct error err = { 0 };

	pci_device_init(&card, &ops);
	pci_device_set_vga(&card);
	assert_int_equal(add(fixture, &card, DEVFN + 1, &err), 0);
	assert_false(card.bars[PCI_VGA].decoded);
	pci_device_config_write(&card, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(card.bars[PCI_VGA].decoded);
	assert_false(card.bars[PCI_VGA + 1].decoded || card.bars[PCI_VGA + 2].decoded);
	pci_device_config_write(&card, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_false(card.bars[PCI_VGA].decoded);
	assert_true(card.bars[PCI_VGA + 1].decoded && card.bars[PCI_VGA + 2].decoded);
	assert_int_equal(card.bars[PCI_VGA + 1].address, 0x3b0);
	assert_int_equal(card.bars[PCI_VGA + 2].address, 0x3c0);
	pci_bus_remove(&card);
	assert_false(card.bars[PCI_VGA + 1].decoded);
	pci_device_destroy(&card);
}

static void bars_are_placed_like_firmware_does(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, PCI_COMMAND, 2), 0);
	assert_int_equal(fixture->mmio.count, 1);
	assert_int_equal(fixture->pio.count, 1);
	assert_int_equal(address_of(fixture, MEM32), MEM32_BASE);
	assert_int_equal(address_of(fixture, PORTS), IO_BASE);
	assert_true(address_of(fixture, MEM64) == MEM64_BASE);
	assert_int_equal(address_of(fixture, SMALL), MEM32_BASE + 16 * KIB);
}

static void a_second_device_lies_behind_the_first(void **state)
{
	struct fixture *fixture = *state;
	struct pci_device other;
	struct error err = { 0 };

	make_device(&other);
	assert_int_equal(add(fixture, &other, DEVFN, &err), -EEXIST);
	assert_non_null(strstr(err.what, "slot 01.0 is taken"));
	err = (struct error){ 0 };
	assert_int_equal(add(fixture, &other, DEVFN + 1, &err), 0);
	assert_int_equal(pci_device_bar_register(&other, PORTS), IO_BASE + 32);
	assert_int_equal(pci_device_bar_register(&other, MEM32), MEM32_BASE + 32 * KIB);
	assert_true(pci_device_bar_register(&other, MEM64) == MEM64_BASE + 8 * GIB);
	pci_device_destroy(&other);
}

static void a_bar_without_room_is_an_error(void **state)
{
	struct fixture *fixture = *state;
	struct pci_device other;
	struct error err = { 0 };

	pci_device_init(&other, &ops);
	pci_device_set_bar(&other, 0, PCI_BAR_IO, false, 64 * KIB);
	assert_int_equal(add(fixture, &other, DEVFN + 1, &err), -ENOSPC);
	pci_bus_remove(&other);
	pci_device_destroy(&other);
	err = (struct error){ 0 };
	pci_device_init(&other, &ops);
	pci_device_set_bar(&other, 0, PCI_BAR_MEM64, false, 1ULL << 63);
	assert_int_equal(add(fixture, &other, DEVFN + 1, &err), -ENOSPC);
	pci_bus_remove(&other);
	assert_null(fixture->root.bus.devices[DEVFN + 1]);
	pci_device_destroy(&other);
}

static void decoding_is_off_at_first(void **state)
{
	struct fixture *fixture = *state;

	assert_true(space_read(&fixture->mmio, MEM32_BASE, 4) == UINT64_MAX);
	assert_true(space_read(&fixture->pio, IO_BASE, 4) == UINT64_MAX);
	assert_int_equal(fixture->read.count, 0);
}

static void memory_and_ports_are_decoded_apart(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture, PCI_COMMAND_MEMORY);
	assert_int_equal(space_read(&fixture->mmio, MEM32_BASE + 8, 4), 0x1122334455667788);
	assert_int_equal(fixture->read.bar, MEM32);
	assert_int_equal(fixture->read.offset, 8);
	assert_int_equal(fixture->read.size, 4);
	space_write(&fixture->mmio, MEM64_BASE + 8 * GIB - 8, 8, 42);
	assert_int_equal(fixture->write.bar, MEM64);
	assert_true(fixture->write.offset == 8 * GIB - 8);
	assert_int_equal(fixture->write.value, 42);
	assert_true(space_read(&fixture->pio, IO_BASE, 1) == UINT64_MAX);
	decode(fixture, PCI_COMMAND_IO);
	assert_true(space_read(&fixture->mmio, MEM32_BASE, 4) == UINT64_MAX);
	assert_int_equal(space_read(&fixture->pio, IO_BASE + 31, 1), 0x1122334455667788);
	assert_int_equal(fixture->read.bar, PORTS);
	assert_int_equal(fixture->read.offset, 31);
	/* The command's low byte alone, and with the status behind it. */
	set(fixture, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
	assert_true(space_read(&fixture->pio, IO_BASE, 1) == UINT64_MAX);
	set(fixture, PCI_COMMAND, 4, PCI_COMMAND_IO);
	assert_true(space_read(&fixture->pio, IO_BASE, 1) != UINT64_MAX);
	set(fixture, PCI_COMMAND + 1, 1, 0);
	assert_true(space_read(&fixture->pio, IO_BASE, 1) != UINT64_MAX);
}

static void the_owner_hears_of_each_change(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture, PCI_COMMAND_MEMORY);
	decode(fixture, PCI_COMMAND_MEMORY);
	assert_int_equal(fixture->mapped[MEM32], 1);
	assert_int_equal(fixture->mapped[PORTS], 0);
	assert_int_equal(fixture->mapped_at[MEM32], MEM32_BASE);
	set(fixture, bar(MEM32), 4, 0x90000000);
	assert_int_equal(fixture->unmapped[MEM32], 1);
	assert_true(fixture->was_decoded_at_unmap);
	assert_int_equal(fixture->mapped[MEM32], 2);
	assert_int_equal(fixture->mapped_at[MEM32], 0x90000000);
	assert_int_equal(fixture->mapped[MEM64], 1);
	decode(fixture, 0);
	assert_int_equal(fixture->unmapped[MEM32], 2);
	assert_int_equal(fixture->unmapped[MEM64], 1);
	assert_int_equal(fixture->unmapped[PORTS], 0);
}

static void a_moved_bar_answers_at_its_new_place_alone(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	set(fixture, bar(MEM32), 4, 0x90000000);
	assert_true(space_read(&fixture->mmio, MEM32_BASE, 4) == UINT64_MAX);
	assert_true(space_read(&fixture->mmio, 0x90003ffc, 4) != UINT64_MAX);
	assert_int_equal(fixture->read.offset, 0x3ffc);
	set(fixture, bar(PORTS), 4, 0x7000);
	assert_true(space_read(&fixture->pio, IO_BASE, 1) == UINT64_MAX);
	assert_true(space_read(&fixture->pio, 0x7000, 1) != UINT64_MAX);
	/* A byte of the register is enough. */
	set(fixture, bar(PORTS) + 1, 1, 0x80);
	assert_true(space_read(&fixture->pio, 0x8000, 1) != UINT64_MAX);
}

static void a_64_bit_bar_moves_by_halves(void **state)
{
	struct fixture *fixture = *state;
	uint64_t moved = MEM64_BASE + 16 * GIB;

	decode(fixture, PCI_COMMAND_MEMORY);
	set(fixture, bar(MEM64), 4, 0);
	assert_true(space_read(&fixture->mmio, MEM64_BASE, 4) != UINT64_MAX);
	set(fixture, bar(MEM64 + 1), 4, moved >> 32);
	assert_true(space_read(&fixture->mmio, MEM64_BASE, 4) == UINT64_MAX);
	assert_true(space_read(&fixture->mmio, moved, 4) != UINT64_MAX);
	assert_int_equal(fixture->read.offset, 0);
	assert_true(address_of(fixture, MEM64) == moved);
}

static void the_owner_places_a_register_with_its_type(void **state)
{
	struct fixture *fixture = *state;

	pci_device_set_bar_register(&fixture->device, MEM64, MEM64_BASE + 16 * GIB);
	assert_true(get(fixture, bar(MEM64), 8) == ((MEM64_BASE + 16 * GIB) | 0xc));
	pci_device_set_bar_register(&fixture->device, PORTS, 0x7000);
	assert_int_equal(get(fixture, bar(PORTS), 4), 0x7001);
}

/* Sizing with decode on, as some systems do, must not harm what lies at the top of the space. */
static void a_bar_outside_the_windows_is_decoded_nowhere(void **state)
{
	static const uint64_t places[] = { 0xffffffff, 0, 0x10000000, ECAM, 0xfee00000,
		MEM32_BASE - 16 * KIB, MEM32_BASE + MEM32_SIZE };
	struct fixture *fixture = *state;

	decode(fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		unsigned count = fixture->mmio.count;

		set(fixture, bar(MEM32), 4, 0x90000000);
		assert_int_equal(fixture->mmio.count, count);
		set(fixture, bar(MEM32), 4, places[i]);
		assert_int_equal(fixture->mmio.count, count - 1);
		assert_false(fixture->device.bars[MEM32].decoded);
		set(fixture, bar(MEM32), 4, MEM32_BASE);
	}
	set(fixture, bar(PORTS), 4, 0x3f8);
	assert_false(fixture->device.bars[PORTS].decoded);
	set(fixture, bar(PORTS), 4, IO_BASE + IO_SIZE - 32);
	assert_true(fixture->device.bars[PORTS].decoded);
	set(fixture, bar(PORTS), 4, IO_BASE + IO_SIZE);
	assert_false(fixture->device.bars[PORTS].decoded);
	set(fixture, bar(MEM64), 8, 0);
	assert_false(fixture->device.bars[MEM64].decoded);
	set(fixture, bar(MEM64), 8, MEM64_BASE + MEM64_SIZE - 8 * GIB);
	assert_true(fixture->device.bars[MEM64].decoded);
	set(fixture, bar(MEM64), 8, MEM64_BASE + MEM64_SIZE);
	assert_false(fixture->device.bars[MEM64].decoded);
}

static void a_64_bit_bar_may_lie_in_the_low_window(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct fixture whole = { 0 };
	struct pci_device *other = &whole.device;

	pci_device_init(other, &ops);
	pci_device_set_bar(other, 0, PCI_BAR_MEM64, false, 4 * KIB);
	assert_int_equal(add(fixture, other, DEVFN + 1, &err), 0);
	pci_device_config_write(other, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(other->bars[0].decoded);
	/* A 64-bit BAR may lie below 4 GiB, as for a 32-bit system. */
	pci_device_config_write(other, bar(1), 4, 0);
	assert_false(other->bars[0].decoded);
	pci_device_config_write(other, bar(0), 4, 0xa0000000);
	assert_true(other->bars[0].decoded);
	pci_device_config_write(other, PCI_COMMAND, 2, 0);
	pci_device_destroy(other);
}

/* The one that was there first keeps the place; the other appears once it has a place of its own. */
static void overlapping_bars_are_not_both_decoded(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture, PCI_COMMAND_MEMORY);
	set(fixture, bar(SMALL), 4, MEM32_BASE + 4 * KIB);
	assert_false(fixture->device.bars[SMALL].decoded);
	assert_int_equal(fixture->mapped[SMALL], 1);
	space_read(&fixture->mmio, MEM32_BASE + 4 * KIB, 4);
	assert_int_equal(fixture->read.bar, MEM32);
	assert_int_equal(fixture->read.offset, 4 * KIB);
	set(fixture, bar(SMALL), 4, MEM32_BASE + 16 * KIB);
	assert_true(fixture->device.bars[SMALL].decoded);
	space_read(&fixture->mmio, MEM32_BASE + 16 * KIB, 4);
	assert_int_equal(fixture->read.bar, SMALL);
	/* Switching off what is not decoded must not take the other's range away. */
	set(fixture, bar(SMALL), 4, MEM32_BASE);
	decode(fixture, 0);
	decode(fixture, PCI_COMMAND_MEMORY);
	space_read(&fixture->mmio, MEM32_BASE, 4);
	assert_int_equal(fixture->read.bar, MEM32);
}

/* Two devices of the fixture's kind, so that the operations know their notes; decoding is on in both. */
static struct fixture *add_other(struct fixture *fixture)
{
	struct error err = { 0 };

	memset(&other, 0, sizeof(other));
	make_device(&other.device);
	assert_int_equal(add(fixture, &other.device, DEVFN + 1, &err), 0);
	decode(fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	space_write(&fixture->mmio, CONFIG + 0x1000 + PCI_COMMAND, 2,
		PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	return &other;
}

static void set_other(struct fixture *fixture, unsigned offset, unsigned size, uint64_t value)
{
	space_write(&fixture->mmio, CONFIG + 0x1000 + offset, size, value);
}

/* It has lost to the BAR of another device, and is decoded as soon as that has left the place. */
static void a_bar_that_lost_appears_when_the_other_leaves(void **state)
{
	struct fixture *fixture = *state;
	struct fixture *second = add_other(fixture);

	for (unsigned i = 0; i < 4; i++) {
		set(fixture, bar(MEM32), 4, 0x90000000);
		set_other(fixture, bar(MEM32), 4, 0x90000000);
		assert_false(second->device.bars[MEM32].decoded);
		if (i == 0)
			set(fixture, bar(MEM32), 4, 0xa0000000);
		if (i == 1)
			decode(fixture, 0);
		if (i == 2)
			set(fixture, bar(MEM32), 4, 0); /* out of the window */
		if (i == 3)
			set(fixture, PCI_COMMAND, 8, 0);
		assert_true(second->device.bars[MEM32].decoded);
		assert_int_equal(second->mapped_at[MEM32], 0x90000000);
		assert_int_equal(space_read(&fixture->mmio, 0x90000010, 4), 0x1122334455667788);
		assert_int_equal(second->read.offset, 0x10);
		set_other(fixture, bar(MEM32), 4, 0xb0000000);
		decode(fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	}
	assert_int_equal(second->read.count, 4);
}

/* Whichever slot it is in, be it the first of all. */
static void the_one_that_waits_may_be_in_any_slot(void **state)
{
	static const uint8_t slots[] = { 0, 0xff };
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(slots); i++) {
		struct fixture waiting = { 0 };
		struct error err = { 0 };

		decode(fixture, PCI_COMMAND_MEMORY);
		pci_device_init(&waiting.device, &ops);
		pci_device_set_bar(&waiting.device, 0, PCI_BAR_MEM32, false, 4 * KIB);
		assert_int_equal(add(fixture, &waiting.device, slots[i], &err), 0);
		pci_device_set_bar_register(&waiting.device, 0, MEM32_BASE);
		pci_device_config_write(&waiting.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		assert_false(waiting.device.bars[0].decoded);
		decode(fixture, 0);
		assert_true(waiting.device.bars[0].decoded);
		pci_device_config_write(&waiting.device, PCI_COMMAND, 2, 0);
		fixture->root.bus.devices[slots[i]] = NULL;
		pci_device_destroy(&waiting.device);
	}
}

static void ports_that_lost_appear_as_well(void **state)
{
	struct fixture *fixture = *state;
	struct fixture *second = add_other(fixture);

	set_other(fixture, bar(PORTS), 4, IO_BASE);
	assert_false(second->device.bars[PORTS].decoded);
	/* The one that moves may be told of by the ports, too. */
	out(fixture, 0xcf8, 4, config_address(DEVFN, bar(PORTS)));
	out(fixture, 0xcfc, 4, 0x7000);
	assert_true(second->device.bars[PORTS].decoded);
	space_read(&fixture->pio, IO_BASE + 4, 1);
	assert_int_equal(second->read.bar, PORTS);
}

/* What wants no decoding, or another place by now, does not appear. */
static void only_what_wants_the_place_appears(void **state)
{
	struct fixture *fixture = *state;
	struct fixture *second = add_other(fixture);

	set_other(fixture, bar(MEM32), 4, MEM32_BASE);
	set_other(fixture, PCI_COMMAND, 2, PCI_COMMAND_IO);
	set(fixture, bar(MEM32), 4, 0x90000000);
	assert_false(second->device.bars[MEM32].decoded);
	set(fixture, bar(MEM32), 4, MEM32_BASE);
	set_other(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set_other(fixture, bar(MEM32), 4, 0xa0000000);
	set(fixture, bar(MEM32), 4, 0x90000000);
	assert_int_equal(second->device.bars[MEM32].address, 0xa0000000);
	assert_true(space_read(&fixture->mmio, MEM32_BASE, 4) == UINT64_MAX);
}

static void the_other_may_be_of_the_same_device(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture, PCI_COMMAND_MEMORY);
	set(fixture, bar(SMALL), 4, MEM32_BASE + 4 * KIB);
	assert_false(fixture->device.bars[SMALL].decoded);
	set(fixture, bar(MEM32), 4, 0x90000000);
	assert_true(fixture->device.bars[SMALL].decoded);
	space_read(&fixture->mmio, MEM32_BASE + 4 * KIB + 8, 4);
	assert_int_equal(fixture->read.bar, SMALL);
	assert_int_equal(fixture->read.offset, 8);
}

/* Neither memory's nor ports' BARs are looked at again for what does not move. */
static void what_stays_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	struct fixture *second = add_other(fixture);

	for (unsigned i = 0; i < PCI_BARS; i++)
		set(fixture, bar(i), 4, get(fixture, bar(i), 4));
	decode(fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	set(fixture, PCI_INTERRUPT_LINE, 1, 9);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		bool exists = fixture->device.bars[i].kind != PCI_BAR_NONE;

		assert_int_equal(fixture->mapped[i], exists);
		assert_int_equal(fixture->unmapped[i], 0);
		assert_int_equal(second->mapped[i], exists);
	}
}

/* A device that sleeps keeps its place: what is direct goes, and the trapped reads as ones. */
static void a_sleeping_device_reads_ones(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	pci_device_set_asleep(&fixture->device, true);
	pci_device_set_asleep(&fixture->device, true);
	assert_int_equal(fixture->unmapped[MEM32], 1);
	assert_int_equal(fixture->unmapped[PORTS], 1);
	assert_true(space_read(&fixture->mmio, MEM32_BASE, 4) == UINT64_MAX);
	assert_true(space_read(&fixture->pio, IO_BASE, 4) == UINT64_MAX);
	space_write(&fixture->mmio, MEM32_BASE, 4, 0);
	assert_int_equal(fixture->read.count + fixture->write.count, 0);
	assert_int_equal(get(fixture, 0, 4), 0x56781234);
	/* A BAR that moves meanwhile has been taken away already, and is not given back. */
	set(fixture, bar(MEM32), 4, 0x90000000);
	assert_int_equal(fixture->unmapped[MEM32], 1);
	assert_int_equal(fixture->mapped[MEM32], 1);
	pci_device_set_asleep(&fixture->device, false);
	pci_device_set_asleep(&fixture->device, false);
	assert_int_equal(fixture->mapped[MEM32], 2);
	assert_int_equal(fixture->mapped_at[MEM32], 0x90000000);
	assert_int_equal(fixture->mapped[MEM64], 2);
	assert_int_equal(fixture->mapped[5], 0);
	assert_true(space_read(&fixture->mmio, 0x90000000, 4) != UINT64_MAX);
}

static void an_access_over_a_bars_end_is_nobodys(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture, PCI_COMMAND_MEMORY);
	set(fixture, bar(SMALL), 4, 0x90000000);
	assert_true(space_read(&fixture->mmio, 0x900000fc, 8) == UINT64_MAX);
	space_write(&fixture->mmio, 0x900000ff, 2, 0);
	assert_int_equal(fixture->read.count + fixture->write.count, 0);
}

static uint32_t config_read(struct pci_device *device, unsigned offset, unsigned size)
{
	return ~pci_device_config_read(device, offset, size);
}

static void config_write(struct pci_device *device, unsigned offset, unsigned size, uint32_t value)
{
	pci_device_config_write(device, offset, size, ~value);
}

static void a_device_may_serve_its_own_space(void **state)
{
	static const struct pci_device_ops own = {
		.config_read = config_read,
		.config_write = config_write,
	};
	struct fixture *fixture = *state;

	fixture->device.ops = &own;
	assert_int_equal(get(fixture, 0, 4), ~0x56781234U);
	set(fixture, PCI_INTERRUPT_LINE, 1, 0x0f);
	assert_int_equal(fixture->device.config[PCI_INTERRUPT_LINE], 0xf0);
	/* With no operation on its BARs they read as ones. */
	set(fixture, PCI_COMMAND, 2, (uint16_t)~PCI_COMMAND_MEMORY);
	assert_true(fixture->device.bars[MEM32].decoded);
	assert_true(space_read(&fixture->mmio, MEM32_BASE, 4) == UINT64_MAX);
	space_write(&fixture->mmio, MEM32_BASE, 4, 0);
}

#define PCI_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PCI_TEST(the_guest_reads_every_size),
		PCI_TEST(what_is_not_writable_stays),
		PCI_TEST(a_mask_is_of_bits),
		PCI_TEST(the_space_ends),
		PCI_TEST(eight_bytes_are_two_double_words),
		PCI_TEST(an_absent_device_reads_ones),
		PCI_TEST(the_ports_reach_configuration_space),
		PCI_TEST(the_address_port_takes_double_words),
		PCI_TEST(a_disabled_address_reads_ones),
		PCI_TEST(an_access_over_the_ports_ends_is_nobodys),
		PCI_TEST(cf9_resets),
		PCI_TEST(the_ports_reach_what_ecam_does),
		PCI_TEST(a_write_that_is_not_for_the_device_misses_it),
		PCI_TEST(a_space_that_is_taken_is_an_error),
		PCI_TEST(the_smallest_bars_keep_their_type),
		PCI_TEST(a_bar_may_fill_its_window),
		PCI_TEST(sizing_tells_the_size_and_the_kind),
		PCI_TEST(a_rom_has_an_enable_bit_of_its_own),
		PCI_TEST(a_vga_card_has_addresses_that_stay),
		PCI_TEST(bars_are_placed_like_firmware_does),
		PCI_TEST(a_second_device_lies_behind_the_first),
		PCI_TEST(a_bar_without_room_is_an_error),
		PCI_TEST(decoding_is_off_at_first),
		PCI_TEST(memory_and_ports_are_decoded_apart),
		PCI_TEST(the_owner_hears_of_each_change),
		PCI_TEST(a_moved_bar_answers_at_its_new_place_alone),
		PCI_TEST(a_64_bit_bar_moves_by_halves),
		PCI_TEST(the_owner_places_a_register_with_its_type),
		PCI_TEST(a_bar_outside_the_windows_is_decoded_nowhere),
		PCI_TEST(a_64_bit_bar_may_lie_in_the_low_window),
		PCI_TEST(overlapping_bars_are_not_both_decoded),
		PCI_TEST(a_bar_that_lost_appears_when_the_other_leaves),
		PCI_TEST(the_one_that_waits_may_be_in_any_slot),
		PCI_TEST(ports_that_lost_appear_as_well),
		PCI_TEST(only_what_wants_the_place_appears),
		PCI_TEST(the_other_may_be_of_the_same_device),
		PCI_TEST(what_stays_is_left_alone),
		PCI_TEST(a_sleeping_device_reads_ones),
		PCI_TEST(an_access_over_a_bars_end_is_nobodys),
		PCI_TEST(a_device_may_serve_its_own_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
