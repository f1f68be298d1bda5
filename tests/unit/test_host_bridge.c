/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "fake_kvm.h"
#include "machine/layout.h"
#include "machine/pci.h"
#include "test.h"

#include <linux/pci_regs.h>
#include <string.h>

/* A machine's PCI tree with two ports, whose configuration firmware reaches by CF8 at first. */

#define ADDRESS  0xcf8
#define DATA     0xcfc
#define PCIEXBAR 0x60
#define ID       0x29c08086

struct fixture {
	struct kvm_vm *vm;
	struct space mmio, pio;
	struct topology topology;
	struct machine_pci pci;
};

static void on_reset(void *opaque)
{
	(void)opaque;
}

static int make(struct fixture *fixture, bool firmware)
{
	struct error err = { 0 };

	memset(fixture, 0, sizeof(*fixture));
	fake_kvm_reset();
	space_init(&fixture->mmio);
	space_init(&fixture->pio);
	fixture->vm = kvm_vm_new(FAKE_KVM_FD, &err);
	fixture->pci.reset = on_reset;
	fixture->topology.firmware = firmware;
	topology_windows(40, 2 * GIB, firmware, &fixture->topology.windows, &err);
	topology_plan(&fixture->topology, 2, &err);
	machine_pci_init(&fixture->pci, fixture->vm, &fixture->mmio, &fixture->pio,
		&fixture->topology, firmware, &err);
	return err.code;
}

static int setup(void **state)
{
	static struct fixture fixture;

	*state = &fixture;
	return make(&fixture, true);
}

static int setup_kernel(void **state)
{
	static struct fixture fixture;

	*state = &fixture;
	return make(&fixture, false);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	machine_pci_destroy(&fixture->pci);
	kvm_vm_free(fixture->vm);
	space_destroy(&fixture->mmio);
	space_destroy(&fixture->pio);
	return 0;
}

static uint32_t get(struct fixture *fixture, unsigned slot, unsigned offset)
{
	space_write(&fixture->pio, ADDRESS, 4, 1U << 31 | slot << 11 | offset);
	return space_read(&fixture->pio, DATA, 4);
}

static void set(struct fixture *fixture, unsigned slot, unsigned offset, uint32_t value)
{
	space_write(&fixture->pio, ADDRESS, 4, 1U << 31 | slot << 11 | offset);
	space_write(&fixture->pio, DATA, 4, value);
}

static uint32_t ecam(struct fixture *fixture, uint64_t at)
{
	return space_read(&fixture->mmio, at, 4);
}

static void ecam_is_where_firmware_puts_it(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, 0, 0), ID);
	assert_int_equal(ecam(fixture, LAYOUT_ECAM), UINT32_MAX);
	assert_int_equal(fixture->pci.slots[0], -1);
	set(fixture, 0, PCIEXBAR, 0);
	set(fixture, 0, PCIEXBAR + 4, 0);
	set(fixture, 0, PCIEXBAR, 0xb0000001);
	assert_int_equal(ecam(fixture, 0xb0000000), ID);
	assert_int_equal(ecam(fixture, 0xb0000000 + (2 << 15) + PCI_CLASS_REVISION) >> 16, 0x0604);
	/* The last port's page is the last that was shown; 256 buses are there, 16 of them not. */
	assert_int_equal(fake_kvm.slot.guest_phys_addr, 0xb0000000 + (2 << 15));
	assert_true(fixture->pci.slots[2] >= 0);
	assert_int_equal(fixture->pci.root.ecam_size, 256 * MIB);
	set(fixture, 0, PCIEXBAR, 0xe0000001);
	assert_int_equal(ecam(fixture, 0xb0000000), UINT32_MAX);
	assert_int_equal(ecam(fixture, 0xe0000000), ID);
	set(fixture, 0, PCIEXBAR, 0);
	assert_int_equal(ecam(fixture, 0xe0000000), UINT32_MAX);
}

static void its_length_may_be_less(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, 0, PCIEXBAR, 0xbc000000 | 1 << 1 | 1);
	assert_int_equal(ecam(fixture, 0xb8000000), ID);
	assert_int_equal(fixture->pci.root.ecam_size, 128 * MIB);
	set(fixture, 0, PCIEXBAR, 0xbc000000 | 2 << 1 | 1);
	assert_int_equal(ecam(fixture, 0xbc000000), ID);
	assert_int_equal(fixture->pci.root.ecam_size, 64 * MIB);
	set(fixture, 0, PCIEXBAR, 0xbc000000 | 3 << 1 | 1);
	assert_int_equal(ecam(fixture, 0xbc000000), UINT32_MAX);
	/* Above 4 GiB, and what of the register is there. */
	set(fixture, 0, PCIEXBAR + 4, UINT32_MAX);
	set(fixture, 0, PCIEXBAR, 0x10000001);
	assert_int_equal(get(fixture, 0, PCIEXBAR + 4), 0xf);
	assert_int_equal(ecam(fixture, 0xf10000000), ID);
}

static void firmware_numbers_the_buses(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(pci_root_last_bus(&fixture->pci.root), 2);
	set(fixture, 1, PCI_PRIMARY_BUS, 0x00070300);
	set(fixture, 2, PCI_PRIMARY_BUS, 0x00050400);
	assert_int_equal(pci_root_last_bus(&fixture->pci.root), 7);
}

static void a_kernel_has_ecam_alone(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, 0, 0), UINT32_MAX);
	assert_int_equal(ecam(fixture, LAYOUT_ECAM), ID);
	assert_int_equal(fixture->pci.root.ecam_size, 3 * PCI_ECAM_BUS_SIZE);
	space_write(&fixture->mmio, LAYOUT_ECAM + PCIEXBAR, 4, 0xb0000001);
	assert_int_equal(ecam(fixture, 0xb0000000), UINT32_MAX);
	assert_int_equal(ecam(fixture, LAYOUT_ECAM), ID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ecam_is_where_firmware_puts_it, setup, teardown),
		cmocka_unit_test_setup_teardown(its_length_may_be_less, setup, teardown),
		cmocka_unit_test_setup_teardown(firmware_numbers_the_buses, setup, teardown),
		cmocka_unit_test_setup_teardown(a_kernel_has_ecam_alone, setup_kernel, teardown),
	};

	return test_run(tests);
}
