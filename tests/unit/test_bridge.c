/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/container.h"
#include "base/size.h"
#include "pci/bridge.h"
#include "pci/root.h"
#include "test.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdbool.h>
#include <string.h>

/*
 *   bus 0 ── 01.0 device "root"
 *         └─ 02.0 bridge "outer" ── bus 1 ── 00.0 device "near"
 *                                         └─ 03.0 bridge "inner" ── bus 2 ── 00.0 device "far"
 *
 * Each device has 16 KiB of 32-bit memory (BAR 0), 32 ports (BAR 1), 4 MiB of prefetchable 64-bit
 * memory (BAR 2) and 64 KiB of 64-bit memory that is not (BAR 4).
 */

#define ECAM  0xe0000000ULL
#define BUSES 8

#define MEM32 0
#define PORTS 1
#define PREF  2
#define MEM64 4

#define OUTER_IO   0x8000
#define OUTER_MEM  0x90000000ULL
#define OUTER_PREF 0x200000000000ULL
#define INNER_IO   0x9000
#define INNER_MEM  0x92000000ULL
#define INNER_PREF 0x200400000000ULL

#define DECODE (PCI_COMMAND_IO | PCI_COMMAND_MEMORY)

enum { ROOT, NEAR, FAR, DEVICES };

struct endpoint {
	struct pci_device device;
	bool shown[PCI_DECODES];
};

struct fixture {
	struct space mmio, pio;
	struct pci_root root;
	struct pci_bridge outer, inner;
	struct endpoint devices[DEVICES];
};

static struct fixture fixture;

/* Whose access it was. */
static uint64_t bar_read(struct pci_device *device, unsigned bar, uint64_t offset, unsigned size)
{
	(void)offset;
	(void)size;
	return (uint64_t)(container_of(device, struct endpoint, device) - fixture.devices) * 16 +
	       bar;
}

static void bar_mapped(struct pci_device *device, unsigned bar)
{
	struct endpoint *endpoint = container_of(device, struct endpoint, device);

	assert_false(endpoint->shown[bar]);
	endpoint->shown[bar] = true;
}

static void bar_unmapped(struct pci_device *device, unsigned bar)
{
	struct endpoint *endpoint = container_of(device, struct endpoint, device);

	assert_true(endpoint->shown[bar]);
	endpoint->shown[bar] = false;
}

static const struct pci_device_ops ops = {
	.bar_read = bar_read,
	.bar_mapped = bar_mapped,
	.bar_unmapped = bar_unmapped,
};

static const struct pci_device_ops bridge_ops = { .config_write = pci_bridge_config_write };

static unsigned find_line(void *opaque, unsigned slot, unsigned pin)
{
	(void)opaque;
	return 100 * slot + pin;
}

static const struct pci_root_ops root_ops = { .line = find_line };

static const struct pci_windows root_windows = {
	.io = { 0x6000, 0xa000, 0x6000 },
	.mem32 = { 0x80000000, 0x60000000, 0x80000000 },
	.mem64 = { 0x100000000000, 0x700000000000, 0x100000000000 },
};
static const struct pci_windows outer_windows = {
	.io = { OUTER_IO, 0x2000, OUTER_IO },
	.mem32 = { OUTER_MEM, 64 * MIB, OUTER_MEM },
	.mem64 = { OUTER_PREF, 64 * GIB, OUTER_PREF },
};
static const struct pci_windows inner_windows = {
	.io = { INNER_IO, 0x1000, INNER_IO },
	.mem32 = { INNER_MEM, 16 * MIB, INNER_MEM },
	.mem64 = { INNER_PREF, 16 * GIB, INNER_PREF },
};

static void add(unsigned which, struct pci_bus *bus, uint8_t devfn)
{
	struct pci_device *device = &fixture.devices[which].device;
	struct error err = { 0 };

	assert_int_equal(pci_device_init(device, &ops), 0);
	pci_set16(device, PCI_VENDOR_ID, 0x1000 + which);
	pci_device_set_bar(device, MEM32, PCI_BAR_MEM32, false, 16 * KIB);
	pci_device_set_bar(device, PORTS, PCI_BAR_IO, false, 32);
	pci_device_set_bar(device, PREF, PCI_BAR_MEM64, true, 4 * MIB);
	pci_device_set_bar(device, MEM64, PCI_BAR_MEM64, false, 64 * KIB);
	assert_int_equal(pci_bus_add(bus, device, devfn, &err), 0);
	assert_int_equal(pci_bus_place(device, &err), 0);
}

/* The guest's view. */

static uint64_t at(unsigned bus, unsigned slot, unsigned offset)
{
	return ECAM + (bus << 20 | slot << 15 | offset);
}

static uint32_t get(unsigned bus, unsigned slot, unsigned offset, unsigned size)
{
	return space_read(&fixture.mmio, at(bus, slot, offset), size) &
	       ((2ULL << (8 * size - 1)) - 1);
}

static void set(unsigned bus, unsigned slot, unsigned offset, unsigned size, uint32_t value)
{
	space_write(&fixture.mmio, at(bus, slot, offset), size, value);
}

#define OUTER 0, 2
#define INNER 1, 3

static void write_bridge(struct pci_bridge *bridge, unsigned offset, unsigned size, uint32_t value)
{
	if (bridge == &fixture.outer)
		set(OUTER, offset, size, value);
	else
		set(INNER, offset, size, value);
}

/* Windows as a guest sets them: base and limit at once. */
static void set_memory(struct pci_bridge *bridge, uint64_t first, uint64_t last)
{
	write_bridge(bridge, PCI_MEMORY_BASE, 4, (last >> 16 << 16) | first >> 16);
}

static void set_prefetchable(struct pci_bridge *bridge, uint64_t first, uint64_t last)
{
	write_bridge(bridge, PCI_PREF_LIMIT_UPPER32, 4, 0); /* closed meanwhile */
	write_bridge(bridge, PCI_PREF_BASE_UPPER32, 4, first >> 32);
	write_bridge(bridge, PCI_PREF_MEMORY_BASE, 4,
		(uint32_t)(last >> 16 << 16) | (uint16_t)(first >> 16));
	write_bridge(bridge, PCI_PREF_LIMIT_UPPER32, 4, last >> 32);
}

static void set_ports(struct pci_bridge *bridge, uint16_t first, uint16_t last)
{
	write_bridge(bridge, PCI_IO_BASE, 2, (last >> 8 << 8) | first >> 8);
}

static int setup(void **state)
{
	struct error err = { 0 };

	(void)state;
	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.mmio);
	space_init(&fixture.pio);
	assert_int_equal(pci_root_init(&fixture.root, &fixture.mmio, &fixture.pio, ECAM, BUSES,
				 &root_windows, &err),
		0);
	fixture.root.ops = &root_ops;
	assert_int_equal(pci_bridge_init(&fixture.outer, &bridge_ops, 1, &outer_windows), 0);
	assert_int_equal(pci_bridge_init(&fixture.inner, &bridge_ops, 2, &inner_windows), 0);
	pci_set16(&fixture.outer.device, PCI_VENDOR_ID, 0x2000);
	pci_set16(&fixture.inner.device, PCI_VENDOR_ID, 0x2001);
	assert_int_equal(pci_bridge_add(&fixture.root.bus, &fixture.outer, 2 << 3, &err), 0);
	assert_int_equal(pci_bridge_add(&fixture.outer.secondary, &fixture.inner, 3 << 3, &err), 0);
	add(ROOT, &fixture.root.bus, 1 << 3);
	add(NEAR, &fixture.outer.secondary, 0);
	add(FAR, &fixture.inner.secondary, 0);
	set(OUTER, PCI_SUBORDINATE_BUS, 1, 2);
	set(OUTER, PCI_COMMAND, 2, DECODE);
	set(INNER, PCI_COMMAND, 2, DECODE);
	set(0, 1, PCI_COMMAND, 2, DECODE);
	set(1, 0, PCI_COMMAND, 2, DECODE);
	set(2, 0, PCI_COMMAND, 2, DECODE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DEVICES; i++) {
		pci_bus_remove(&fixture.devices[i].device);
		pci_device_destroy(&fixture.devices[i].device);
	}
	pci_bridge_destroy(&fixture.inner);
	pci_bridge_destroy(&fixture.outer);
	pci_root_destroy(&fixture.root);
	space_destroy(&fixture.mmio);
	space_destroy(&fixture.pio);
	return 0;
}

static uint64_t address_of(unsigned which, unsigned bar)
{
	return pci_device_bar_register(&fixture.devices[which].device, bar);
}

/* Who answers an access to where a BAR's register says that it is. */
static bool answers(unsigned which, unsigned bar)
{
	struct space *space = bar == PORTS ? &fixture.pio : &fixture.mmio;
	bool does = space_read(space, address_of(which, bar) + 4, 4) == which * 16 + bar;

	assert_int_equal(does, fixture.devices[which].device.bars[bar].decoded);
	assert_int_equal(does, fixture.devices[which].shown[bar]);
	return does;
}

static void move_bar(unsigned which, unsigned bar, uint64_t address)
{
	static const unsigned buses[] = { 0, 1, 2 }, slots[] = { 1, 0, 0 };
	unsigned offset = PCI_BASE_ADDRESS_0 + 4 * bar;

	set(buses[which], slots[which], offset, 4, address);
	if (bar == PREF || bar == MEM64)
		set(buses[which], slots[which], offset + 4, 4, address >> 32);
}

static const unsigned all_bars[] = { MEM32, PORTS, PREF, MEM64 };

static void assert_decoded(unsigned which, bool memory, bool ports, bool prefetchable)
{
	assert_int_equal(answers(which, MEM32), memory);
	assert_int_equal(answers(which, MEM64), memory);
	assert_int_equal(answers(which, PORTS), ports);
	assert_int_equal(answers(which, PREF), prefetchable);
}

static void assert_all(bool near, bool far)
{
	assert_decoded(ROOT, true, true, true);
	assert_decoded(NEAR, near, near, near);
	assert_decoded(FAR, far, far, far);
}

/* The header */

TEST(the_header_says_what_firmware_would_have_set)
{
	assert_int_equal(get(OUTER, PCI_CLASS_DEVICE, 2), 0x0604);
	assert_int_equal(get(OUTER, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_BRIDGE);
	assert_int_equal(get(OUTER, PCI_PRIMARY_BUS, 4), 0x00020100);
	assert_int_equal(get(OUTER, PCI_IO_BASE, 2), 0x9080);
	assert_int_equal(get(OUTER, PCI_MEMORY_BASE, 4), 0x93f09000);
	assert_int_equal(get(OUTER, PCI_PREF_MEMORY_BASE, 4), 0xfff10001);
	assert_int_equal(get(OUTER, PCI_PREF_BASE_UPPER32, 4), 0x2000);
	assert_int_equal(get(OUTER, PCI_PREF_LIMIT_UPPER32, 4), 0x200f);
	assert_int_equal(get(INNER, PCI_PRIMARY_BUS, 4), 0x00020200);
	assert_int_equal(get(INNER, PCI_MEMORY_BASE, 4), 0x92f09200);
}

TEST(the_header_takes_what_a_bridge_has)
{
	for (unsigned offset = 0; offset < 64; offset += 4)
		set(OUTER, offset, 4, UINT32_MAX);
	assert_int_equal(get(OUTER, PCI_VENDOR_ID, 2), 0x2000);
	assert_int_equal(get(OUTER, PCI_COMMAND, 4), 0x0547);
	assert_int_equal(get(OUTER, PCI_BASE_ADDRESS_0, 4), 0);
	assert_int_equal(get(OUTER, PCI_BASE_ADDRESS_1, 4), 0);
	assert_int_equal(get(OUTER, PCI_PRIMARY_BUS, 4), 0x00ffffff);
	assert_int_equal(get(OUTER, PCI_IO_BASE, 4), 0xf0f0);
	assert_int_equal(get(OUTER, PCI_MEMORY_BASE, 4), 0xfff0fff0);
	assert_int_equal(get(OUTER, PCI_PREF_MEMORY_BASE, 4), 0xfff1fff1);
	assert_int_equal(get(OUTER, PCI_PREF_BASE_UPPER32, 4), UINT32_MAX);
	assert_int_equal(get(OUTER, PCI_ROM_ADDRESS1, 4), 0);
}

/* A bridge without ports says so: a guest that sizes the registers finds nothing. */
TEST(no_ports_no_window)
{
	struct pci_windows windows = outer_windows;
	struct pci_bridge bridge;
	struct error err = { 0 };

	windows.io = windows.mem32 = windows.mem64 = (struct pci_window){ 0 };
	assert_int_equal(pci_bridge_init(&bridge, &bridge_ops, 3, &windows), 0);
	assert_int_equal(pci_bridge_add(&fixture.root.bus, &bridge, 7 << 3, &err), 0);
	set(0, 7, PCI_IO_BASE, 2, 0xffff);
	set(0, 7, PCI_COMMAND, 2, 0xffff);
	assert_int_equal(get(0, 7, PCI_IO_BASE, 2), 0);
	assert_int_equal(get(0, 7, PCI_COMMAND, 2), 0x0546);
	/* The memory windows are there, closed. */
	assert_true(get(0, 7, PCI_MEMORY_BASE, 2) > get(0, 7, PCI_MEMORY_LIMIT, 2));
	assert_true(get(0, 7, PCI_PREF_MEMORY_BASE, 2) > get(0, 7, PCI_PREF_MEMORY_LIMIT, 2));
	assert_true(bridge.mem.first > bridge.mem.last);
	assert_true(bridge.prefetchable.first > bridge.prefetchable.last);
	assert_true(bridge.io.first > bridge.io.last);
	pci_bus_remove(&bridge.device);
	fixture.root.bus.bridges = bridge.next;
	pci_bridge_destroy(&bridge);
}

/* Bus numbers */

TEST(each_bus_has_its_devices)
{
	assert_int_equal(get(0, 1, 0, 2), 0x1000 + ROOT);
	assert_int_equal(get(1, 0, 0, 2), 0x1000 + NEAR);
	assert_int_equal(get(2, 0, 0, 2), 0x1000 + FAR);
	assert_int_equal(get(1, 3, 0, 2), 0x2001);
	/* And no others. */
	for (unsigned bus = 0; bus < BUSES; bus++)
		for (unsigned slot = 0; slot < 32; slot++) {
			bool there = (bus == 0 && (slot == 1 || slot == 2)) ||
				     (bus == 1 && (slot == 0 || slot == 3)) ||
				     (bus == 2 && slot == 0);

			assert_int_equal(get(bus, slot, 0, 4) != UINT32_MAX, there);
		}
}

TEST(a_bus_is_where_the_guest_puts_it)
{
	set(OUTER, PCI_SECONDARY_BUS, 2, 5 | 7 << 8);
	assert_int_equal(get(1, 0, 0, 4), UINT32_MAX);
	assert_int_equal(get(5, 0, 0, 2), 0x1000 + NEAR);
	/* The inner one still has 2, which the outer does not pass on. */
	assert_int_equal(get(2, 0, 0, 4), UINT32_MAX);
	set(5, 3, PCI_SECONDARY_BUS, 2, 6 | 6 << 8);
	assert_int_equal(get(6, 0, 0, 2), 0x1000 + FAR);
	assert_int_equal(get(7, 0, 0, 4), UINT32_MAX);
	/* Closed: a reset bridge has zeros, and zero is the root bus. */
	set(OUTER, PCI_PRIMARY_BUS, 4, 0);
	assert_int_equal(get(5, 0, 0, 4), UINT32_MAX);
	assert_int_equal(get(6, 0, 0, 4), UINT32_MAX);
	assert_int_equal(get(0, 1, 0, 2), 0x1000 + ROOT);
	assert_int_equal(get(0, 0, 0, 4), UINT32_MAX);
	set(OUTER, PCI_PRIMARY_BUS, 4, 0x040300);
	assert_int_equal(get(3, 0, 0, 2), 0x1000 + NEAR);
	/* Addresses do not care. */
	assert_all(true, true);
}

TEST(the_inner_bus_is_reached_through_the_outer_range)
{
	set(OUTER, PCI_SUBORDINATE_BUS, 1, 1);
	assert_int_equal(get(1, 0, 0, 2), 0x1000 + NEAR);
	assert_int_equal(get(2, 0, 0, 4), UINT32_MAX);
	set(2, 0, PCI_INTERRUPT_LINE, 1, 9);
	set(OUTER, PCI_SUBORDINATE_BUS, 1, 2);
	assert_int_equal(get(2, 0, PCI_INTERRUPT_LINE, 1), 0);
	set(2, 0, PCI_INTERRUPT_LINE, 1, 9);
	assert_int_equal(get(2, 0, PCI_INTERRUPT_LINE, 1), 9);
}

/* Addresses */

TEST(firmware_s_addresses_get_through)
{
	assert_all(true, true);
	assert_true(address_of(NEAR, MEM32) >= OUTER_MEM);
	/* Not prefetchable: below 4 GiB behind a bridge, though it could be elsewhere. */
	assert_true(address_of(NEAR, MEM64) < 4 * GIB);
	assert_true(address_of(ROOT, MEM64) >= 4 * GIB);
	assert_int_equal(address_of(FAR, PREF), INNER_PREF);
	assert_int_equal(address_of(FAR, PORTS), INNER_IO);
}

TEST(a_memory_window_moves_and_closes)
{
	set_memory(&fixture.outer, OUTER_MEM + 128 * MIB, OUTER_MEM + 192 * MIB - 1);
	assert_decoded(NEAR, false, true, true);
	assert_decoded(FAR, false, true, true);
	assert_decoded(ROOT, true, true, true);
	/* A BAR follows it. */
	move_bar(NEAR, MEM32, OUTER_MEM + 128 * MIB);
	assert_true(answers(NEAR, MEM32));
	set_memory(&fixture.outer, OUTER_MEM, OUTER_MEM + 64 * MIB - 1);
	assert_false(answers(NEAR, MEM32));
	assert_true(answers(NEAR, MEM64));
	assert_decoded(FAR, true, true, true);
	set_memory(&fixture.outer, 0xfff00000, 0);
	assert_false(answers(NEAR, MEM64));
	assert_decoded(FAR, false, true, true);
}

TEST(a_prefetchable_window_moves_and_closes)
{
	set_prefetchable(&fixture.outer, OUTER_PREF + 64 * GIB, OUTER_PREF + 128 * GIB - 1);
	assert_decoded(NEAR, true, true, false);
	assert_decoded(FAR, true, true, false);
	move_bar(NEAR, PREF, OUTER_PREF + 64 * GIB);
	assert_true(answers(NEAR, PREF));
	set_prefetchable(&fixture.outer, OUTER_PREF, OUTER_PREF + 64 * GIB - 1);
	assert_false(answers(NEAR, PREF));
	assert_true(answers(FAR, PREF));
	/* The upper half alone closes it. */
	set(OUTER, PCI_PREF_BASE_UPPER32, 4, UINT32_MAX);
	assert_false(answers(FAR, PREF));
	set(OUTER, PCI_PREF_BASE_UPPER32, 4, OUTER_PREF >> 32);
	assert_true(answers(FAR, PREF));
}

TEST(a_window_of_ports_moves_and_closes)
{
	set_ports(&fixture.outer, OUTER_IO + 0x2000, OUTER_IO + 0x3fff);
	assert_decoded(NEAR, true, false, true);
	assert_decoded(FAR, true, false, true);
	move_bar(NEAR, PORTS, OUTER_IO + 0x2000);
	assert_true(answers(NEAR, PORTS));
	set_ports(&fixture.outer, 0xf000, 0x0fff);
	assert_false(answers(NEAR, PORTS));
	set_ports(&fixture.outer, OUTER_IO, OUTER_IO + 0x1fff);
	assert_false(answers(NEAR, PORTS));
	assert_true(answers(FAR, PORTS));
}

/* Of each window: from its first to its last address, and no byte beyond. */
TEST(a_bar_lies_whole_in_its_window)
{
	set_memory(&fixture.outer, OUTER_MEM + MIB, OUTER_MEM + 2 * MIB - 1);
	set_prefetchable(&fixture.outer, OUTER_PREF + 4 * MIB, OUTER_PREF + 8 * MIB - 1);
	move_bar(NEAR, MEM32, OUTER_MEM + MIB);
	assert_true(answers(NEAR, MEM32));
	move_bar(NEAR, MEM32, OUTER_MEM + 2 * MIB - 16 * KIB);
	assert_true(answers(NEAR, MEM32));
	move_bar(NEAR, MEM32, OUTER_MEM + MIB - 16 * KIB);
	assert_false(answers(NEAR, MEM32));
	move_bar(NEAR, MEM32, OUTER_MEM + 2 * MIB);
	assert_false(answers(NEAR, MEM32));
	move_bar(NEAR, PORTS, OUTER_IO + 0x2000 - 32);
	assert_true(answers(NEAR, PORTS));
	move_bar(NEAR, PORTS, OUTER_IO + 0x2000);
	assert_false(answers(NEAR, PORTS));
	move_bar(NEAR, PREF, OUTER_PREF + 4 * MIB);
	assert_true(answers(NEAR, PREF));
	set_prefetchable(&fixture.outer, OUTER_PREF + 5 * MIB, OUTER_PREF + 8 * MIB - 1);
	assert_false(answers(NEAR, PREF));
	set_prefetchable(&fixture.outer, OUTER_PREF + 4 * MIB, OUTER_PREF + 7 * MIB - 1);
	assert_false(answers(NEAR, PREF));
	set_prefetchable(&fixture.outer, OUTER_PREF + 4 * MIB, OUTER_PREF + 8 * MIB - 1);
	assert_true(answers(NEAR, PREF));
}

/* Either kind of memory may be in either window, and ports in none of them. */
TEST(a_window_does_not_ask_what_a_bar_is_for)
{
	move_bar(NEAR, PREF, OUTER_MEM + 16 * MIB);
	assert_true(answers(NEAR, PREF));
	move_bar(NEAR, MEM64, OUTER_PREF + 8 * MIB);
	assert_true(answers(NEAR, MEM64));
	set_memory(&fixture.outer, 0, 0xfff00000);
	move_bar(NEAR, PORTS, 0xc000);
	assert_false(answers(NEAR, PORTS));
}

TEST(the_command_register_lets_through)
{
	set(OUTER, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_decoded(NEAR, false, true, false);
	assert_decoded(FAR, false, true, false);
	set(OUTER, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_decoded(NEAR, true, false, true);
	assert_decoded(FAR, true, false, true);
	set(OUTER, PCI_COMMAND, 2, DECODE);
	set(INNER, PCI_COMMAND, 2, 0);
	assert_all(true, false);
	set(INNER, PCI_COMMAND, 1, DECODE);
	assert_all(true, true);
}

/* By the widest and by the narrowest access. */
TEST(every_size_of_access_moves_a_window)
{
	space_write(&fixture.mmio, at(OUTER, PCI_MEMORY_BASE), 8, 0x0000fff00000fff0);
	assert_decoded(NEAR, false, true, false);
	space_write(&fixture.mmio, at(OUTER, PCI_MEMORY_BASE), 8, 0xfff1000193f09000);
	assert_all(true, true);
	set(OUTER, PCI_MEMORY_BASE + 1, 1, 0x94);
	assert_decoded(NEAR, false, true, true);
	set(OUTER, PCI_MEMORY_BASE + 1, 1, 0x90);
	set(OUTER, PCI_PREF_LIMIT_UPPER32 + 1, 1, 0);
	assert_decoded(NEAR, true, true, false);
	set(OUTER, PCI_PREF_LIMIT_UPPER32 + 1, 1, 0x20);
	assert_all(true, true);
}

TEST(the_inner_window_counts_where_the_outer_lets_it)
{
	/* Outside of the outer one: decoded nowhere, though the inner one would forward it. */
	set_memory(&fixture.inner, OUTER_MEM + 256 * MIB, OUTER_MEM + 272 * MIB - 1);
	move_bar(FAR, MEM32, OUTER_MEM + 256 * MIB);
	assert_false(answers(FAR, MEM32));
	set_memory(&fixture.outer, OUTER_MEM, OUTER_MEM + 272 * MIB - 1);
	assert_true(answers(FAR, MEM32));
	assert_decoded(NEAR, true, true, true);
	set_memory(&fixture.outer, OUTER_MEM, OUTER_MEM + 64 * MIB - 1);
	assert_false(answers(FAR, MEM32));
}

/* What is outside of the root's windows is not PCI's, whatever a bridge is told. */
TEST(no_bridge_widens_the_root)
{
	set_memory(&fixture.outer, 0, 0xfff00000);
	set_ports(&fixture.outer, 0, 0xffff);
	move_bar(NEAR, MEM32, 0x10000000);
	assert_false(answers(NEAR, MEM32));
	move_bar(NEAR, MEM32, 0xfec00000);
	assert_false(answers(NEAR, MEM32));
	move_bar(NEAR, PORTS, 0x3f0 & ~31);
	assert_false(answers(NEAR, PORTS));
	move_bar(NEAR, MEM32, 0xdfffc000);
	assert_true(answers(NEAR, MEM32));
}

TEST(the_link_is_down)
{
	pthread_mutex_lock(&fixture.outer.device.lock);
	fixture.outer.down = true;
	pci_bridge_update(&fixture.outer);
	pthread_mutex_unlock(&fixture.outer.device.lock);
	pci_bus_settle(&fixture.root.bus);
	assert_all(false, false);
	assert_int_equal(get(1, 0, 0, 4), UINT32_MAX);
	assert_int_equal(get(2, 0, 0, 4), UINT32_MAX);
	/* What the guest writes meanwhile holds afterwards. */
	set(OUTER, PCI_SECONDARY_BUS, 2, 4 | 6 << 8);
	assert_int_equal(get(4, 0, 0, 4), UINT32_MAX);
	pthread_mutex_lock(&fixture.outer.device.lock);
	fixture.outer.down = false;
	pci_bridge_update(&fixture.outer);
	pthread_mutex_unlock(&fixture.outer.device.lock);
	pci_bus_settle(&fixture.root.bus);
	assert_all(true, true);
	assert_int_equal(get(4, 0, 0, 2), 0x1000 + NEAR);
}

/* Two devices that want one place */

TEST(who_is_there_first_stays)
{
	uint64_t place = address_of(NEAR, MEM32);

	move_bar(ROOT, MEM32, place);
	assert_false(answers(ROOT, MEM32));
	assert_true(answers(NEAR, MEM32));
	/* The window closes: the other may have it, and keeps it. */
	set_memory(&fixture.outer, 0xfff00000, 0);
	assert_true(answers(ROOT, MEM32));
	assert_false(answers(NEAR, MEM32));
	set_memory(&fixture.outer, OUTER_MEM, OUTER_MEM + 64 * MIB - 1);
	assert_true(answers(ROOT, MEM32));
	assert_false(answers(NEAR, MEM32));
	assert_true(answers(NEAR, MEM64));
	set(0, 1, PCI_COMMAND, 2, 0);
	assert_true(answers(NEAR, MEM32));
}

TEST(two_buses_overlap)
{
	set_memory(&fixture.inner, OUTER_MEM, OUTER_MEM + 64 * MIB - 1);
	move_bar(FAR, MEM32, address_of(NEAR, MEM32));
	assert_false(answers(FAR, MEM32));
	assert_true(answers(NEAR, MEM32));
	/* Pulled out: who waited comes. */
	pci_bus_remove(&fixture.devices[NEAR].device);
	assert_int_equal(get(1, 0, 0, 4), UINT32_MAX);
	for (unsigned i = 0; i < ARRAY_SIZE(all_bars); i++)
		assert_false(fixture.devices[NEAR].shown[all_bars[i]]);
	assert_true(answers(FAR, MEM32));
	assert_decoded(FAR, true, true, true);
}

TEST(a_chain_of_waiting_bars_settles)
{
	uint64_t near = address_of(NEAR, MEM32), far = address_of(FAR, MEM32);

	/* Each goes where the next one is; then the last one leaves by its bridge. */
	move_bar(ROOT, MEM32, near);
	move_bar(NEAR, MEM32, far);
	assert_true(answers(ROOT, MEM32));
	assert_false(answers(NEAR, MEM32));
	set(INNER, PCI_COMMAND, 2, 0);
	assert_true(answers(NEAR, MEM32));
	assert_true(answers(ROOT, MEM32));
	set(INNER, PCI_COMMAND, 2, DECODE);
	assert_false(answers(FAR, MEM32));
	set(OUTER, PCI_COMMAND, 2, 0);
	set(OUTER, PCI_COMMAND, 2, DECODE);
	/* Both came back in one settling; one of them has the place. */
	assert_true(answers(NEAR, MEM32) + answers(FAR, MEM32) == 1);
}

/* What a device asks its parent */

TEST(pins_turn_at_each_bridge)
{
	assert_int_equal(pci_bus_line(&fixture.root.bus, 5, 3), 503);
	assert_int_equal(pci_bus_line(&fixture.outer.secondary, 0, 1), 201);
	assert_int_equal(pci_bus_line(&fixture.outer.secondary, 1, 1), 202);
	assert_int_equal(pci_bus_line(&fixture.outer.secondary, 1, 4), 201);
	/* The inner bridge is in slot 3 of bus 1, the outer in slot 2 of bus 0. */
	assert_int_equal(pci_bus_line(&fixture.inner.secondary, 0, 1), 204);
	assert_int_equal(pci_bus_line(&fixture.inner.secondary, 2, 4), 201);
}

TEST(a_bar_that_does_not_fit_behind_the_bridge)
{
	struct pci_device large;
	struct error err = { 0 };

	assert_int_equal(pci_device_init(&large, &ops), 0);
	pci_device_set_bar(&large, 0, PCI_BAR_MEM32, false, 64 * MIB);
	assert_int_equal(pci_bus_add(&fixture.outer.secondary, &large, 8 << 3, &err), 0);
	assert_int_equal(pci_bus_place(&large, &err), -ENOSPC);
	assert_non_null(strstr(err.what, "64 MiB"));
	pci_bus_remove(&large);
	pci_device_destroy(&large);
}

/* VGA Enable (3.2.5.18), which only a bridge with such a card has, and each one above it needs. */
static void a_vga_card_is_behind_bridges_that_say_so(void **state)
{
	struct pci_device *card = &fixture.devices[FAR].device;

	(void)state;
	pci_device_set_vga(card);
	set(2, 0, PCI_COMMAND, 2, DECODE);
	set(INNER, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_VGA);
	assert_int_equal(get(INNER, PCI_BRIDGE_CONTROL, 2) & PCI_BRIDGE_CTL_VGA, 0);
	pci_bridge_set_vga(&fixture.inner);
	pci_bridge_set_vga(&fixture.outer);
	set(INNER, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_VGA);
	assert_int_equal(space_read(&fixture.mmio, 0xb8000, 2), UINT64_MAX);
	set(OUTER, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_VGA);
	assert_int_equal(space_read(&fixture.mmio, 0xb8000, 2), FAR * 16 + PCI_VGA);
	assert_int_equal(space_read(&fixture.pio, 0x3bb, 1), FAR * 16 + PCI_VGA + 1);
	assert_int_equal(space_read(&fixture.pio, 0x3bc, 1), UINT64_MAX);
	assert_int_equal(space_read(&fixture.pio, 0x3c4, 2), FAR * 16 + PCI_VGA + 2);
	assert_int_equal(space_read(&fixture.pio, 0x3e0, 1), UINT64_MAX);
	set(INNER, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(space_read(&fixture.mmio, 0xa0000, 1), FAR * 16 + PCI_VGA);
	assert_int_equal(space_read(&fixture.mmio, 0xbffff, 1), FAR * 16 + PCI_VGA);
	assert_int_equal(space_read(&fixture.pio, 0x3c4, 2), UINT64_MAX);
	set(INNER, PCI_BRIDGE_CONTROL, 2, 0);
	assert_int_equal(space_read(&fixture.mmio, 0xb8000, 2), UINT64_MAX);
}

/* Two cards never answer at once. */
static void of_two_vga_cards_one_is_decoded(void **state)
{
	(void)state;
	set(0, 1, PCI_COMMAND, 2, 0);
	pci_device_set_vga(&fixture.devices[ROOT].device);
	pci_device_set_vga(&fixture.devices[NEAR].device);
	pci_bridge_set_vga(&fixture.outer);
	set(OUTER, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_VGA);
	set(1, 0, PCI_COMMAND, 2, DECODE);
	set(0, 1, PCI_COMMAND, 2, DECODE);
	assert_int_equal(space_read(&fixture.mmio, 0xb8000, 2), NEAR * 16 + PCI_VGA);
	set(OUTER, PCI_BRIDGE_CONTROL, 2, 0);
	assert_int_equal(space_read(&fixture.mmio, 0xb8000, 2), ROOT * 16 + PCI_VGA);
	assert_int_equal(space_read(&fixture.pio, 0x3c0, 1), ROOT * 16 + PCI_VGA + 2);
}

#define BRIDGE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BRIDGE_TEST(the_header_says_what_firmware_would_have_set),
		BRIDGE_TEST(the_header_takes_what_a_bridge_has),
		BRIDGE_TEST(no_ports_no_window),
		BRIDGE_TEST(each_bus_has_its_devices),
		BRIDGE_TEST(a_bus_is_where_the_guest_puts_it),
		BRIDGE_TEST(the_inner_bus_is_reached_through_the_outer_range),
		BRIDGE_TEST(firmware_s_addresses_get_through),
		BRIDGE_TEST(a_memory_window_moves_and_closes),
		BRIDGE_TEST(a_prefetchable_window_moves_and_closes),
		BRIDGE_TEST(a_window_of_ports_moves_and_closes),
		BRIDGE_TEST(a_bar_lies_whole_in_its_window),
		BRIDGE_TEST(a_window_does_not_ask_what_a_bar_is_for),
		BRIDGE_TEST(the_command_register_lets_through),
		BRIDGE_TEST(every_size_of_access_moves_a_window),
		BRIDGE_TEST(the_inner_window_counts_where_the_outer_lets_it),
		BRIDGE_TEST(no_bridge_widens_the_root),
		BRIDGE_TEST(the_link_is_down),
		BRIDGE_TEST(who_is_there_first_stays),
		BRIDGE_TEST(two_buses_overlap),
		BRIDGE_TEST(a_chain_of_waiting_bars_settles),
		BRIDGE_TEST(pins_turn_at_each_bridge),
		BRIDGE_TEST(a_bar_that_does_not_fit_behind_the_bridge),
		BRIDGE_TEST(a_vga_card_is_behind_bridges_that_say_so),
		BRIDGE_TEST(of_two_vga_cards_one_is_decoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
