/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/loop.h"
#include "passthrough_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A device's configuration space as the guest sees it, and its way in and out. */

static void the_guest_sees_the_device(void **state)
{
	struct fixture *fixture = *state;

	attach(fixture);
	assert_int_equal(get(fixture, PCI_VENDOR_ID, 4), 0x56781234);
	assert_int_equal(get(fixture, 0x100, 4), UINT32_MAX);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(get(fixture, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	/* What is not mapped is trapped: the register is the device's own. */
	space_write(&fixture->mmio, MEM32 + 0x10, 4, 0x12345678);
	assert_int_equal(vfio_region_read(&fixture->device.vfio, 0, 0x10, 4), 0x12345678);
	assert_int_equal(space_read(&fixture->mmio, MEM32 + 0x12, 2), 0x1234);
}

static void the_header_is_the_devices(void **state)
{
	struct fixture *fixture = *state;

	put32(&fixture->config[PCI_CLASS_REVISION], 0x01080203);
	put32(&fixture->config[PCI_SUBSYSTEM_VENDOR_ID], 0xaaaabbbb);
	put16(&fixture->config[PCI_MIN_GNT], 0x0907);
	put16(&fixture->config[PCI_INTERRUPT_LINE], 0x020b); /* VFIO knows of no INTx */
	put32(&fixture->config[PCI_ROM_ADDRESS], 0xfe000001);
	attach(fixture);
	assert_int_equal(get(fixture, PCI_CLASS_REVISION, 4), 0x01080203);
	assert_int_equal(get(fixture, PCI_SUBSYSTEM_VENDOR_ID, 4), 0xaaaabbbb);
	assert_int_equal(get(fixture, PCI_INTERRUPT_LINE, 4), 0x09070000);
	assert_int_equal(get(fixture, PCI_ROM_ADDRESS, 4), 0);
	assert_int_equal(get(fixture, PCI_HEADER_TYPE, 1), 0);
	/* The latency timer is the guest's alone, the status the device's own. */
	set(fixture, PCI_LATENCY_TIMER, 1, 0x5a);
	assert_int_equal(get(fixture, PCI_LATENCY_TIMER, 1), 0x5a);
	assert_int_equal(device_get(fixture, PCI_LATENCY_TIMER, 1), 0);
	device_put(fixture, PCI_STATUS, 2, PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT);
	assert_int_equal(get(fixture, PCI_STATUS, 2), PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT);
	assert_int_equal(get(fixture, PCI_STATUS, 1), PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT);
	assert_int_equal(get(fixture, PCI_COMMAND, 4) >> 16, get(fixture, PCI_STATUS, 2));
	assert_int_equal(get(fixture, PCI_LATENCY_TIMER, 1), 0x5a);
}

/* A driver that reads or writes a register gets it in one piece. */
static void what_is_the_devices_whole_is_accessed_at_once(void **state)
{
	struct fixture *fixture = *state;
	unsigned before;

	fixture->config[PCI_CAPABILITY_LIST] = 0x80;
	add_cap(fixture, 0x80, 0, PCI_CAP_ID_VNDR);
	fixture->config[0x82] = 0x10;
	memset(&fixture->config[0x83], 0xff, 0x0d);
	attach(fixture);
	for (unsigned size = 1; size <= 4; size *= 2) {
		before = host.accesses;
		get(fixture, 0x84, size);
		assert_int_equal(host.accesses, before + 1);
		assert_int_equal(host.access, size);
		set(fixture, 0x84, size, 0);
		assert_int_equal(host.accesses, before + 2);
		assert_int_equal(host.access, size);
	}
	/* In part, or at no multiple of the size: by bytes, and no other byte than those. */
	before = host.accesses;
	get(fixture, PCI_COMMAND, 4);
	assert_int_equal(host.accesses, before + 2);
	assert_int_equal(get(fixture, 0x87, 2), 0xff00);
	set(fixture, 0x87, 2, 0x1234);
	assert_int_equal(host.accesses, before + 6);
	assert_int_equal(device_get(fixture, 0x84, 4), 0x34000000);
	/* The device is the one that answers, whatever it had first. */
	device_put(fixture, 0x88, 4, 0x01020304);
	assert_int_equal(get(fixture, 0x89, 2), 0x0203);
	assert_int_equal(get(fixture, 0x89, 4), 0xff010203);
	assert_int_equal(get(fixture, 0x82, 4), 0x0000ff10);
	/* And what is not its business reaches it never. */
	before = host.accesses;
	set(fixture, PCI_LATENCY_TIMER, 1, 0x40);
	set(fixture, PCI_COMMAND, 1, 0);
	get(fixture, PCI_COMMAND, 2);
	set(fixture, PCI_BASE_ADDRESS_0, 4, MEM32);
	assert_int_equal(host.accesses, before);
}

static void functions_of_one_slot_say_so(void **state)
{
	struct fixture *fixture = *state;

	fixture->place.multifunction = true;
	attach(fixture);
	assert_int_equal(get(fixture, PCI_HEADER_TYPE, 1), 0x80);
}

static void without_the_status_bit_there_is_no_list(void **state)
{
	struct fixture *fixture = *state;

	put16(&fixture->config[PCI_STATUS], 0);
	fixture->config[PCI_CAPABILITY_LIST] = 0x50;
	add_msix(fixture, 0x50, 0, 4);
	attach(fixture);
	assert_int_equal(get(fixture, PCI_CAPABILITY_LIST, 1), 0);
	assert_int_equal(get(fixture, PCI_STATUS, 2), 0);
	/* All behind the header is then the device's own business, and its driver's. */
	set(fixture, 0x40, 4, 0x11223344);
	set(fixture, 0xfc, 4, 0x55667788);
	assert_int_equal(device_get(fixture, 0x40, 4), 0x11223344);
	assert_int_equal(device_get(fixture, 0xfc, 4), 0x55667788);
}

static void what_lies_before_the_list_is_the_drivers(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x80;
	add_msix(fixture, 0x80, 0x50, 4);
	add_cap(fixture, 0x50, 0, PCI_CAP_ID_AF);
	put32(&fixture->config[0x4c], 0x01020304);
	fixture->config[0x51] = 1; /* the low bits of a pointer mean nothing */
	put32(&fixture->config[0x54], 0x05060708);
	attach(fixture);
	assert_int_equal(get(fixture, 0x4c, 4), 0x01020304);
	device_put(fixture, 0x40, 4, 0x99887766);
	assert_int_equal(get(fixture, 0x41, 1), 0x77);
	assert_int_equal(get(fixture, 0x41, 2), 0x8877);
	set(fixture, 0x42, 2, 0xabcd);
	set(fixture, 0x41, 2, 0xef01); /* at no multiple of its size */
	assert_int_equal(device_get(fixture, 0x40, 4), 0xabef0166);
	/* Behind it only what is shown can be reached. */
	assert_int_equal(get(fixture, 0x4e, 4), 0x00000102);
	assert_int_equal(get(fixture, 0x54, 4), 0);
	set(fixture, 0x54, 4, UINT32_MAX);
	set(fixture, 0x4e, 4, UINT32_MAX);
	assert_int_equal(device_get(fixture, 0x4c, 4), 0xffff0304);
	assert_int_equal(device_get(fixture, 0x50, 4), PCI_CAP_ID_AF | 1 << 8);
	assert_int_equal(device_get(fixture, 0x54, 4), 0x05060708);
}

/* The guest's decoding is slots; the device's own is on for good. */
static void the_device_decodes_what_it_has_bars_for(void **state)
{
	struct fixture *fixture = *state;

	attach(fixture);
	assert_int_equal(device_get(fixture, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
	set(fixture, PCI_COMMAND, 2, 0xffff);
	assert_int_equal(get(fixture, PCI_COMMAND, 2),
		PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
			PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(device_get(fixture, PCI_COMMAND, 2),
		PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR);
	set(fixture, PCI_COMMAND, 2, 0);
	assert_int_equal(device_get(fixture, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
	assert_int_equal(device_get(fixture, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	set(fixture, PCI_COMMAND, 1, PCI_COMMAND_MASTER);
	assert_int_equal(
		device_get(fixture, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static unsigned asked;
static bool answer;

/* Memory is being mapped: the device has no Bus Master yet. */
static bool is_ready(void *opaque)
{
	struct fixture *fixture = opaque;

	assert_false(device_get(fixture, PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
	asked++;
	return answer;
}

static void bus_master_waits_for_memory(void **state)
{
	struct fixture *fixture = *state;

	asked = 0;
	answer = false;
	put16(&fixture->config[PCI_COMMAND], PCI_COMMAND_MASTER);
	attach(fixture);
	fixture->device.ready = is_ready;
	fixture->device.ready_opaque = fixture;
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_SERR);
	assert_int_equal(asked, 0);
	set(fixture, PCI_COMMAND, 1, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(asked, 1);
	/* Nothing of it is done. */
	assert_int_equal(
		device_get(fixture, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_SERR);
	assert_int_equal(get(fixture, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_SERR);
	set(fixture, PCI_VENDOR_ID + 2, 4, (PCI_COMMAND_MASTER | PCI_COMMAND_PARITY) << 16);
	set(fixture, PCI_COMMAND, 4, PCI_COMMAND_MASTER | PCI_COMMAND_PARITY);
	assert_int_equal(asked, 3);
	set(fixture, PCI_COMMAND + 1, 1, PCI_COMMAND_MASTER);
	set(fixture, PCI_STATUS, 2, PCI_COMMAND_MASTER);
	set(fixture, PCI_BASE_ADDRESS_0, 4, PCI_COMMAND_MASTER);
	assert_int_equal(asked, 3);
	assert_false(get(fixture, PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
	/* The same once more. */
	answer = true;
	set(fixture, PCI_COMMAND, 1, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(
		device_get(fixture, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void a_device_of_ports_decodes_ports(void **state)
{
	struct fixture *fixture = *state;

	add_bar(fixture, 0, 0);
	add_bar(fixture, 2, 32);
	put32(&fixture->config[PCI_BASE_ADDRESS_2], PCI_BASE_ADDRESS_SPACE_IO);
	attach(fixture);
	assert_int_equal(device_get(fixture, PCI_COMMAND, 2), PCI_COMMAND_IO);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_int_equal(get(fixture, PCI_BASE_ADDRESS_2, 4), 0x6001);
	space_write(&fixture->pio, 0x6004, 4, 0x12345678);
	assert_int_equal(vfio_region_read(&fixture->device.vfio, 2, 4, 4), 0x12345678);
	assert_int_equal(space_read(&fixture->pio, 0x6005, 1), 0x56);
	assert_int_equal(slot_count(), 0);
}

static void bars_are_of_the_devices_kind_and_size(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	put32(&fixture->config[PCI_BASE_ADDRESS_0], 0xfe000000);
	add_bar(fixture, 2, 64 * KIB);
	put32(&fixture->config[PCI_BASE_ADDRESS_2],
		PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH);
	add_bar(fixture, 4, 16);
	put32(&fixture->config[PCI_BASE_ADDRESS_4], PCI_BASE_ADDRESS_SPACE_IO);
	add_bar(fixture, 5, 2 * GIB);
	assert_int_equal(config_init(fixture, &err), 0);
	for (unsigned i = 0; i < PCI_BARS; i++)
		set(fixture, PCI_BASE_ADDRESS_0 + 4 * i, 4, UINT32_MAX);
	assert_int_equal(get(fixture, PCI_BASE_ADDRESS_0, 4), 0xffffc000);
	assert_int_equal(get(fixture, PCI_BASE_ADDRESS_1, 4), 0);
	assert_int_equal(get(fixture, PCI_BASE_ADDRESS_2, 4), 0xffff000c);
	assert_int_equal(get(fixture, PCI_BASE_ADDRESS_3, 4), 0xffffffff);
	assert_int_equal(get(fixture, PCI_BASE_ADDRESS_4, 4), 0xfffffff1);
	assert_int_equal(get(fixture, PCI_BASE_ADDRESS_5, 4), 0x80000000);
}

static void no_bar_has_such_a_size(void **state)
{
	static const struct {
		unsigned bar;
		uint64_t size;
		uint32_t type;
	} bars[] = {
		{ 0, 12345, 0 },
		{ 1, 4 * GIB, 0 },
		{ 2, 4 * GIB, PCI_BASE_ADDRESS_SPACE_IO },
		{ 5, 4 * KIB, PCI_BASE_ADDRESS_MEM_TYPE_64 },
	};
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(bars); i++) {
		struct error err = { 0 };

		add_bar(fixture, bars[i].bar, bars[i].size);
		put32(&fixture->config[PCI_BASE_ADDRESS_0 + 4 * bars[i].bar], bars[i].type);
		assert_int_equal(config_init(fixture, &err), -EINVAL);
		assert_string_equal(err.object, "0000:01:00.0");
		assert_non_null(strstr(err.what, "size"));
		add_bar(fixture, bars[i].bar, 0);
	}
	/* A 64-bit BAR may be larger than all that 32 bits reach. */
	add_bar(fixture, 4, 64 * GIB);
	fixture->device.vfio.regions[4].area_count = 0;
	put32(&fixture->config[PCI_BASE_ADDRESS_4], PCI_BASE_ADDRESS_MEM_TYPE_64);
	attach(fixture);
	assert_true(fixture->device.pci.bars[4].size == 64 * GIB);
}

static void a_device_that_does_not_answer_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	memset(fixture->config, 0xff, sizeof(fixture->config));
	assert_int_equal(try_attach(fixture, &err), -ENODEV);
	assert_non_null(strstr(err.hint, "penstock doctor 0000:01:00.0"));
	/* Either byte of the vendor alone may be ff. */
	memset(fixture->config, 0, sizeof(fixture->config));
	err = (struct error){ 0 };
	put16(&fixture->config[PCI_VENDOR_ID], 0x12ff);
	assert_int_equal(config_init(fixture, &err), 0);
	put16(&fixture->config[PCI_VENDOR_ID], 0xff12);
	assert_int_equal(config_init(fixture, &err), 0);
}

static void a_bridge_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	fixture->config[PCI_HEADER_TYPE] = 0x80; /* a function of several */
	assert_int_equal(config_init(fixture, &err), 0);
	fixture->config[PCI_HEADER_TYPE] = 0x80 | PCI_HEADER_TYPE_BRIDGE;
	assert_int_equal(try_attach(fixture, &err), -EINVAL);
	assert_non_null(strstr(err.what, "bridge"));
}

/* Capabilities */

/* How many capabilities of a kind the guest finds. */
static unsigned count_caps(struct fixture *fixture, uint8_t id)
{
	unsigned at = get(fixture, PCI_CAPABILITY_LIST, 1), count = 0;

	for (unsigned i = 0; at && i < 48; i++) {
		count += get(fixture, at, 1) == id;
		at = get(fixture, at + 1, 1);
	}
	return count;
}

static void hidden_capabilities_are_not_listed(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x43; /* two low bits mean nothing */
	fixture->config[0x40] = PCI_CAP_ID_AF;
	fixture->config[0x41] = 0x51;
	add_msix(fixture, 0x50, 0x60, 4);
	fixture->config[0x60] = PCI_CAP_ID_HT;
	attach(fixture);
	assert_int_equal(get(fixture, PCI_CAPABILITY_LIST, 1), 0x50);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_MSIX), 1);
	assert_int_equal(get(fixture, 0x51, 1), 0);
	assert_int_equal(get(fixture, 0x60, 1), 0);
}

static void a_list_that_loops_ends(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0x50, 4);
	add_msi(fixture, 0x50, 0x40, 0);
	attach(fixture);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_MSIX), 1);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_MSI), 1);
}

/* A device has one at most; of two, the first counts. Leaks show at the end of the program. */
static void a_second_msix_capability_is_left_out(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0x50, 4);
	add_msix(fixture, 0x50, 0, 8);
	attach(fixture);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_MSIX), 1);
	assert_int_equal(fixture->device.msix.vectors, 4);
}

static void a_second_msi_capability_is_left_out(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msi(fixture, 0x40, 0x60, 0);
	add_msi(fixture, 0x60, 0, PCI_MSI_FLAGS_64BIT);
	attach(fixture);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_MSI), 1);
	assert_false(fixture->device.msi.is_64);
}

/* Devices in a root complex may have an Express capability that ends early. */
static void a_short_express_capability_leaves_the_next_alone(void **state)
{
	struct fixture *fixture = *state;
	uint8_t *cap = &fixture->config[0x60];

	fixture->config[PCI_CAPABILITY_LIST] = 0x74;
	add_msix(fixture, 0x74, 0x60, 4);
	cap[0] = PCI_CAP_ID_EXP;
	put16(cap + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_RC_END << 4);
	attach(fixture);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_EXP), 1);
	assert_int_equal(get(fixture, 0x74 + PCI_MSIX_TABLE, 4), 0x1000);
	assert_int_equal(get(fixture, 0x74 + PCI_MSIX_PBA, 4), 0x2000);
}

/* Each with as much of it as the guest may have: 11s are the device's, what the guest writes are ee. */
static void capabilities_show_what_the_guest_may_have(void **state)
{
	struct fixture *fixture = *state;

	memset(&fixture->config[0x40], 0x11, 0xc0);
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_cap(fixture, 0x40, 0x50, PCI_CAP_ID_PM);
	add_cap(fixture, 0x50, 0x60, PCI_CAP_ID_VPD);
	add_cap(fixture, 0x60, 0x80, PCI_CAP_ID_VNDR);
	fixture->config[0x62] = 0x10;
	add_cap(fixture, 0x80, 0, PCI_CAP_ID_VNDR);
	fixture->config[0x82] = 0; /* a vendor's error: the length is 3 at least */
	attach(fixture);
	assert_int_equal(get(fixture, 0x40, 4), 0x11110000 | 0x50 << 8 | PCI_CAP_ID_PM);
	set(fixture, 0x40, 4, UINT32_MAX);
	set(fixture, 0x48, 4, UINT32_MAX);
	assert_int_equal(device_get(fixture, 0x40, 4), 0x11110000 | 0x50 << 8 | PCI_CAP_ID_PM);
	assert_int_equal(get(fixture, 0x48, 4), 0);
	assert_int_equal(device_get(fixture, 0x48, 4), 0x11111111);
	set(fixture, 0x44, 4, 0xeeeeee00);
	assert_int_equal(device_get(fixture, 0x44, 4), 0xeeeeee00);
	/* VPD: address and data. */
	set(fixture, 0x50, 4, 0xeeeeeeee);
	set(fixture, 0x54, 4, 0xeeeeeeee);
	set(fixture, 0x58, 4, 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x50, 4), 0xeeee0000 | 0x60 << 8 | PCI_CAP_ID_VPD);
	assert_int_equal(device_get(fixture, 0x54, 4), 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x58, 4), 0x11111111);
	assert_int_equal(get(fixture, 0x58, 4), 0);
	/* A vendor's: all of it but the header. */
	for (unsigned at = 0x60; at < 0x88; at += 4)
		set(fixture, at, 4, 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x60, 4), 0xeeee0000 | 0x80 << 8 | PCI_CAP_ID_VNDR);
	assert_int_equal(device_get(fixture, 0x6c, 4), 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x70, 4), 0x11111111);
	assert_int_equal(get(fixture, 0x70, 4), 0);
	assert_int_equal(device_get(fixture, 0x80, 4), 0x11ee0000 | PCI_CAP_ID_VNDR);
	assert_int_equal(get(fixture, 0x80, 4), 0x00ee0000 | PCI_CAP_ID_VNDR);
}

/* Its length reaches over the next, whose registers are ours and not the device's. */
static void a_vendors_length_ends_at_the_next_capability(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x60;
	add_msix(fixture, 0x60, 0x50, 4); /* first in the list, and behind in space */
	add_cap(fixture, 0x50, 0x6c, PCI_CAP_ID_VNDR);
	fixture->config[0x52] = 0x80;
	add_cap(fixture, 0x6c, 0, PCI_CAP_ID_VNDR);
	fixture->config[0x6e] = 0xff;
	attach(fixture);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_VNDR), 2);
	set(fixture, 0x5c, 4, 0x12345678);
	assert_int_equal(device_get(fixture, 0x5c, 4), 0x12345678);
	set(fixture, 0x60 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(get(fixture, 0x60 + PCI_MSIX_FLAGS, 2), PCI_MSIX_FLAGS_ENABLE | 3);
	assert_int_equal(device_get(fixture, 0x60 + PCI_MSIX_FLAGS, 2), 3);
	assert_int_equal(get(fixture, 0x60, 2), 0x50 << 8 | PCI_CAP_ID_MSIX);
	/* The last one ends with the space. */
	set(fixture, 0xfc, 4, 0x12345678);
	assert_int_equal(device_get(fixture, 0xfc, 4), 0x12345678);
	assert_int_equal(get(fixture, 0x100, 4), UINT32_MAX);
}

/* One that is cut short by the next is none. */
static void capabilities_do_not_overlap(void **state)
{
	static const struct {
		uint8_t id;
		uint8_t flags;
		uint8_t size;
	} caps[] = {
		{ PCI_CAP_ID_PM, 0, 8 },
		{ PCI_CAP_ID_VPD, 0, 8 },
		{ PCI_CAP_ID_MSIX, 0, 12 },
		{ PCI_CAP_ID_MSI, 0, 12 },
		{ PCI_CAP_ID_MSI, PCI_MSI_FLAGS_64BIT, 16 },
		{ PCI_CAP_ID_MSI, 0, 12 },
		{ PCI_CAP_ID_EXP, 2, 12 },
	};
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++)
		for (unsigned room = caps[i].size; room >= caps[i].size - 4U; room -= 4) {
			struct error err = { 0 };

			memset(&fixture->config[0x40], 0, 0x60);
			fixture->config[PCI_CAPABILITY_LIST] = 0x50;
			add_cap(fixture, 0x50, 0x50 + room, caps[i].id);
			fixture->config[0x52] = caps[i].flags;
			add_cap(fixture, 0x50 + room, 0, PCI_CAP_ID_VNDR);
			fixture->config[0x52 + room] = 4;
			assert_int_equal(config_init(fixture, &err), 0);
			assert_int_equal(count_caps(fixture, caps[i].id), room == caps[i].size);
			assert_int_equal(count_caps(fixture, PCI_CAP_ID_VNDR), 1);
		}
}

static void msi_with_masks_needs_more_room(void **state)
{
	const uint16_t both = PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT;
	struct fixture *fixture = *state;
	struct error err = { 0 };

	fixture->config[PCI_CAPABILITY_LIST] = 0x50;
	add_msi(fixture, 0x50, 0x64, both);
	assert_int_equal(config_init(fixture, &err), 0);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_MSI), 0);
	add_msi(fixture, 0x50, 0x64, PCI_MSI_FLAGS_MASKBIT);
	assert_int_equal(config_init(fixture, &err), 0);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_MSI), 1);
	add_msi(fixture, 0x50, 0x68, both);
	attach(fixture);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_MSI), 1);
}

/* Interrupts that VFIO does not give are none that the guest could use. */
static void capabilities_without_their_interrupts_are_hidden(void **state)
{
	struct fixture *fixture = *state;

	fixture->device.vfio.irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 0;
	fixture->device.vfio.irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = 0;
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0x50, 4);
	add_msi(fixture, 0x50, 0, 0);
	attach(fixture);
	assert_int_equal(get(fixture, PCI_CAPABILITY_LIST, 1), 0);
}

/* An endpoint becomes one that is integrated in the root complex: no link, no port above it. */
static void an_express_endpoint_loses_its_link(void **state)
{
	static const uint8_t types[][2] = {
		{ PCI_EXP_TYPE_ENDPOINT, PCI_EXP_TYPE_RC_END },
		{ PCI_EXP_TYPE_LEG_END, PCI_EXP_TYPE_RC_END },
		{ PCI_EXP_TYPE_RC_END, PCI_EXP_TYPE_RC_END },
		{ PCI_EXP_TYPE_RC_EC, PCI_EXP_TYPE_RC_EC },
	};
	struct fixture *fixture = *state;
	uint8_t *cap = &fixture->config[0x60];
	struct error err = { 0 };

	fixture->config[PCI_CAPABILITY_LIST] = 0x60;
	memset(cap, 0x11, 0x3c);
	add_cap(fixture, 0x60, 0, PCI_CAP_ID_EXP);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		put16(cap + PCI_EXP_FLAGS, 0x0102 | 0x3e00 | types[i][0] << 4);
		assert_int_equal(config_init(fixture, &err), 0);
		assert_int_equal(get(fixture, 0x60 + PCI_EXP_FLAGS, 2), 2 | types[i][1] << 4);
	}
	attach(fixture);
	assert_int_equal(get(fixture, 0x60 + PCI_EXP_DEVCAP, 4), 0x11111111);
	for (unsigned at = PCI_EXP_LNKCAP; at < PCI_EXP_DEVCAP2; at += 4)
		assert_int_equal(get(fixture, 0x60 + at, 4), 0);
	assert_int_equal(get(fixture, 0x60 + PCI_EXP_DEVCAP2, 4), 0x11111111);
	assert_int_equal(get(fixture, 0x60 + PCI_EXP_DEVCTL2, 4), 0x00001111);
	assert_int_equal(get(fixture, 0x60 + PCI_EXP_LNKCAP2, 4), 0);
	for (unsigned at = 0x60; at < 0x60 + PCI_CAP_EXP_ENDPOINT_SIZEOF_V2 + 4; at += 4)
		set(fixture, at, 4, 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x60 + PCI_EXP_DEVCAP, 4), 0x11111111);
	assert_int_equal(device_get(fixture, 0x60 + PCI_EXP_DEVCTL, 4), 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x60 + PCI_EXP_LNKCTL, 4), 0x11111111);
	assert_int_equal(device_get(fixture, 0x60 + PCI_EXP_DEVCTL2, 4), 0x1111eeee);
	assert_int_equal(device_get(fixture, 0x60 + PCI_EXP_LNKCTL2, 4), 0x11111111);
}

/* What the link is at the moment is read from the device; how it saves power is not the guest's. */
static void an_express_endpoint_behind_a_port_shows_its_link(void **state)
{
	struct fixture *fixture = *state;
	struct pci_bridge port = { 0 };
	struct pci_bus bus = { .root = &fixture->root, .parent = &port };
	uint8_t *cap = &fixture->config[0x60];
	struct error err = { 0 };

	fixture->place.bus = &bus;
	fixture->config[PCI_CAPABILITY_LIST] = 0x60;
	for (unsigned version = 1; version <= 2; version++) {
		memset(cap, 0xff, 0x3c);
		add_cap(fixture, 0x60, 0, PCI_CAP_ID_EXP);
		put16(cap + PCI_EXP_FLAGS, PCI_EXP_TYPE_ENDPOINT << 4 | version);
		assert_int_equal(config_init(fixture, &err), 0);
		assert_int_equal(get(fixture, 0x60 + PCI_EXP_FLAGS, 2), version);
		assert_int_equal(get(fixture, 0x60 + PCI_EXP_LNKCAP, 4),
			~(uint32_t)(PCI_EXP_LNKCAP_ASPMS | PCI_EXP_LNKCAP_CLKPM));
		assert_int_equal(get(fixture, 0x60 + PCI_EXP_LNKCTL, 2), 0);
		assert_int_equal(
			get(fixture, 0x60 + PCI_EXP_LNKCAP2, 4), version == 1 ? 0 : UINT32_MAX);
		assert_int_equal(get(fixture, 0x60 + PCI_EXP_LNKCTL2, 2), 0);
		device_put(fixture, 0x60 + PCI_EXP_LNKSTA, 2, 0x1023);
		device_put(fixture, 0x60 + PCI_EXP_LNKSTA2, 2, 0x0001);
		assert_int_equal(get(fixture, 0x60 + PCI_EXP_LNKSTA, 2), 0x1023);
		assert_int_equal(get(fixture, 0x60 + PCI_EXP_LNKSTA2, 2), version == 1 ? 0 : 1);
	}
}

/* For the port above: the link as it is; where none is told, as a virtual function's, what it can be. */
static void a_link_is_told_for_the_port_above(void **state)
{
	static const struct {
		unsigned type, status, capable, speed, width;
	} links[] = {
		{ PCI_EXP_TYPE_ENDPOINT, 0x1023, 0x0104, 3, 2 },
		{ PCI_EXP_TYPE_LEG_END, 0x1101, 0x0104, 1, 16 },
		{ PCI_EXP_TYPE_ENDPOINT, 0, 0x0104, 4, 16 },
		{ PCI_EXP_TYPE_ENDPOINT, 0x0003, 0x0104, 4, 16 },
		{ PCI_EXP_TYPE_ENDPOINT, 0x0020, 0x0104, 4, 16 },
		{ PCI_EXP_TYPE_ENDPOINT, 0, 0, 1, 1 },
		{ PCI_EXP_TYPE_ENDPOINT, 0x002f, 0, 6, 2 },
		{ PCI_EXP_TYPE_RC_END, 0x1023, 0x0104, 1, 1 },
	};
	struct fixture *fixture = *state;
	struct passthrough_traits traits;
	uint8_t *cap = &fixture->config[0x60];
	struct error err = { 0 };

	fixture->config[PCI_CAPABILITY_LIST] = 0x60;
	for (unsigned i = 0; i < ARRAY_SIZE(links); i++) {
		add_cap(fixture, 0x60, 0, PCI_CAP_ID_EXP);
		put16(cap + PCI_EXP_FLAGS, links[i].type << 4 | 2);
		put16(cap + PCI_EXP_DEVCTL, 0x2850);
		put16(cap + PCI_EXP_LNKSTA, links[i].status);
		put16(cap + PCI_EXP_LNKCAP, links[i].capable);
		assert_int_equal(config_init(fixture, &err), 0);
		assert_int_equal(passthrough_describe(&fixture->device, &traits, &err), 0);
		assert_int_equal(traits.endpoint, links[i].type != PCI_EXP_TYPE_RC_END);
		assert_int_equal(traits.link.speed, links[i].speed);
		assert_int_equal(traits.link.width, links[i].width);
		assert_int_equal(traits.link.payload, traits.endpoint ? 2 : 0);
	}
	/* A conventional device, which may come to an empty port later: Linux takes none without a lane. */
	fixture->config[PCI_CAPABILITY_LIST] = 0;
	assert_int_equal(config_init(fixture, &err), 0);
	assert_int_equal(passthrough_describe(&fixture->device, &traits, &err), 0);
	assert_false(traits.endpoint);
	assert_int_equal(traits.link.speed, 1);
	assert_int_equal(traits.link.width, 1);
}

/* The next capability begins where one of version 2 without a link ends. */
static void an_express_capability_may_fill_its_room(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	fixture->config[PCI_CAPABILITY_LIST] = 0x60;
	memset(&fixture->config[0x60], 0x11, 0x3c);
	put16(&fixture->config[0x60 + PCI_EXP_FLAGS], 2);
	for (unsigned room = PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2;
		room >= PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2 - 4; room -= 4) {
		add_cap(fixture, 0x60, 0x60 + room, PCI_CAP_ID_EXP);
		add_cap(fixture, 0x60 + room, 0, PCI_CAP_ID_VNDR);
		assert_int_equal(config_init(fixture, &err), 0);
		assert_int_equal(get(fixture, 0x60 + PCI_EXP_DEVCAP2, 4),
			room == PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2 ? 0x11111111 : 0);
	}
}

static void an_express_capability_of_version_1_is_shorter(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x60;
	memset(&fixture->config[0x60], 0x11, PCI_CAP_EXP_ENDPOINT_SIZEOF_V2);
	add_cap(fixture, 0x60, 0, PCI_CAP_ID_EXP);
	put16(&fixture->config[0x60 + PCI_EXP_FLAGS], 1);
	attach(fixture);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_EXP), 1);
	assert_int_equal(get(fixture, 0x60 + PCI_EXP_DEVCAP2, 4), 0);
	set(fixture, 0x60 + PCI_EXP_DEVCTL2, 2, 0xeeee);
	assert_int_equal(device_get(fixture, 0x60 + PCI_EXP_DEVCTL2, 2), 0x1111);
}

/* Extended capabilities: the offsets are those in the list below, 0 for what is hidden. */

static void add_extended(
	struct fixture *fixture, unsigned at, unsigned next, unsigned id, unsigned length)
{
	fixture->device.vfio.regions[VFIO_PCI_CONFIG_REGION_INDEX].size = PCI_CONFIG_SIZE;
	memset(&fixture->config[at], 0x11, length);
	put32(&fixture->config[at], id | 1 << 16 | next << 20);
	if (id == PCI_EXT_CAP_ID_VNDR)
		put32(&fixture->config[at + 4], length << 20 | 0x10001);
}

/* Where the guest's list leads from an offset; 0: nowhere. */
static unsigned next_of(struct fixture *fixture, unsigned at)
{
	return PCI_EXT_CAP_NEXT(get(fixture, at, 4));
}

static void extended_capabilities_are_a_number_and_the_vendors(void **state)
{
	struct fixture *fixture = *state;

	add_extended(fixture, 0x100, 0x180, PCI_EXT_CAP_ID_DSN, 12);
	add_extended(fixture, 0x180, 0x200, PCI_EXT_CAP_ID_ERR, 0x48);
	add_extended(fixture, 0x200, 0x140, PCI_EXT_CAP_ID_VNDR, 0x20);
	add_extended(fixture, 0x140, 0, PCI_EXT_CAP_ID_VNDR, 8); /* a list may go back */
	put32(&fixture->config[0x10c], 0x22222222);
	put32(&fixture->config[0x220], 0x22222222);
	attach(fixture);
	assert_int_equal(get(fixture, 0x100, 4), PCI_EXT_CAP_ID_DSN | 1 << 16 | 0x200 << 20);
	assert_int_equal(get(fixture, 0x108, 4), 0x11111111);
	assert_int_equal(get(fixture, 0x10c, 4), 0);
	assert_int_equal(get(fixture, 0x200, 4), PCI_EXT_CAP_ID_VNDR | 1 << 16 | 0x140 << 20);
	assert_int_equal(get(fixture, 0x140, 4), PCI_EXT_CAP_ID_VNDR | 1 << 16);
	assert_int_equal(get(fixture, 0x180, 4), 0);
	assert_int_equal(get(fixture, 0x220, 4), 0);
	for (unsigned at = 0x200; at < 0x224; at += 4)
		set(fixture, at, 4, 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x204, 4), 0x20 << 20 | 0x10001);
	assert_int_equal(device_get(fixture, 0x208, 4), 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x21c, 4), 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x220, 4), 0x22222222);
	set(fixture, 0x108, 4, 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x108, 4), 0x11111111);
}

static void a_hidden_first_capability_leaves_its_head(void **state)
{
	struct fixture *fixture = *state;

	add_extended(fixture, 0x100, 0x180, PCI_EXT_CAP_ID_ERR, 0x48);
	add_extended(fixture, 0x180, 0, PCI_EXT_CAP_ID_DSN, 12);
	attach(fixture);
	assert_int_equal(get(fixture, 0x100, 4), 0x180 << 20);
	assert_int_equal(get(fixture, 0x180, 4), PCI_EXT_CAP_ID_DSN | 1 << 16);
}

static void a_device_with_hidden_extended_capabilities_alone_has_256_bytes(void **state)
{
	struct fixture *fixture = *state;

	add_extended(fixture, 0x100, 0, PCI_EXT_CAP_ID_ERR, 0x48);
	attach(fixture);
	assert_int_equal(get(fixture, 0x100, 4), UINT32_MAX);
}

static void an_extended_length_ends_at_the_next_capability(void **state)
{
	struct fixture *fixture = *state;

	add_extended(fixture, 0x100, 0x140, PCI_EXT_CAP_ID_VNDR, 0x100);
	add_extended(fixture, 0x140, 0x120, PCI_EXT_CAP_ID_DSN, 12);
	add_extended(fixture, 0x120, 0xff0, PCI_EXT_CAP_ID_ERR, 8);
	add_extended(fixture, 0xff0, 0xff8, PCI_EXT_CAP_ID_DSN, 12); /* cut short */
	add_extended(fixture, 0xff8, 0xffc, PCI_EXT_CAP_ID_ERR, 4);
	put32(&fixture->config[0xffc], PCI_EXT_CAP_ID_VNDR);
	attach(fixture);
	assert_int_equal(next_of(fixture, 0x100), 0x140);
	assert_int_equal(next_of(fixture, 0x140), 0);
	set(fixture, 0x11c, 4, 0xeeeeeeee);
	set(fixture, 0x120, 4, 0xeeeeeeee);
	set(fixture, 0x140, 4, 0xeeeeeeee);
	assert_int_equal(device_get(fixture, 0x11c, 4), 0xeeeeeeee);
	assert_int_equal(
		device_get(fixture, 0x120, 4), PCI_EXT_CAP_ID_ERR | 1 << 16 | 0xff0U << 20);
	assert_int_equal(device_get(fixture, 0x140, 4), PCI_EXT_CAP_ID_DSN | 1 << 16 | 0x120 << 20);
	assert_int_equal(get(fixture, 0xff0, 4), 0);
}

static void an_extended_capability_may_end_the_space(void **state)
{
	struct fixture *fixture = *state;

	add_extended(fixture, 0x100, 0xff4, PCI_EXT_CAP_ID_VNDR, 7); /* shorter than its header */
	add_extended(fixture, 0xff4, 0xff4, PCI_EXT_CAP_ID_DSN, 12); /* and loops */
	attach(fixture);
	assert_int_equal(next_of(fixture, 0x100), 0xff4);
	assert_int_equal(get(fixture, 0x104, 4), 0);
	assert_int_equal(get(fixture, 0xffc, 4), 0x11111111);
	assert_int_equal(next_of(fixture, 0xff4), 0);
}

/* 960 of them, in a circle: each is looked at once. */
static void the_longest_list_ends(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned at = 0x100; at < 0x1000; at += 4)
		add_extended(fixture, at, at == 0xffc ? 0x100 : at + 4, PCI_EXT_CAP_ID_ERR, 4);
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	for (unsigned at = 0x40; at < 0x100; at += 4)
		add_cap(fixture, at, at == 0xfc ? 0x40 : at + 4, PCI_CAP_ID_VNDR);
	attach(fixture);
	assert_int_equal(count_caps(fixture, PCI_CAP_ID_VNDR), 48);
	assert_int_equal(get(fixture, 0x100, 4), UINT32_MAX);
}

/* The device's way in and out */

static void a_place_that_is_taken_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct pci_device other;

	pci_device_init(&other, &passthrough_pci_ops);
	assert_int_equal(pci_bus_add(&fixture->root.bus, &other, DEVFN, &err), 0);
	assert_int_equal(try_attach(fixture, &err), -EEXIST);
	pci_device_destroy(&other);
}

struct heard {
	unsigned requested, failed;
	struct loop *loop;
};

static void on_requested(void *opaque)
{
	struct heard *heard = opaque;

	heard->requested++;
}

static void on_failed(void *opaque)
{
	struct heard *heard = opaque;

	heard->failed++;
}

static void check_event(int fd)
{
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static void raise_event(int fd)
{
	assert_int_equal(eventfd_write(fd, 1), 0);
}

static void watch_both(struct fixture *fixture, struct heard *heard)
{
	const struct passthrough_events events = { on_requested, on_failed, heard };
	struct error err = { 0 };

	fixture->device.vfio.irqs[VFIO_PCI_REQ_IRQ_INDEX].count = 1;
	fixture->device.vfio.irqs[VFIO_PCI_ERR_IRQ_INDEX].count = 1;
	attach(fixture);
	heard->loop = loop_new(&err);
	assert_int_equal(passthrough_watch(&fixture->device, heard->loop, &events), 0);
}

/* Each once, and then there is nothing more. */
static void hear_all(struct heard *heard)
{
	for (unsigned i = 0; i < 3; i++)
		loop_step(heard->loop, 10);
}

static void the_host_wants_the_device_back(void **state)
{
	struct heard heard = { 0 };

	watch_both(*state, &heard);
	check_event(host.request_fd);
	for (unsigned i = 1; i <= 2; i++) {
		raise_event(host.request_fd);
		hear_all(&heard);
		assert_int_equal(heard.requested, i);
	}
	assert_int_equal(heard.failed, 0);
	loop_free(heard.loop);
}

static void the_device_reports_an_error(void **state)
{
	struct heard heard = { 0 };

	watch_both(*state, &heard);
	check_event(host.error_fd);
	for (unsigned i = 1; i <= 2; i++) {
		raise_event(host.error_fd);
		hear_all(&heard);
		assert_int_equal(heard.failed, i);
	}
	assert_int_equal(heard.requested, 0);
	loop_free(heard.loop);
}

static void events_that_a_device_has_not_are_none(void **state)
{
	const struct passthrough_events events = { on_requested, on_failed, NULL };
	struct fixture *fixture = *state;

	attach(fixture);
	assert_int_equal(passthrough_watch(&fixture->device, NULL, &events), 0);
	assert_int_equal(host.request_fd, 0);
	assert_int_equal(host.error_fd, 0);
}

static void events_that_cannot_be_watched_are_an_error(void **state)
{
	const struct passthrough_events events = { on_requested, on_failed, NULL };
	struct fixture *fixture = *state;
	rlim_t limit;

	fixture->device.vfio.irqs[VFIO_PCI_REQ_IRQ_INDEX].count = 1;
	attach(fixture);
	host.failing = VFIO_DEVICE_SET_IRQS;
	host.error = EPERM;
	assert_int_equal(passthrough_watch(&fixture->device, NULL, &events), -EPERM);
	limit = set_limit(lowest_free());
	close(fixture->device.request_fd);
	set_limit(lowest_free());
	assert_int_equal(passthrough_watch(&fixture->device, NULL, &events), -EMFILE);
	set_limit(limit);
	fixture->device.vfio.irqs[VFIO_PCI_REQ_IRQ_INDEX].count = 0;
	fixture->device.vfio.irqs[VFIO_PCI_ERR_IRQ_INDEX].count = 1;
	assert_int_equal(passthrough_watch(&fixture->device, NULL, &events), -EPERM);
}

/* Nothing of it is left: what it had opened, mapped or been given. */
static void a_detached_device_leaves_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct heard heard = { 0 };
	unsigned before = open_files();

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 4);
	watch_both(fixture, &heard);
	loop_free(heard.loop);
	use_msix(fixture, 4);
	assert_int_equal(host.enabled, 4);
	passthrough_detach(&fixture->device);
	fixture->detached = true;
	assert_int_equal(host.enabled, 0);
	assert_int_equal(fixture->device.vfio.fd, -1);
	for (unsigned i = 0; i < VECTORS; i++)
		assert_int_equal(host.irqfds[i].fd, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(fixture->vm.gsis_used); i++)
		assert_true(fixture->vm.gsis_used[i] == 0);
	assert_int_equal(open_files(), before - 1); /* the device itself was open before */
}

static struct {
	struct vfio_iommu *iommu;
	uint64_t iova, size;
	void *hva;
} mapped;

static int note_map(
	struct vfio_iommu *iommu, uint64_t iova, uint64_t size, void *hva, struct error *err)
{
	mapped = (typeof(mapped)){ iommu, iova, size, hva };
	return error_set(err, -ENOMEM, NULL, "noted");
}

static void guest_ram_is_mapped_where_the_guest_has_it(void **state)
{
	static const struct vfio_iommu_ops ops = { .map = note_map };
	struct vfio_iommu iommu = { .ops = &ops };
	struct error err = { 0 };

	(void)state;
	assert_int_equal(passthrough_map_memory(&iommu, 4 * GIB, 2 * MIB, &iommu, &err), -ENOMEM);
	assert_ptr_equal(mapped.iommu, &iommu);
	assert_true(mapped.iova == 4 * GIB && mapped.size == 2 * MIB);
	assert_ptr_equal(mapped.hva, &iommu);
}

/* One that says that it has another there: the address of the first must not become the second's. */
static void a_bar_in_the_upper_half_of_another_is_none(void **state)
{
	struct fixture *fixture = *state;

	add_bar(fixture, 0, 16 * KIB);
	add_bar(fixture, 1, 64 * KIB);
	fixture->config[PCI_BASE_ADDRESS_0] = PCI_BASE_ADDRESS_MEM_TYPE_64;
	attach(fixture);
	assert_int_equal(fixture->device.pci.bars[1].kind, PCI_BAR_NONE);
	assert_true(pci_device_bar_register(&fixture->device.pci, 0) == MEM64);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(slot_count(), 1);
	assert_non_null(slot_at(MEM64));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PASSTHROUGH_TEST(the_guest_sees_the_device),
		PASSTHROUGH_TEST(the_header_is_the_devices),
		PASSTHROUGH_TEST(what_is_the_devices_whole_is_accessed_at_once),
		PASSTHROUGH_TEST(functions_of_one_slot_say_so),
		PASSTHROUGH_TEST(without_the_status_bit_there_is_no_list),
		PASSTHROUGH_TEST(what_lies_before_the_list_is_the_drivers),
		PASSTHROUGH_TEST(the_device_decodes_what_it_has_bars_for),
		PASSTHROUGH_TEST(bus_master_waits_for_memory),
		PASSTHROUGH_TEST(a_device_of_ports_decodes_ports),
		PASSTHROUGH_TEST(bars_are_of_the_devices_kind_and_size),
		PASSTHROUGH_TEST(no_bar_has_such_a_size),
		PASSTHROUGH_TEST(a_device_that_does_not_answer_is_refused),
		PASSTHROUGH_TEST(a_bridge_is_refused),
		PASSTHROUGH_TEST(hidden_capabilities_are_not_listed),
		PASSTHROUGH_TEST(a_list_that_loops_ends),
		PASSTHROUGH_TEST(a_second_msix_capability_is_left_out),
		PASSTHROUGH_TEST(a_second_msi_capability_is_left_out),
		PASSTHROUGH_TEST(a_short_express_capability_leaves_the_next_alone),
		PASSTHROUGH_TEST(capabilities_show_what_the_guest_may_have),
		PASSTHROUGH_TEST(a_vendors_length_ends_at_the_next_capability),
		PASSTHROUGH_TEST(capabilities_do_not_overlap),
		PASSTHROUGH_TEST(msi_with_masks_needs_more_room),
		PASSTHROUGH_TEST(capabilities_without_their_interrupts_are_hidden),
		PASSTHROUGH_TEST(an_express_endpoint_loses_its_link),
		PASSTHROUGH_TEST(an_express_endpoint_behind_a_port_shows_its_link),
		PASSTHROUGH_TEST(a_link_is_told_for_the_port_above),
		PASSTHROUGH_TEST(an_express_capability_may_fill_its_room),
		PASSTHROUGH_TEST(an_express_capability_of_version_1_is_shorter),
		PASSTHROUGH_TEST(extended_capabilities_are_a_number_and_the_vendors),
		PASSTHROUGH_TEST(a_hidden_first_capability_leaves_its_head),
		PASSTHROUGH_TEST(a_device_with_hidden_extended_capabilities_alone_has_256_bytes),
		PASSTHROUGH_TEST(an_extended_length_ends_at_the_next_capability),
		PASSTHROUGH_TEST(an_extended_capability_may_end_the_space),
		PASSTHROUGH_TEST(the_longest_list_ends),
		PASSTHROUGH_TEST(a_place_that_is_taken_is_refused),
		PASSTHROUGH_TEST(the_host_wants_the_device_back),
		PASSTHROUGH_TEST(the_device_reports_an_error),
		PASSTHROUGH_TEST(events_that_a_device_has_not_are_none),
		PASSTHROUGH_TEST(events_that_cannot_be_watched_are_an_error),
		PASSTHROUGH_TEST(a_bar_in_the_upper_half_of_another_is_none),
		PASSTHROUGH_TEST(a_detached_device_leaves_nothing),
		cmocka_unit_test(guest_ram_is_mapped_where_the_guest_has_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
