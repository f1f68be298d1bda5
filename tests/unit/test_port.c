/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "pci/port.h"
#include "pci/root.h"
#include "test.h"

#include <linux/pci_regs.h>
#include <stdbool.h>
#include <string.h>

/* A root port in slot 3 of bus 0, with slot number 7 and bus 1 behind it, as the guest sees it by ECAM. */

#define ECAM   0xe0000000ULL
#define PORT   (3 << 3)
#define NUMBER 7
#define MSI    0x40
#define EXP    0x60
#define MEM    0x90000000ULL

#define SLTCTL (EXP + PCI_EXP_SLTCTL)
#define SLTSTA (EXP + PCI_EXP_SLTSTA)
#define LNKSTA (EXP + PCI_EXP_LNKSTA)

/* What Linux listens to, and what else there is. */
#define ALL_EVENTS (PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_DLLSCE)
#define LISTEN     (ALL_EVENTS | PCI_EXP_SLTCTL_HPIE)

struct fixture {
	struct space mmio, pio;
	struct pci_root root;
	struct pci_port port;
	struct pci_device device;
	unsigned signals; /* MSIs that went out */
	struct msi_message message;
	unsigned powered, unpowered;
};

static struct fixture fixture;

static void on_signal(void *opaque, struct msi_message message)
{
	assert_ptr_equal(opaque, &fixture);
	fixture.signals++;
	fixture.message = message;
}

static void on_power(void *opaque, struct pci_port *port, bool on)
{
	assert_ptr_equal(opaque, &fixture);
	assert_ptr_equal(port, &fixture.port);
	if (on)
		fixture.powered++;
	else
		fixture.unpowered++;
}

static uint64_t bar_read(struct pci_device *device, unsigned bar, uint64_t offset, unsigned size)
{
	(void)device;
	(void)bar;
	(void)offset;
	(void)size;
	return 0x12345678;
}

static const struct pci_device_ops device_ops = { .bar_read = bar_read };
static const struct pci_root_ops root_ops = { .signal = on_signal };
static const struct pci_link link = { .speed = 3, .width = 8, .payload = 1 };

static uint32_t get(unsigned offset, unsigned size)
{
	return space_read(&fixture.mmio, ECAM + (PORT << 12) + offset, size) &
	       ((2ULL << (8 * size - 1)) - 1);
}

static void set(unsigned offset, unsigned size, uint32_t value)
{
	space_write(&fixture.mmio, ECAM + (PORT << 12) + offset, size, value);
}

static void enable_msi(void)
{
	set(MSI + PCI_MSI_ADDRESS_LO, 4, 0xfee01000);
	set(MSI + PCI_MSI_DATA_32, 2, 0x4051);
	set(MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
}

/* The port lets memory through, the device decodes it. */
static void decode(void)
{
	set(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	space_write(&fixture.mmio, ECAM + (1 << 20) + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

static bool answers(void)
{
	bool does = space_read(&fixture.mmio, MEM, 4) == 0x12345678;
	uint32_t id = space_read(&fixture.mmio, ECAM + (1 << 20), 4);

	/* Configuration space of what is behind a link that is down does not answer either. */
	if (does)
		assert_int_equal(id, 0xabcd1234);
	return does;
}

static bool link_active(void)
{
	return get(LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA;
}

static int setup(void **state)
{
	static const struct pci_windows root_windows = {
		.io = { 0x6000, 0xa000, 0x6000 },
		.mem32 = { 0x80000000, 0x60000000, 0x80000000 },
		.mem64 = { 0x100000000000, 0x100000000000, 0x100000000000 },
	};
	static const struct pci_windows windows = {
		.mem32 = { MEM, 16 * MIB, MEM },
		.mem64 = { 0x100000000000, GIB, 0x100000000000 },
	};
	struct error err = { 0 };

	(void)state;
	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.mmio);
	space_init(&fixture.pio);
	assert_int_equal(pci_root_init(&fixture.root, &fixture.mmio, &fixture.pio, ECAM, 2,
				 &root_windows, &err),
		0);
	fixture.root.ops = &root_ops;
	fixture.root.opaque = &fixture;
	assert_int_equal(pci_port_init(&fixture.port, NUMBER, 1, &windows), 0);
	fixture.port.power = on_power;
	fixture.port.opaque = &fixture;
	assert_int_equal(pci_bridge_add(&fixture.root.bus, &fixture.port.bridge, PORT, &err), 0);
	assert_int_equal(pci_device_init(&fixture.device, &device_ops), 0);
	pci_set32(&fixture.device, PCI_VENDOR_ID, 0xabcd1234);
	pci_device_set_bar(&fixture.device, 0, PCI_BAR_MEM32, false, 4 * KIB);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pci_bus_remove(&fixture.device);
	pci_device_destroy(&fixture.device);
	pci_port_destroy(&fixture.port);
	pci_root_destroy(&fixture.root);
	space_destroy(&fixture.mmio);
	space_destroy(&fixture.pio);
	return 0;
}

static void put_on_bus(void)
{
	struct error err = { 0 };

	assert_int_equal(pci_bus_add(&fixture.port.bridge.secondary, &fixture.device, 0, &err), 0);
	assert_int_equal(pci_bus_place(&fixture.device, &err), 0);
}

static void start_with_device(void)
{
	put_on_bus();
	pci_port_occupy(&fixture.port, &link);
	decode();
}

static void plug(void)
{
	put_on_bus();
	pci_port_plug(&fixture.port, &link);
}

static void acknowledge(void)
{
	set(SLTSTA, 2, get(SLTSTA, 2));
}

/* What the port says of itself */

TEST(the_capabilities_of_a_root_port_with_a_slot)
{
	assert_int_equal(get(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, PCI_STATUS_CAP_LIST);
	assert_int_equal(get(PCI_CAPABILITY_LIST, 1), MSI);
	assert_int_equal(get(MSI, 2), EXP << 8 | PCI_CAP_ID_MSI);
	assert_int_equal(get(EXP, 2), PCI_CAP_ID_EXP);
	assert_int_equal(get(EXP + PCI_EXP_FLAGS, 2), 0x0142);
	/* Hotplug with a button and power, nothing that takes time, surprise as well. */
	assert_int_equal(get(EXP + PCI_EXP_SLTCAP, 4),
		PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP | PCI_EXP_SLTCAP_HPS | PCI_EXP_SLTCAP_HPC |
			PCI_EXP_SLTCAP_NCCS | NUMBER << 19);
	assert_int_equal(pci_port_slot(&fixture.port), NUMBER);
	assert_true(get(EXP + PCI_EXP_LNKCAP, 4) & PCI_EXP_LNKCAP_DLLLARC);
	assert_int_equal(get(0x100, 4), PCI_EXT_CAP_ID_ACS | 1 << 16);
	assert_int_equal(get(0x104, 2), PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF);
	set(0x106, 2, 0xffff);
	assert_int_equal(get(0x106, 2), get(0x104, 2));
	assert_int_equal(get(PCI_SECONDARY_BUS, 1), 1);
}

TEST(the_slot_s_number_has_thirteen_bits)
{
	struct pci_port port;
	struct pci_windows none = { 0 };

	assert_int_equal(pci_port_init(&port, 0x1fff, 1, &none), 0);
	assert_int_equal(pci_port_slot(&port), 0x1fff);
	pci_port_destroy(&port);
}

TEST(an_empty_slot)
{
	assert_int_equal(get(PCI_COMMAND, 2), PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(get(PCI_BRIDGE_CONTROL, 2), PCI_BRIDGE_CTL_SERR);
	assert_int_equal(get(SLTSTA, 2), 0);
	assert_int_equal(get(SLTCTL, 2), PCI_EXP_SLTCTL_PCC);
	assert_false(link_active());
	assert_false(pci_port_is_powered(&fixture.port));
	assert_int_equal(get(EXP + PCI_EXP_LNKCAP, 4) & 0x3ff, 0x011);
	assert_int_equal(space_read(&fixture.mmio, ECAM + (1 << 20), 4) & UINT32_MAX, UINT32_MAX);
}

TEST(a_slot_that_was_taken_from_the_start)
{
	start_with_device();
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
	assert_int_equal(get(SLTCTL, 2), 0);
	assert_true(link_active());
	assert_true(pci_port_is_powered(&fixture.port));
	assert_true(answers());
	assert_int_equal(fixture.signals, 0);
	assert_int_equal(fixture.powered, 0);
}

TEST(the_link_is_the_device_s)
{
	start_with_device();
	assert_int_equal(
		get(EXP + PCI_EXP_LNKCAP, 4), PCI_EXP_LNKCAP_DLLLARC | NUMBER << 24 | 8 << 4 | 3);
	assert_int_equal(get(LNKSTA, 2), PCI_EXP_LNKSTA_DLLLA | 8 << 4 | 3);
	assert_int_equal(get(EXP + PCI_EXP_LNKCAP2, 4), 0x0e); /* 2.5, 5, 8 GT/s */
	assert_int_equal(get(EXP + PCI_EXP_LNKCTL2, 2), 3);
	/* Packets of 256 bytes, as the device does. */
	assert_int_equal(get(EXP + PCI_EXP_DEVCAP, 4), PCI_EXP_DEVCAP_RBER | 1);
	assert_int_equal(get(EXP + PCI_EXP_DEVCTL, 2) & PCI_EXP_DEVCTL_PAYLOAD, 1 << 5);
	set(LNKSTA, 2, 0);
	assert_true(link_active());
}

TEST(the_fastest_link)
{
	const struct pci_link fastest = { 6, 32, 5 };

	pci_port_occupy(&fixture.port, &fastest);
	assert_int_equal(get(EXP + PCI_EXP_LNKCAP, 4) & 0x3ff, 32 << 4 | 6);
	assert_int_equal(get(EXP + PCI_EXP_LNKCAP2, 4), 0x7e);
	assert_int_equal(get(EXP + PCI_EXP_DEVCTL, 2) & PCI_EXP_DEVCTL_PAYLOAD, 5 << 5);
}

TEST(what_a_guest_may_write)
{
	for (unsigned offset = 0x40; offset < 0x110; offset += 4)
		if (offset != EXP + PCI_EXP_SLTCTL)
			set(offset, 4, UINT32_MAX);
	set(SLTCTL, 2, 0xffff);
	assert_int_equal(get(EXP + PCI_EXP_FLAGS, 2), 0x0142);
	assert_int_equal(get(EXP + PCI_EXP_SLTCAP, 4) >> 19, NUMBER);
	/* Commands that need time, bit 11 (interlock), are not there; nor is auto power. */
	assert_int_equal(get(SLTCTL, 2), 0x17ff);
	assert_int_equal(get(SLTSTA, 2), 0);
	assert_int_equal(get(EXP + PCI_EXP_RTCTL, 2), 0x000f);
	assert_int_equal(get(LNKSTA, 2), 0x11);
	assert_int_equal(get(0x104, 2), PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF);
}

/* A device comes */

TEST(plugging_shows_all_events_at_once)
{
	enable_msi();
	set(SLTCTL, 2, LISTEN); /* with power */
	plug();
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDC |
						 PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_DLLSC);
	assert_true(link_active());
	assert_int_equal(fixture.signals, 1);
	assert_true(fixture.message.address == 0xfee01000);
	assert_int_equal(fixture.message.data, 0x4051);
	decode();
	assert_true(answers());
}

/* As Linux leaves an empty slot: the device appears, and has no link before the guest wants it. */
TEST(plugging_into_a_slot_without_power)
{
	enable_msi();
	set(SLTCTL, 2, LISTEN | PCI_EXP_SLTCTL_PCC);
	plug();
	assert_int_equal(
		get(SLTSTA, 2), PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_PDS);
	assert_false(link_active());
	assert_int_equal(fixture.signals, 1);
	assert_false(answers());
	acknowledge();
	set(SLTCTL, 2, LISTEN);
	decode();
	assert_int_equal(fixture.powered, 1);
	assert_true(link_active());
	assert_true(pci_port_is_powered(&fixture.port));
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_DLLSC | PCI_EXP_SLTSTA_PDS);
	assert_int_equal(fixture.signals, 2);
	assert_true(answers());
}

/* What it has to say is said when it is announced: a second event would be that it is gone. */
TEST(one_that_is_announced_answers_when_it_is_there)
{
	enable_msi();
	set(SLTCTL, 2, LISTEN);
	pci_port_announce(&fixture.port);
	assert_true(link_active());
	assert_int_equal(fixture.signals, 1);
	acknowledge();
	plug();
	decode();
	assert_true(answers());
	assert_int_equal(fixture.signals, 1);
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
	assert_int_equal(get(EXP + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_CLS, link.speed);
}

TEST(one_that_is_announced_does_not_come)
{
	enable_msi();
	set(SLTCTL, 2, LISTEN);
	pci_port_announce(&fixture.port);
	acknowledge();
	pci_port_unplug(&fixture.port);
	assert_int_equal(fixture.signals, 2);
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	assert_false(link_active());
}

/* A device goes */

TEST(the_button_asks_and_the_guest_switches_off)
{
	start_with_device();
	enable_msi();
	set(SLTCTL, 2, LISTEN);
	pci_port_press_button(&fixture.port);
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDS);
	assert_int_equal(fixture.signals, 1);
	assert_true(answers());
	acknowledge();
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
	set(SLTCTL, 2, LISTEN | PCI_EXP_SLTCTL_PCC);
	assert_int_equal(fixture.unpowered, 1);
	assert_false(pci_port_is_powered(&fixture.port));
	assert_false(link_active());
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_DLLSC | PCI_EXP_SLTSTA_PDS);
	assert_false(answers());
	assert_int_equal(space_read(&fixture.mmio, ECAM + (1 << 20), 4) & UINT32_MAX, UINT32_MAX);
	acknowledge();
	pci_bus_remove(&fixture.device);
	pci_port_unplug(&fixture.port);
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDC);
	assert_int_equal(fixture.signals, 3);
}

TEST(a_device_is_pulled_without_a_word)
{
	start_with_device();
	enable_msi();
	set(SLTCTL, 2, LISTEN);
	pci_port_unplug(&fixture.port);
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	assert_false(link_active());
	assert_int_equal(fixture.signals, 1);
	assert_int_equal(fixture.unpowered, 0);
	assert_false(answers());
}

TEST(power_is_switched_by_change_alone)
{
	start_with_device();
	set(SLTCTL, 2, 0);
	set(SLTCTL, 2, ALL_EVENTS);
	assert_int_equal(fixture.powered + fixture.unpowered, 0);
	set(SLTCTL, 2, PCI_EXP_SLTCTL_PCC);
	set(SLTCTL, 2, PCI_EXP_SLTCTL_PCC | LISTEN);
	assert_int_equal(fixture.unpowered, 1);
	/* By its byte alone, and with the status register in one access. */
	set(SLTCTL + 1, 1, 0);
	assert_int_equal(fixture.powered, 1);
	assert_true(answers());
	set(SLTCTL, 4, PCI_EXP_SLTCTL_PCC);
	assert_int_equal(fixture.unpowered, 2);
	assert_false(answers());
}

/* Events are cleared by writing ones, and by nothing else */

TEST(events_are_cleared_one_by_one)
{
	plug();
	set(SLTCTL, 2, 0);
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDC |
						 PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_DLLSC);
	set(SLTSTA, 2, 0);
	set(SLTSTA, 2, PCI_EXP_SLTSTA_PDC);
	assert_int_equal(
		get(SLTSTA, 2), PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_DLLSC);
	set(SLTSTA + 1, 1, PCI_EXP_SLTSTA_DLLSC >> 8);
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDS);
	set(SLTCTL, 4, PCI_EXP_SLTSTA_ABP << 16);
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
	/* Presence is not an event. */
	set(SLTSTA, 2, 0xffff);
	assert_int_equal(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
}

TEST(writes_beside_the_status_leave_it)
{
	plug();
	acknowledge();
	pci_port_press_button(&fixture.port);
	set(EXP + PCI_EXP_SLTCAP, 4, UINT32_MAX);
	set(EXP + PCI_EXP_RTCTL, 4, UINT32_MAX);
	set(SLTCTL, 2, 0xffff);
	set(SLTSTA - 1, 1, 0xff);
	set(SLTSTA + 2, 1, 0xff);
	assert_true(get(SLTSTA, 2) & PCI_EXP_SLTSTA_ABP);
}

/* Interrupts */

TEST(no_interrupt_where_the_guest_does_not_listen)
{
	static const uint16_t deaf[] = { 0, PCI_EXP_SLTCTL_HPIE, ALL_EVENTS,
		PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_DLLSCE };

	start_with_device();
	enable_msi();
	for (unsigned i = 0; i < ARRAY_SIZE(deaf); i++) {
		set(SLTCTL, 2, deaf[i]);
		pci_port_press_button(&fixture.port);
		assert_true(get(SLTSTA, 2) & PCI_EXP_SLTSTA_ABP);
		acknowledge();
	}
	assert_int_equal(fixture.signals, 0);
	set(SLTCTL, 2, PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_ABPE);
	pci_port_press_button(&fixture.port);
	assert_int_equal(fixture.signals, 1);
}

/* Each kind of event has an enable bit of its own. */
TEST(each_event_has_its_bit)
{
	static const uint16_t bits[] = { PCI_EXP_SLTCTL_ABPE, PCI_EXP_SLTCTL_PDCE,
		PCI_EXP_SLTCTL_DLLSCE };

	enable_msi();
	put_on_bus();
	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
		set(SLTCTL, 2, PCI_EXP_SLTCTL_HPIE | bits[i]);
		fixture.signals = 0;
		pci_port_plug(&fixture.port, &link);
		assert_int_equal(fixture.signals, 1);
		acknowledge();
		/* A surprise has no button. */
		pci_port_unplug(&fixture.port);
		assert_int_equal(fixture.signals, bits[i] == PCI_EXP_SLTCTL_ABPE ? 1 : 2);
		acknowledge();
	}
}

TEST(no_second_interrupt_before_the_first_is_acknowledged)
{
	start_with_device();
	enable_msi();
	set(SLTCTL, 2, LISTEN);
	pci_port_press_button(&fixture.port);
	pci_port_press_button(&fixture.port);
	pci_port_unplug(&fixture.port);
	assert_int_equal(fixture.signals, 1);
	/* One of three is left: still asserted. */
	set(SLTSTA, 2, PCI_EXP_SLTSTA_ABP);
	pci_port_press_button(&fixture.port);
	assert_int_equal(fixture.signals, 1);
	acknowledge();
	pci_port_press_button(&fixture.port);
	assert_int_equal(fixture.signals, 2);
}

/* An event from before is told when the guest begins to listen (6.7.3.4). */
TEST(enabling_tells_what_is_shown_already)
{
	start_with_device();
	enable_msi();
	set(SLTCTL, 2, ALL_EVENTS);
	pci_port_press_button(&fixture.port);
	assert_int_equal(fixture.signals, 0);
	set(SLTCTL, 2, LISTEN);
	assert_int_equal(fixture.signals, 1);
	/* Off and on again is a new edge. */
	set(SLTCTL, 2, ALL_EVENTS);
	set(SLTCTL, 2, LISTEN);
	assert_int_equal(fixture.signals, 2);
	set(SLTCTL, 2, LISTEN);
	assert_int_equal(fixture.signals, 2);
}

TEST(no_message_without_msi)
{
	start_with_device();
	set(SLTCTL, 2, LISTEN);
	pci_port_press_button(&fixture.port);
	assert_int_equal(fixture.signals, 0);
	acknowledge();
	enable_msi();
	pci_port_press_button(&fixture.port);
	assert_int_equal(fixture.signals, 1);
	acknowledge();
	set(MSI + PCI_MSI_FLAGS, 2, 0);
	pci_port_press_button(&fixture.port);
	assert_int_equal(fixture.signals, 1);
}

/* The command register of a port whose slot comes alive counts from then on. */
TEST(the_windows_hold_while_the_link_is_down)
{
	set(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set(PCI_MEMORY_BASE, 4, 0xa0f0a000);
	plug();
	set(SLTCTL, 2, 0);
	space_write(&fixture.mmio, ECAM + (1 << 20) + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_false(answers());
	assert_int_equal(space_read(&fixture.mmio, ECAM + (1 << 20), 4) & UINT32_MAX, 0xabcd1234);
	set(PCI_MEMORY_BASE, 4, 0x90f09000);
	space_write(&fixture.mmio, ECAM + (1 << 20) + PCI_BASE_ADDRESS_0, 4, MEM);
	assert_true(answers());
}

#define PORT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PORT_TEST(the_capabilities_of_a_root_port_with_a_slot),
		PORT_TEST(the_slot_s_number_has_thirteen_bits),
		PORT_TEST(an_empty_slot),
		PORT_TEST(a_slot_that_was_taken_from_the_start),
		PORT_TEST(the_link_is_the_device_s),
		PORT_TEST(the_fastest_link),
		PORT_TEST(what_a_guest_may_write),
		PORT_TEST(plugging_shows_all_events_at_once),
		PORT_TEST(plugging_into_a_slot_without_power),
		PORT_TEST(one_that_is_announced_answers_when_it_is_there),
		PORT_TEST(one_that_is_announced_does_not_come),
		PORT_TEST(the_button_asks_and_the_guest_switches_off),
		PORT_TEST(a_device_is_pulled_without_a_word),
		PORT_TEST(power_is_switched_by_change_alone),
		PORT_TEST(events_are_cleared_one_by_one),
		PORT_TEST(writes_beside_the_status_leave_it),
		PORT_TEST(no_interrupt_where_the_guest_does_not_listen),
		PORT_TEST(each_event_has_its_bit),
		PORT_TEST(no_second_interrupt_before_the_first_is_acknowledged),
		PORT_TEST(enabling_tells_what_is_shown_already),
		PORT_TEST(no_message_without_msi),
		PORT_TEST(the_windows_hold_while_the_link_is_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
