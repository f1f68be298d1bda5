/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/layout.h"
#include "machine/topology.h"
#include "pci/root.h"
#include "test.h"

#include <errno.h>
#include <string.h>

/* Devices as they are on a host; where they go in the guest, and which windows the ports get. */

#define BITS 46
#define HALF (1ULL << (BITS - 1))

static struct topology topology;
static struct error err;

static int setup(void **state)
{
	(void)state;
	memset(&topology, 0, sizeof(topology));
	err = (struct error){ 0 };
	assert_int_equal(topology_windows(BITS, 4 * GIB, false, &topology.windows, &err), 0);
	return 0;
}

static struct topology_device *add(unsigned bus, unsigned slot, unsigned function, bool endpoint)
{
	struct topology_device *device = &topology.devices[topology.device_count++];

	*device = (struct topology_device){
		.bdf = { 0, bus, slot, function },
		.endpoint = endpoint,
	};
	return device;
}

static void add_bar(struct topology_device *device, unsigned i, enum pci_bar_kind kind,
	bool prefetchable, uint64_t size)
{
	device->bars[i] = (struct pci_bar){
		.kind = kind,
		.prefetchable = prefetchable,
		.size = size,
	};
}

static int plan(unsigned empty)
{
	err = (struct error){ 0 };
	return topology_plan(&topology, empty, &err);
}

static bool lies_in(const struct pci_window *window, const struct pci_window *whole)
{
	return window->base >= whole->base && window->size <= whole->size &&
	       window->base - whole->base <= whole->size - window->size;
}

static bool overlap(const struct pci_window *a, const struct pci_window *b)
{
	return a->size && b->size && a->base < b->base + b->size && b->base < a->base + a->size;
}

static const struct pci_window *window(const struct pci_windows *windows, unsigned kind)
{
	return kind == 0 ? &windows->io : kind == 1 ? &windows->mem32 : &windows->mem64;
}

/* Whatever the devices are. */
static void check_windows(void)
{
	for (unsigned i = 0; i < topology.port_count; i++)
		for (unsigned kind = 0; kind < 3; kind++) {
			const struct pci_window *mine = window(&topology.ports[i].windows, kind);

			if (!mine->size)
				continue;
			assert_true(lies_in(mine, window(&topology.windows, kind)));
			assert_int_equal(mine->size & (mine->size - 1), 0);
			assert_int_equal(mine->base % mine->size, 0);
			assert_int_equal(mine->size % (kind ? MIB : 4 * KIB), 0);
			assert_int_equal(mine->next, mine->base);
			for (unsigned j = 0; j < i; j++)
				assert_false(
					overlap(mine, window(&topology.ports[j].windows, kind)));
		}
	for (unsigned i = 0; i < topology.port_count; i++)
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(topology.ports[i].devfn, topology.ports[j].devfn);
}

/* BARs can be placed as the plan says, by those who will do so; those of the root bus beside the ports. */
static void check_placement(void)
{
	static const struct pci_device_ops ops = { 0 };
	static struct pci_device devices[MACHINE_DEVICES_MAX];
	struct space mmio, pio;
	struct pci_root root;
	struct pci_bus buses[TOPOLOGY_SLOTS];
	struct pci_bridge bridge = { 0 };

	space_init(&mmio);
	space_init(&pio);
	assert_int_equal(
		pci_root_init(&root, &mmio, &pio, LAYOUT_ECAM, 1, &topology.windows, &err), 0);
	for (unsigned i = 0; i < topology.port_count; i++)
		buses[i] = (struct pci_bus){
			.root = &root,
			.parent = &bridge,
			.windows = topology.ports[i].windows,
		};
	for (unsigned i = 0; i < topology.device_count; i++) {
		const struct topology_device *device = &topology.devices[i];

		assert_int_equal(pci_device_init(&devices[i], &ops), 0);
		for (unsigned j = 0; j < PCI_BARS; j++)
			if (device->bars[j].kind != PCI_BAR_NONE)
				pci_device_set_bar(&devices[i], j, device->bars[j].kind,
					device->bars[j].prefetchable, device->bars[j].size);
		devices[i].bus = device->port < 0 ? &root.bus : &buses[device->port];
		assert_int_equal(pci_bus_place(&devices[i], &err), 0);
		for (unsigned j = 0; j < PCI_BARS && device->port < 0; j++)
			for (unsigned k = 0; k < topology.port_count; k++) {
				struct pci_window bar = {
					.base = pci_device_bar_register(&devices[i], j),
					.size = device->bars[j].size,
				};

				if (bar.size && device->bars[j].kind != PCI_BAR_IO)
					assert_false(
						overlap(&bar, &topology.ports[k].windows.mem32) ||
						overlap(&bar, &topology.ports[k].windows.mem64));
			}
	}
	for (unsigned i = 0; i < topology.device_count; i++)
		pci_device_destroy(&devices[i]);
	pci_root_destroy(&root);
	space_destroy(&pio);
	space_destroy(&mmio);
}

/* Places */

TEST(no_device_no_port)
{
	assert_int_equal(plan(0), 0);
	assert_int_equal(topology.port_count, 0);
}

TEST(each_endpoint_has_a_port)
{
	add(1, 0, 0, true);
	add(2, 0, 0, true);
	assert_int_equal(plan(2), 0);
	assert_int_equal(topology.port_count, 4);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(topology.devices[i].port, i);
		assert_int_equal(topology.devices[i].devfn, 0);
		assert_false(topology.devices[i].multifunction);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(topology.ports[i].devfn, topology_slot(i) << 3);
	check_windows();
}

TEST(others_are_on_the_root_bus)
{
	add(0, 8, 0, false);
	add(1, 0, 0, true);
	add(0, 9, 0, false);
	assert_int_equal(plan(1), 0);
	assert_int_equal(topology.port_count, 2);
	assert_int_equal(topology.devices[0].port, -1);
	assert_int_equal(topology.devices[0].devfn, 1 << 3);
	assert_int_equal(topology.devices[1].port, 0);
	assert_int_equal(topology.ports[0].devfn, 2 << 3);
	assert_int_equal(topology.devices[2].port, -1);
	assert_int_equal(topology.devices[2].devfn, 3 << 3);
	assert_int_equal(topology.ports[1].devfn, 4 << 3);
}

/* In whatever order they are named; function 0 decides for all. */
TEST(functions_of_a_slot_stay_together)
{
	add(5, 0, 1, false);
	add(1, 0, 0, true);
	add(5, 0, 0, true);
	add(5, 0, 6, true);
	assert_int_equal(plan(0), 0);
	assert_int_equal(topology.port_count, 2);
	assert_int_equal(topology.devices[0].port, 0);
	assert_int_equal(topology.devices[0].devfn, 1);
	assert_int_equal(topology.devices[1].port, 1);
	assert_int_equal(topology.devices[2].port, 0);
	assert_int_equal(topology.devices[2].devfn, 0);
	assert_int_equal(topology.devices[3].port, 0);
	assert_int_equal(topology.devices[3].devfn, 6);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(topology.devices[i].multifunction, i != 1);
}

TEST(functions_of_a_slot_stay_together_on_the_root_bus)
{
	add(0, 3, 0, false);
	add(0, 3, 2, false);
	add(0, 4, 0, false);
	assert_int_equal(plan(0), 0);
	assert_int_equal(topology.port_count, 0);
	assert_int_equal(topology.devices[0].devfn, 1 << 3);
	assert_int_equal(topology.devices[1].devfn, 1 << 3 | 2);
	assert_int_equal(topology.devices[2].devfn, 2 << 3);
	assert_true(topology.devices[1].multifunction);
	assert_false(topology.devices[2].multifunction);
}

/* A slot without a function 0 does not exist to a guest: each is one of its own. */
TEST(functions_without_the_first_are_single)
{
	add(5, 0, 1, true);
	add(5, 0, 2, true);
	assert_int_equal(plan(0), 0);
	assert_int_equal(topology.port_count, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(topology.devices[i].port, i);
		assert_int_equal(topology.devices[i].devfn, 0);
		assert_false(topology.devices[i].multifunction);
	}
}

TEST(slots_of_other_buses_and_domains_are_others)
{
	add(5, 0, 0, true);
	add(6, 0, 1, true);
	add(5, 1, 1, true);
	add(5, 0, 1, true)->bdf.domain = 1;
	assert_int_equal(plan(0), 0);
	assert_int_equal(topology.port_count, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_false(topology.devices[i].multifunction);
}

TEST(there_are_31_slots)
{
	assert_int_equal(plan(31), 0);
	assert_int_equal(topology.port_count, 31);
	assert_int_equal(topology.ports[30].devfn, 31 << 3);
	check_windows();
	assert_int_equal(plan(32), -ENOSPC);
	assert_non_null(strstr(err.what, "--ports"));
	assert_non_null(strstr(err.what, "31"));
}

TEST(devices_take_slots_as_well)
{
	for (unsigned i = 0; i < 8; i++)
		add(1 + i, 0, 0, i & 1);
	assert_int_equal(plan(23), 0);
	check_windows();
	assert_int_equal(plan(24), -ENOSPC);
	/* Eight functions are in one. */
	for (unsigned i = 0; i < 8; i++)
		topology.devices[i].bdf = (struct bdf){ 0, 1, 0, i };
	assert_int_equal(plan(30), 0);
	assert_int_equal(plan(31), -ENOSPC);
}

/* Windows */

TEST(empty_ports_share_what_there_is)
{
	assert_int_equal(plan(2), 0);
	check_windows();
	for (unsigned i = 0; i < 2; i++) {
		const struct pci_windows *windows = &topology.ports[i].windows;

		assert_int_equal(windows->mem32.size, 256 * MIB);
		/* Half of the 64-bit window each: 16 TiB of 46 bits. */
		assert_true(windows->mem64.size == HALF / 2);
		assert_int_equal(windows->io.size, 0);
	}
	assert_int_equal(plan(31), 0);
	check_windows();
	for (unsigned i = 0; i < 31; i++) {
		assert_true(topology.ports[i].windows.mem32.size >= 32 * MIB);
		assert_true(topology.ports[i].windows.mem64.size == HALF / 32);
	}
}

/* A graphics card: much that is prefetchable, a little that is not, ports. */
TEST(a_device_gets_what_it_needs)
{
	struct topology_device *card = add(1, 0, 0, true);

	add_bar(card, 0, PCI_BAR_MEM32, false, 16 * MIB);
	add_bar(card, 1, PCI_BAR_MEM64, true, 64 * GIB);
	add_bar(card, 3, PCI_BAR_MEM64, true, 32 * MIB);
	add_bar(card, 5, PCI_BAR_IO, false, 128);
	assert_int_equal(plan(2), 0);
	check_windows();
	assert_true(topology.ports[0].windows.mem64.size >= 128 * GIB);
	assert_int_equal(topology.ports[0].windows.io.size, 4 * KIB);
	assert_int_equal(topology.ports[1].windows.io.size, 0);
	check_placement();
}

/* Several times a share: the others' gets smaller, and all fit. */
TEST(a_large_device_narrows_the_shares)
{
	add_bar(add(1, 0, 0, true), 0, PCI_BAR_MEM64, true, HALF / 2);
	assert_int_equal(plan(3), 0);
	check_windows();
	check_placement();
	assert_true(topology.ports[0].windows.mem64.size == HALF / 2);
	for (unsigned i = 1; i < 4; i++)
		assert_true(topology.ports[i].windows.mem64.size == HALF / 8);
	/* The same below 4 GiB. */
	add_bar(&topology.devices[0], 2, PCI_BAR_MEM32, false, GIB);
	assert_int_equal(plan(3), 0);
	check_windows();
	check_placement();
	assert_int_equal(topology.ports[0].windows.mem32.size, GIB);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(topology.ports[i].windows.mem32.size, 128 * MIB);
}

TEST(a_bios_has_all_that_is_no_ram)
{
	struct pci_windows *windows = &topology.windows;

	assert_int_equal(topology_windows(BITS, 4 * GIB + 2 * MIB, true, windows, &err), 0);
	topology_widen(windows, 4 * GIB + 2 * MIB);
	assert_int_equal(windows->io.base, 0x1000);
	assert_int_equal(windows->io.base + windows->io.size, 0x10000);
	assert_true(windows->mem32.base == 2 * GIB);
	assert_true(windows->mem32.base + windows->mem32.size == LAYOUT_IOAPIC);
	assert_true(windows->mem64.base == 4 * GIB + 2 * MIB);
	assert_true(windows->mem64.base + windows->mem64.size == 2 * HALF);
	/* What is placed before it runs stays where it is else. */
	assert_int_equal(windows->io.next, LAYOUT_IO_BASE);
	assert_true(windows->mem64.next == HALF);
	assert_int_equal(topology_windows(BITS, GIB, true, windows, &err), 0);
	topology_widen(windows, GIB);
	assert_true(windows->mem64.base == 4 * GIB);
}

TEST(root_bus_and_ports_share_the_windows)
{
	struct topology_device *device = add(0, 8, 0, false);

	add_bar(device, 0, PCI_BAR_MEM32, false, 512 * MIB);
	add_bar(device, 1, PCI_BAR_MEM64, false, GIB);
	add_bar(device, 3, PCI_BAR_IO, false, 16 * KIB);
	add_bar(add(1, 0, 0, true), 0, PCI_BAR_MEM32, false, 512 * MIB);
	add_bar(add(0, 9, 0, false), 0, PCI_BAR_MEM32, false, MIB);
	assert_int_equal(plan(2), 0);
	check_windows();
	check_placement();
}

/* Behind a bridge, the 64-bit window is for what is prefetchable. */
TEST(kinds_of_memory_go_to_their_windows)
{
	struct topology_device *device = add(1, 0, 0, true);

	add_bar(device, 0, PCI_BAR_MEM64, false, 512 * MIB);
	assert_int_equal(plan(0), 0);
	assert_int_equal(topology.ports[0].windows.mem32.size, 512 * MIB);
	add_bar(device, 0, PCI_BAR_MEM64, false, 2 * GIB);
	assert_int_equal(plan(0), -ENOSPC);
	/* On the root bus it may be anywhere. */
	device->endpoint = false;
	assert_int_equal(plan(0), 0);
	check_placement();
	add_bar(device, 0, PCI_BAR_MEM32, true, 2 * GIB);
	assert_int_equal(plan(0), -ENOSPC);
}

/* There are 40 KiB: the first five have theirs, a device can do without. */
TEST(ports_are_given_as_far_as_they_go)
{
	unsigned with = 0;

	for (unsigned i = 0; i < 12; i++)
		add_bar(add(1 + i, 0, 0, true), 0, PCI_BAR_IO, false, 8 * KIB);
	assert_int_equal(plan(0), 0);
	check_windows();
	for (unsigned i = 0; i < topology.port_count; i++)
		with += topology.ports[i].windows.io.size == 8 * KIB;
	assert_int_equal(with, 5);
	assert_int_equal(topology.ports[0].windows.io.size, 8 * KIB);
}

/* Small and large ones by turns leave gaps, which are counted. */
TEST(functions_are_placed_one_by_one)
{
	for (unsigned i = 0; i < 6; i++)
		add_bar(add(1, 0, i, true), 0, PCI_BAR_MEM64, true, i % 2 ? 8 * GIB : 4 * KIB);
	assert_int_equal(plan(1), 0);
	check_windows();
	check_placement();
	/* On the root bus, too. */
	for (unsigned i = 0; i < 6; i++)
		topology.devices[i].endpoint = false;
	assert_int_equal(plan(1), 0);
	check_windows();
	check_placement();
}

/* A device may say what it likes. */
TEST(sizes_that_no_device_has)
{
	for (unsigned i = 0; i < 8; i++)
		for (unsigned j = 0; j < PCI_BARS; j += 2)
			add_bar(j ? &topology.devices[i] : add(1, 0, i, true), j, PCI_BAR_MEM64,
				true, 1ULL << 63);
	assert_int_equal(plan(0), -ENOSPC);
	for (unsigned i = 0; i < 8; i++)
		topology.devices[i].endpoint = false;
	assert_int_equal(plan(0), -ENOSPC);
}

TEST(what_does_not_fit_is_told_with_sizes)
{
	add_bar(add(1, 0, 0, true), 0, PCI_BAR_MEM64, true, GIB);
	add_bar(add(2, 0, 0, true), 2, PCI_BAR_MEM64, true, 2 * HALF);
	assert_int_equal(plan(0), -ENOSPC);
	assert_string_equal(err.object, "0000:02:00.0");
	assert_non_null(strstr(err.what, "64 TiB"));
	assert_non_null(strstr(err.what, "32 TiB"));
	assert_non_null(strstr(err.what, "64-bit"));
	assert_non_null(strstr(err.hint, "0000:02:00.0"));
	/* Where one alone would fit. */
	topology.devices[1].bars[2].size = HALF;
	assert_int_equal(plan(0), -ENOSPC);
	topology.devices[0].bars[0].size = 0;
	topology.devices[0].bars[0].kind = PCI_BAR_NONE;
	assert_int_equal(plan(0), 0);
	check_placement();
	/* An empty port may be left without. */
	assert_int_equal(plan(1), 0);
	assert_true(topology.ports[1].windows.mem64.size == HALF);
	assert_int_equal(topology.ports[2].windows.mem64.size, 0);
}

TEST(what_does_not_fit_below_4_gib)
{
	add_bar(add(0, 8, 0, false), 0, PCI_BAR_MEM32, false, GIB);
	add_bar(add(0, 9, 0, false), 0, PCI_BAR_MEM32, false, GIB);
	assert_int_equal(plan(2), -ENOSPC);
	assert_non_null(strstr(err.what, "below 4 GiB"));
	assert_non_null(strstr(err.what, "1.5 GiB"));
	add_bar(&topology.devices[1], 0, PCI_BAR_MEM32, false, 512 * MIB);
	assert_int_equal(plan(2), 0);
	check_windows();
	check_placement();
}

TEST(the_64_bit_window_is_the_upper_half)
{
	struct pci_windows windows;

	assert_int_equal(topology_windows(39, 16 * GIB, false, &windows, &err), 0);
	assert_true(windows.mem64.base == 1ULL << 38 && windows.mem64.size == 1ULL << 38);
	assert_true(windows.mem64.next == windows.mem64.base);
	/* No more than four levels of page tables reach. */
	assert_int_equal(topology_windows(52, 16 * GIB, false, &windows, &err), 0);
	assert_true(windows.mem64.base == 1ULL << 46 && windows.mem64.size == 1ULL << 46);
	assert_int_equal(topology_windows(36, 32 * GIB, false, &windows, &err), 0);
	assert_int_equal(topology_windows(36, 32 * GIB + 1, false, &windows, &err), -ENOSPC);
	assert_non_null(strstr(err.what, "32 GiB"));
	assert_non_null(strstr(err.what, "36"));
}

/* Every mix of a few sizes: the plan is sound and can be carried out, or it is refused. */
TEST(any_mix_of_devices)
{
	static const uint64_t sizes[] = { 0, 4 * KIB, MIB, 256 * MIB, 16 * GIB, HALF / 4 };
	uint32_t random = 1;
	unsigned fitting = 0;

	for (unsigned round = 0; round < 2000; round++) {
		topology.device_count = 0;
		for (unsigned i = 0; i < 1 + round % 24; i++) {
			struct topology_device *device;

			random = random * 1664525 + 1013904223;
			device = add(1 + (random >> 30), 0, i & 7, random >> 29 & 1);
			device->bdf.device = i >> 3;
			for (unsigned j = 0; j < PCI_BARS; j += 2) {
				uint64_t size = sizes[(random >> 4 * j) % ARRAY_SIZE(sizes)];
				bool wide = random >> (12 + j) & 1, prefetchable = size > MIB;

				if (size && (wide || !prefetchable))
					add_bar(device, j, wide ? PCI_BAR_MEM64 : PCI_BAR_MEM32,
						prefetchable, size);
			}
		}
		if (plan(round % 5))
			continue;
		fitting++;
		check_windows();
		check_placement();
	}
	assert_in_range(fitting, 200, 1900);
}

#define TOPOLOGY_TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TOPOLOGY_TEST(no_device_no_port),
		TOPOLOGY_TEST(each_endpoint_has_a_port),
		TOPOLOGY_TEST(others_are_on_the_root_bus),
		TOPOLOGY_TEST(functions_of_a_slot_stay_together),
		TOPOLOGY_TEST(functions_of_a_slot_stay_together_on_the_root_bus),
		TOPOLOGY_TEST(functions_without_the_first_are_single),
		TOPOLOGY_TEST(slots_of_other_buses_and_domains_are_others),
		TOPOLOGY_TEST(there_are_31_slots),
		TOPOLOGY_TEST(devices_take_slots_as_well),
		TOPOLOGY_TEST(empty_ports_share_what_there_is),
		TOPOLOGY_TEST(a_device_gets_what_it_needs),
		TOPOLOGY_TEST(a_large_device_narrows_the_shares),
		TOPOLOGY_TEST(a_bios_has_all_that_is_no_ram),
		TOPOLOGY_TEST(root_bus_and_ports_share_the_windows),
		TOPOLOGY_TEST(kinds_of_memory_go_to_their_windows),
		TOPOLOGY_TEST(ports_are_given_as_far_as_they_go),
		TOPOLOGY_TEST(functions_are_placed_one_by_one),
		TOPOLOGY_TEST(sizes_that_no_device_has),
		TOPOLOGY_TEST(what_does_not_fit_is_told_with_sizes),
		TOPOLOGY_TEST(what_does_not_fit_below_4_gib),
		TOPOLOGY_TEST(the_64_bit_window_is_the_upper_half),
		TOPOLOGY_TEST(any_mix_of_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
