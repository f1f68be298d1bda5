/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/layout.h"
#include "machine/platform/lpc.h"
#include "pci/root.h"
#include "test.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <time.h>

#define ADDRESS 0xcf8
#define DATA    0xcfc
#define PMBASE  0x600

struct fixture {
	struct space mmio, pio;
	struct pci_root root;
	struct lpc lpc;
	unsigned offs, resets;
};

static struct timespec now;

int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	(void)clock;
	*time = now;
	return 0;
}

static void on_off(void *opaque)
{
	((struct fixture *)opaque)->offs++;
}

static void on_reset(void *opaque)
{
	((struct fixture *)opaque)->resets++;
}

static int setup(void **state)
{
	static const struct pci_windows windows;
	static const struct pci_root_ops ops;
	static struct fixture fixture;
	struct error err = { 0 };

	memset(&fixture, 0, sizeof(fixture));
	now = (struct timespec){ 0 };
	space_init(&fixture.mmio);
	space_init(&fixture.pio);
	pci_root_init(&fixture.root, &fixture.mmio, &fixture.pio, LAYOUT_ECAM, 1, &windows, &err);
	fixture.root.has_ports = true;
	fixture.root.ops = &ops;
	fixture.lpc.off = on_off;
	fixture.lpc.reset = on_reset;
	fixture.lpc.opaque = &fixture;
	*state = &fixture;
	return lpc_init(&fixture.lpc, &fixture.root.bus, &fixture.pio, &err);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	lpc_destroy(&fixture->lpc);
	pci_root_destroy(&fixture->root);
	space_destroy(&fixture->pio);
	space_destroy(&fixture->mmio);
	return 0;
}

static uint32_t get(struct fixture *fixture, unsigned port, unsigned size)
{
	return space_read(&fixture->pio, port, size) & ((2ULL << (8 * size - 1)) - 1);
}

static void set(struct fixture *fixture, unsigned port, unsigned size, uint32_t value)
{
	space_write(&fixture->pio, port, size, value);
}

static uint32_t config(struct fixture *fixture, unsigned offset, unsigned size)
{
	set(fixture, ADDRESS, 4, 1U << 31 | LAYOUT_ISA_SLOT << 11 | (offset & 0xfc));
	return get(fixture, DATA + offset % 4, size);
}

static void set_config(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value)
{
	set(fixture, ADDRESS, 4, 1U << 31 | LAYOUT_ISA_SLOT << 11 | (offset & 0xfc));
	set(fixture, DATA + offset % 4, size, value);
}

static void decode(struct fixture *fixture)
{
	set_config(fixture, 0x40, 4, PMBASE | 1);
	set_config(fixture, 0x44, 1, 0x80);
}

/* As firmware does on a Q35. */
static void firmware_finds_an_isa_bridge(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(config(fixture, 0, 4), 0x29188086);
	assert_int_equal(config(fixture, PCI_CLASS_DEVICE, 2), 0x0601);
	/* What UEFI's driver of the bus tries before it lets another one use the device. */
	assert_int_equal(config(fixture, PCI_COMMAND, 2), 7);
	set_config(fixture, PCI_COMMAND, 2, 0);
	assert_int_equal(config(fixture, PCI_COMMAND, 2), 0);
	set_config(fixture, PCI_COMMAND, 2, 0xffff);
	assert_int_equal(config(fixture, PCI_COMMAND, 2), 7);
	assert_int_equal(config(fixture, 0x40, 4), 1);
	assert_int_equal(config(fixture, 0x44, 1), 0);
	set_config(fixture, 0x40, 4, 0xffffffff);
	assert_int_equal(config(fixture, 0x40, 4), 0xff81);
	set_config(fixture, 0x60, 4, 0x0b0a0b0a);
	assert_int_equal(config(fixture, 0x60, 4), 0x0b0a0b0a);
	set_config(fixture, 0xf0, 4, 0xfed1c001);
	assert_int_equal(config(fixture, 0xf0, 4), 0xfed1c001);
}

static void the_ports_are_where_pmbase_says(void **state)
{
	struct fixture *fixture = *state;

	set_config(fixture, 0x40, 4, PMBASE | 1);
	assert_int_equal(get(fixture, PMBASE, 2), 0xffff);
	set_config(fixture, 0x44, 1, 0x80);
	assert_int_equal(get(fixture, PMBASE, 2), 0);
	set_config(fixture, 0x40, 4, 0xb001);
	assert_int_equal(get(fixture, PMBASE, 2), 0xffff);
	assert_int_equal(get(fixture, 0xb000, 2), 0);
	/* Not where something else is, as this is. */
	set_config(fixture, 0x40, 4, 0xc81);
	assert_int_equal(get(fixture, 0xc80, 2), 0xffff);
	set_config(fixture, 0x40, 4, PMBASE | 1);
	assert_int_equal(get(fixture, PMBASE, 2), 0);
	set_config(fixture, 0x44, 1, 0);
	assert_int_equal(get(fixture, PMBASE, 2), 0xffff);
}

static void the_timer_runs_at_its_frequency(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture);
	assert_int_equal(get(fixture, PMBASE + 8, 4), 0);
	now.tv_sec = 1;
	assert_int_equal(get(fixture, PMBASE + 8, 4), 3579545);
	assert_int_equal(get(fixture, PMBASE + 9, 1), 3579545 >> 8 & 0xff);
	now.tv_nsec = 500000000;
	assert_int_equal(get(fixture, PMBASE + 8, 4), 3579545 * 3 / 2);
	/* It has 24 bits, and years do not make it stumble. */
	now.tv_sec = 100000000;
	assert_int_equal(
		get(fixture, PMBASE + 8, 4), (100000000 * 3579545ULL + 3579545 / 2) & 0xffffff);
}

/* As firmware has it, and as the ACPI tables do. */
static void sleep_of_two_types_is_off(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture);
	set(fixture, PMBASE + 4, 2, 1 << 13 | 1 << 10);
	set(fixture, PMBASE + 4, 2, 5 << 10);
	set(fixture, PMBASE + 4, 2, 0);
	set(fixture, PMBASE + 4, 1, 0xff);
	set(fixture, PMBASE + 6, 2, 1 << 13);
	assert_int_equal(fixture->offs, 0);
	set(fixture, PMBASE + 4, 2, 1 << 13);
	assert_int_equal(fixture->offs, 1);
	set(fixture, PMBASE + 4, 4, 1 << 13);
	assert_int_equal(fixture->offs, 2);
	set(fixture, PMBASE + 4, 2, 1 << 13 | 5 << 10);
	assert_int_equal(fixture->offs, 3);
}

/* Of PM1: nothing happens, and what is enabled stays so; power management is ACPI's from the start. */
static void events_can_be_enabled(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture);
	assert_int_equal(get(fixture, PMBASE, 4), 0);
	assert_int_equal(get(fixture, PMBASE + 4, 2), 1);
	set(fixture, PMBASE + 2, 2, 0x0120);
	assert_int_equal(get(fixture, PMBASE + 2, 2), 0x0120);
	assert_int_equal(get(fixture, PMBASE + 3, 1), 0x01);
	assert_int_equal(get(fixture, PMBASE, 4), 0x01200000);
	set(fixture, PMBASE, 2, 0xffff);
	set(fixture, PMBASE + 4, 2, 0);
	assert_int_equal(get(fixture, PMBASE, 4), 0x01200000);
	assert_int_equal(get(fixture, PMBASE + 4, 2), 1);
	set(fixture, PMBASE + 2, 2, 0);
	assert_int_equal(get(fixture, PMBASE + 2, 2), 0);
}

/* A BIOS would otherwise put its code for system management mode in place, and wait for it to run. */
static void system_management_is_taken(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture);
	assert_int_equal(get(fixture, PMBASE + 0x30, 4), 0x20);
	set(fixture, PMBASE + 0x30, 4, 0);
	assert_int_equal(get(fixture, PMBASE + 0x30, 4), 0x20);
	assert_int_equal(get(fixture, PMBASE + 0x20, 4), 0);
}

static void it_is_told_where_the_ports_are(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(lpc_pm_base(&fixture->lpc), 0);
	decode(fixture);
	assert_int_equal(lpc_pm_base(&fixture->lpc), PMBASE);
	set_config(fixture, 0x44, 1, 0);
	assert_int_equal(lpc_pm_base(&fixture->lpc), 0);
}

static void port_92_resets(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, 0x92, 1), 2);
	set(fixture, 0x92, 1, 2);
	assert_int_equal(fixture->resets, 0);
	set(fixture, 0x92, 1, 3);
	assert_int_equal(fixture->resets, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(firmware_finds_an_isa_bridge, setup, teardown),
		cmocka_unit_test_setup_teardown(the_ports_are_where_pmbase_says, setup, teardown),
		cmocka_unit_test_setup_teardown(the_timer_runs_at_its_frequency, setup, teardown),
		cmocka_unit_test_setup_teardown(sleep_of_two_types_is_off, setup, teardown),
		cmocka_unit_test_setup_teardown(events_can_be_enabled, setup, teardown),
		cmocka_unit_test_setup_teardown(system_management_is_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(it_is_told_where_the_ports_are, setup, teardown),
		cmocka_unit_test_setup_teardown(port_92_resets, setup, teardown),
	};

	return test_run(tests);
}
