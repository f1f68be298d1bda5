/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "passthrough_host.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* BARs: what the guest reaches directly, what is trapped, and what becomes of both in sleep. */

#define PM 0x40

enum { PCI_D0, PCI_D1, PCI_D2, PCI_D3hot };

static uint64_t bar_get(struct fixture *fixture, uint64_t offset, unsigned size)
{
	uint64_t value = space_read(&fixture->mmio, MEM32 + offset, size);

	return size == 8 ? value : value & ((1ULL << 8 * size) - 1);
}

static void bar_put(struct fixture *fixture, uint64_t offset, unsigned size, uint64_t value)
{
	space_write(&fixture->mmio, MEM32 + offset, size, value);
}

/* What the device's own BAR holds. */
static uint64_t own(struct fixture *fixture, unsigned bar, uint64_t offset, unsigned size)
{
	return vfio_region_read(&fixture->device.vfio, bar, offset, size);
}

static void decode(struct fixture *fixture)
{
	attach(fixture);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

/* Direct */

static void a_bar_is_mapped_while_it_is_decoded(void **state)
{
	const struct kvm_userspace_memory_region *slot;
	struct fixture *fixture = *state;

	attach(fixture);
	assert_int_equal(slot_count(), 0);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	slot = slot_at(MEM32);
	assert_int_equal(slot_count(), 1);
	assert_int_equal(slot->guest_phys_addr, MEM32);
	assert_int_equal(slot->memory_size, 16 * KIB);
	assert_int_equal(slot->flags, 0);
	((uint32_t *)slot->userspace_addr)[4] = 0x12345678; /* as the guest would */
	assert_int_equal(own(fixture, 0, 0x10, 4), 0x12345678);
	set(fixture, PCI_BASE_ADDRESS_0, 4, MEM32 + 0x10000);
	assert_null(slot_at(MEM32));
	assert_int_equal(slot_at(MEM32 + 0x10000)->memory_size, 16 * KIB);
	assert_int_equal(slot_count(), 1);
	set(fixture, PCI_COMMAND, 2, 0);
	assert_int_equal(slot_count(), 0);
}

/* Another vCPU may be using it. */
static void a_bar_that_stays_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	unsigned before;

	put32(&fixture->config[PCI_BASE_ADDRESS_2], PCI_BASE_ADDRESS_MEM_TYPE_64);
	add_bar(fixture, 2, 64 * KIB);
	decode(fixture);
	before = host.slot_calls;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint32_t value = get(fixture, PCI_BASE_ADDRESS_0 + 4 * i, 4);

		set(fixture, PCI_BASE_ADDRESS_0 + 4 * i, 4, value);
		set(fixture, PCI_BASE_ADDRESS_0 + 4 * i + 3, 1, value >> 24);
	}
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	set(fixture, PCI_COMMAND + 1, 1, 0);
	assert_int_equal(slot_count(), 2);
	assert_int_equal(host.slot_calls, before);
}

/* The whole of a BAR of sixteen pages, but for those with a part of the table or the pending bits. */
static void the_pages_of_msix_are_never_mapped(void **state)
{
	static const struct {
		unsigned vectors;
		uint32_t table, pba;
	} places[] = {
		{ 8, 0x1000, 0x2000 }, /* side by side */
		{ 8, 0x2000, 0x1000 },
		{ 8, 0x1000, 0x5008 },
		{ 8, 0x5ff0, 0x3ff8 },  /* the table over a page's end */
		{ 64, 0x4000, 0x4800 }, /* in one page */
		{ 64, 0, 0xfff8 },      /* at either end */
		{ 64, 0xfc00, 0 },
		{ 1, 0xff0, 0xef8 },
		{ 512, 0x2800, 0x4000 }, /* pages of both */
		{ 512, 0x2000, 0x3ff8 },
	};
	struct fixture *fixture = *state;

	add_bar(fixture, 0, 64 * KIB);
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		uint64_t table_end = places[i].table + places[i].vectors * 16;
		uint64_t pba_end = places[i].pba + (places[i].vectors + 63) / 64 * 8;

		add_msix(fixture, 0x40, 0, places[i].vectors);
		put32(&fixture->config[0x40 + PCI_MSIX_TABLE], places[i].table);
		put32(&fixture->config[0x40 + PCI_MSIX_PBA], places[i].pba);
		decode(fixture);
		for (uint64_t page = 0; page < 64 * KIB; page += 4 * KIB) {
			bool trapped = (page < table_end && places[i].table < page + 4 * KIB) ||
				       (page < pba_end && places[i].pba < page + 4 * KIB);
			const struct kvm_userspace_memory_region *slot = slot_at(MEM32 + page);

			assert_int_equal(slot == NULL, trapped);
			if (!slot)
				continue;
			/* And what is mapped is the BAR's own page. */
			*(uint64_t *)(slot->userspace_addr + MEM32 + page - slot->guest_phys_addr) =
				page + 1;
			assert_int_equal(own(fixture, 0, page, 8), page + 1);
		}
		detach(fixture);
	}
}

static void table_and_pending_bits_may_be_in_two_bars(void **state)
{
	struct fixture *fixture = *state;

	add_bar(fixture, 2, 16 * KIB);
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	put32(&fixture->config[0x40 + PCI_MSIX_TABLE], 0x1000);
	put32(&fixture->config[0x40 + PCI_MSIX_PBA], 0x2000 | 2);
	decode(fixture);
	assert_null(slot_at(MEM32 + 0x1000));
	assert_non_null(slot_at(MEM32 + 0x2000));
	assert_non_null(slot_at(MEM32 + 16 * KIB + 0x1000));
	assert_null(slot_at(MEM32 + 16 * KIB + 0x2000));
	/* Nor is at the table's place of the other BAR anything but the device's. */
	space_write(&fixture->mmio, MEM32 + 16 * KIB + 0x1000, 4, 0x12345678);
	assert_int_equal(own(fixture, 2, 0x1000, 4), 0x12345678);
	bar_put(fixture, 0x2000, 4, 0x12345678);
	assert_int_equal(own(fixture, 0, 0x2000, 4), 0x12345678);
	space_write(&fixture->mmio, MEM32 + 16 * KIB + 0x2000, 4, 0x12345678);
	assert_int_equal(own(fixture, 2, 0x2000, 4), 0);
}

/* Whole pages of what VFIO lets map, and nothing beyond the BAR. */
static void only_what_vfio_offers_is_mapped(void **state)
{
	struct fixture *fixture = *state;
	struct vfio_region *region = &fixture->device.vfio.regions[0];

	region->size = 32 * KIB;
	region->areas[0] = (struct vfio_area){ 0x0800, 0x2400 }; /* one page: 1000 */
	region->areas[1] = (struct vfio_area){ 0x4000, 0x0800 }; /* less than a page */
	region->areas[2] = (struct vfio_area){ 0x5000, 0x2000 };
	region->areas[3] = (struct vfio_area){ 0x7000, 0x2000 }; /* over the end */
	region->area_count = 4;
	decode(fixture);
	assert_int_equal(slot_count(), 2);
	assert_int_equal(slot_at(MEM32 + 0x1000)->memory_size, 0x1000);
	assert_int_equal(slot_at(MEM32 + 0x5000)->memory_size, 0x2000);
	bar_put(fixture, 0x4000, 4, 0x12345678);
	assert_int_equal(own(fixture, 0, 0x4000, 4), 0x12345678);
}

static void a_bar_that_kvm_does_not_map_is_trapped(void **state)
{
	struct fixture *fixture = *state;

	attach(fixture);
	host.failing = KVM_SET_USER_MEMORY_REGION;
	host.error = EINVAL;
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	host.failing = 0;
	assert_int_equal(slot_count(), 0);
	bar_put(fixture, 0x10, 4, 0x12345678);
	assert_int_equal(own(fixture, 0, 0x10, 4), 0x12345678);
	set(fixture, PCI_COMMAND, 2, 0);
	assert_int_equal(host.slot_calls, 0);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(slot_count(), 1);
}

static void a_bar_that_the_kernel_does_not_map_is_an_error(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	fixture->device.vfio.regions[0].fd_offset = 1;
	assert_int_equal(try_attach(fixture, &err), -EINVAL);
	assert_non_null(strstr(err.what, "cannot map BAR 0: Invalid argument"));
}

/* By other devices */

static void others_reach_a_bar_while_it_is_decoded(void **state)
{
	struct fixture *fixture = *state;

	fake_iommu.devices = 2;
	put32(&fixture->config[PCI_BASE_ADDRESS_2], PCI_BASE_ADDRESS_MEM_TYPE_64);
	add_bar(fixture, 2, 64 * KIB);
	attach(fixture);
	assert_int_equal(host.part_calls, 0);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(part_count(), 2);
	for (unsigned i = 0; i < FAKE_SLOTS; i++)
		if (host.parts[i].size) {
			assert_int_equal(host.parts[i].region, host.parts[i].iova == MEM32 ? 0 : 2);
			assert_int_equal(host.parts[i].offset, 0);
		}
	*(uint64_t *)reached_at(MEM32 + 0x3008) = 1;
	*(uint64_t *)reached_at(MEM64 + 0xf008) = 2;
	assert_int_equal(own(fixture, 0, 0x3008, 8), 1);
	assert_int_equal(own(fixture, 2, 0xf008, 8), 2);
	set(fixture, PCI_BASE_ADDRESS_0, 4, MEM32 + 0x10000);
	assert_null(reached_at(MEM32));
	assert_non_null(reached_at(MEM32 + 0x10000));
	assert_int_equal(part_count(), 2);
	set(fixture, PCI_COMMAND, 2, 0);
	assert_int_equal(part_count(), 0);
}

/* Nor do they make interrupts of their own. */
static void others_do_not_reach_the_pages_of_msix(void **state)
{
	struct fixture *fixture = *state;

	fake_iommu.devices = 2;
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	decode(fixture);
	assert_non_null(reached_at(MEM32));
	assert_null(reached_at(MEM32 + 0x1000));
	assert_null(reached_at(MEM32 + 0x2000));
	assert_non_null(reached_at(MEM32 + 0x3000));
	assert_int_equal(part_count(), 2);
}

/* Of a part of a page, and where the IOMMU has no addresses: without asking the kernel. */
static void what_others_cannot_reach_is_left_out(void **state)
{
	struct fixture *fixture = *state;

	fake_iommu.devices = 2;
	fake_iommu.ranges[0] = (struct iova_range){ 0, MEM64 - 1 };
	fake_iommu.range_count = 1;
	add_bar(fixture, 1, 256);
	put32(&fixture->config[PCI_BASE_ADDRESS_2], PCI_BASE_ADDRESS_MEM_TYPE_64);
	add_bar(fixture, 2, 64 * KIB);
	decode(fixture);
	assert_int_equal(slot_count(), 3);
	assert_int_equal(host.part_calls, 1);
	assert_non_null(reached_at(MEM32));
}

static void without_others_nothing_is_reached(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture);
	assert_int_equal(host.part_calls, 0);
	passthrough_reach(&fixture->device);
	assert_int_equal(host.part_calls, 0);
	/* One comes. */
	fake_iommu.devices = 2;
	passthrough_reach(&fixture->device);
	passthrough_reach(&fixture->device);
	assert_int_equal(host.part_calls, 1);
	assert_non_null(reached_at(MEM32));
	/* It goes, and what it could reach does no harm. */
	fake_iommu.devices = 1;
	set(fixture, PCI_COMMAND, 2, 0);
	assert_int_equal(part_count(), 0);
	fake_iommu.devices = 2;
	passthrough_reach(&fixture->device);
	assert_int_equal(host.part_calls, 1);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(host.part_calls, 2);
}

/* Over RAM, below a bridge that does not forward, over another one's. */
static void a_hostile_bar_is_not_reached(void **state)
{
	static const uint32_t places[] = { 0, 0x100000, MEM32 - 0x4000, ECAM, 0xfee00000,
		0xffffc000 };
	struct fixture *fixture = *state;

	fake_iommu.devices = 2;
	add_bar(fixture, 1, 16 * KIB);
	decode(fixture);
	assert_int_equal(part_count(), 2);
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		set(fixture, PCI_BASE_ADDRESS_0, 4, places[i]);
		assert_int_equal(part_count(), 1);
		assert_null(reached_at(places[i]));
	}
	assert_int_equal(host.part_calls, 2);
	set(fixture, PCI_BASE_ADDRESS_0, 4, MEM32 + 0x4000);
	assert_ptr_equal(reached_at(MEM32 + 0x4000), fixture->device.bars[1].windows[0].hva);
	assert_int_equal(part_count(), 1);
	for (unsigned i = 0; i < 5000; i++)
		set(fixture, PCI_BASE_ADDRESS_0, 4, MEM32 + 0x8000 * (1 + i % 100));
	assert_int_equal(part_count(), 2);
}

static void what_the_kernel_cannot_is_told_once(void **state)
{
	struct fixture *fixture = *state;
	int copy = dup(STDERR_FILENO), log = memfd_create("stderr", MFD_CLOEXEC);
	char text[512] = { 0 };

	fake_iommu.devices = 2;
	host.part_error = -EOPNOTSUPP;
	add_bar(fixture, 1, 16 * KIB);
	attach(fixture);
	dup2(log, STDERR_FILENO);
	for (unsigned i = 0; i < 3; i++) {
		set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		set(fixture, PCI_COMMAND, 2, 0);
	}
	dup2(copy, STDERR_FILENO);
	close(copy);
	assert_true(pread(log, text, sizeof(text) - 1, 0) > 0);
	close(log);
	assert_string_equal(text, "penstock: warning: 0000:01:00.0: cannot be reached\n");
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(slot_count(), 2);
}

static void others_do_not_reach_a_device_that_is_closed(void **state)
{
	struct fixture *fixture = *state;

	fake_iommu.devices = 2;
	decode(fixture);
	assert_int_equal(part_count(), 1);
	passthrough_detach(&fixture->device);
	fixture->detached = true;
	assert_int_equal(part_count(), 0);
}

/* Trapped */

static void mappings_go_with_the_device(void **state)
{
	struct fixture *fixture = *state;
	struct passthrough *device = &fixture->device;
	unsigned char present[16];
	struct {
		void *at;
		size_t size;
	} mapped[4];
	unsigned count = 0;

	add_bar(fixture, 3, 8 * KIB);
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	decode(fixture);
	for (unsigned i = 0; i < PCI_BARS; i++)
		for (unsigned j = 0; j < device->bars[i].count; j++, count++) {
			mapped[count].at = device->bars[i].windows[j].hva;
			mapped[count].size = device->bars[i].windows[j].size;
			assert_int_equal(mincore(mapped[count].at, mapped[count].size, present), 0);
		}
	assert_int_equal(count, 3);
	passthrough_detach(device);
	fixture->detached = true;
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(mincore(mapped[i].at, mapped[i].size, present), -1);
}

static void what_is_not_mapped_is_trapped(void **state)
{
	struct fixture *fixture = *state;

	decode(fixture);
	bar_put(fixture, 0x10, 8, 0x1122334455667788);
	assert_true(own(fixture, 0, 0x10, 8) == 0x1122334455667788);
	assert_true(bar_get(fixture, 0x10, 8) == 0x1122334455667788);
	assert_int_equal(bar_get(fixture, 0x11, 1), 0x77);
	assert_int_equal(bar_get(fixture, 0x12, 2), 0x5566);
	bar_put(fixture, 0x13, 1, 0xee);
	assert_int_equal(own(fixture, 0, 0x10, 4), 0xee667788);
	bar_put(fixture, 0x3ffc, 4, 0xaabbccdd);
	assert_int_equal(own(fixture, 0, 0x3ffc, 4), 0xaabbccdd);
}

/* The table that the guest sees is ours, never the device's. */
static void the_msix_table_is_virtual(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 4);
	attach(fixture);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	space_write(&fixture->mmio, MEM32 + 0x1010, 4, 0xfee00000);
	assert_int_equal(space_read(&fixture->mmio, MEM32 + 0x1010, 4), 0xfee00000);
	assert_int_equal(space_read(&fixture->mmio, MEM32 + 0x101c, 4), 1);
	assert_int_equal(vfio_region_read(&fixture->device.vfio, 0, 0x1010, 4), 0);
	/* Pending bits are read-only. */
	space_write(&fixture->mmio, MEM32 + 0x2000, 8, UINT64_MAX);
	assert_int_equal(space_read(&fixture->mmio, MEM32 + 0x2000, 8), 0);
	assert_int_equal(vfio_region_read(&fixture->device.vfio, 0, 0x2000, 8), 0);
}

/* No other BAR can get into the page that it is mapped by. */
static void a_bar_below_a_page_takes_a_page(void **state)
{
	struct fixture *fixture = *state;

	add_bar(fixture, 0, 256);
	attach(fixture);
	set(fixture, PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	assert_int_equal(get(fixture, PCI_BASE_ADDRESS_0, 4), 0xfffff000);
	set(fixture, PCI_BASE_ADDRESS_0, 4, MEM32 + 0x5000);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(slot_at(MEM32 + 0x5000)->memory_size, 4 * KIB);
	space_write(&fixture->mmio, MEM32 + 0x5010, 4, 0x12345678);
	assert_int_equal(own(fixture, 0, 0x10, 4), 0x12345678);
}

/* The first and the last register of the table and of the pending bits, and those beside them. */
static void the_table_ends_where_it_ends(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 2);
	decode(fixture);
	bar_put(fixture, 0x0ffc, 4, 0x11111111);
	bar_put(fixture, 0x1000, 4, 0x22222220);
	bar_put(fixture, 0x101c, 4, 0x33333333);
	bar_put(fixture, 0x1020, 4, 0x44444444);
	assert_int_equal(own(fixture, 0, 0x0ffc, 8), 0x11111111);
	assert_int_equal(own(fixture, 0, 0x101c, 4), 0);
	assert_int_equal(own(fixture, 0, 0x1020, 4), 0x44444444);
	assert_int_equal(bar_get(fixture, 0x1000, 4), 0x22222220);
	assert_int_equal(bar_get(fixture, 0x101c, 4), 1);
	assert_int_equal(bar_get(fixture, 0x1020, 4), 0x44444444);
	/* Over an end it is the device's whole. */
	bar_put(fixture, 0x101c, 8, 0x5555555500000000);
	assert_int_equal(bar_get(fixture, 0x101c, 4), 1);
	assert_int_equal(own(fixture, 0, 0x1020, 4), 0x55555555);
	assert_int_equal(bar_get(fixture, 0x1ffc, 4), 0);
	bar_put(fixture, 0x1ffc, 4, 0x66666666);
	bar_put(fixture, 0x2000, 4, 0x77777777);
	bar_put(fixture, 0x2004, 4, 0x77777777);
	bar_put(fixture, 0x2008, 4, 0x88888888);
	assert_int_equal(own(fixture, 0, 0x1ffc, 4), 0x66666666);
	assert_int_equal(own(fixture, 0, 0x2000, 8), 0);
	assert_int_equal(own(fixture, 0, 0x2008, 4), 0x88888888);
	assert_int_equal(bar_get(fixture, 0x2008, 4), 0x88888888);
}

/* What arrives while a vector is masked: VFIO's eventfd counts it. */
static void pending_bits_are_what_came_while_masked(void **state)
{
	struct fixture *fixture = *state;
	uint64_t pba = 0x2000;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, VECTORS);
	attach(fixture);
	use_msix(fixture, VECTORS);
	assert_int_equal(connected(), VECTORS);
	for (unsigned i = 0; i < VECTORS; i += i == 63 ? 1 : 9) {
		uint64_t words[2] = { 0 };

		words[i / 64] = 1ULL << i % 64;
		/* One that is attached is taken by KVM at once, which we are not. */
		raise_vector(i);
		assert_true(bar_get(fixture, pba, 8) == 0);
		write_entry(fixture, i, PCI_MSIX_ENTRY_VECTOR_CTRL, 1);
		assert_true(bar_get(fixture, pba, 8) == words[0]);
		assert_true(bar_get(fixture, pba + 8, 8) == words[1]);
		for (unsigned j = 0; j < 4; j++)
			assert_int_equal(bar_get(fixture, pba + 4 * j, 4),
				words[j / 2] >> 32 * (j % 2) & UINT32_MAX);
		assert_int_equal(bar_get(fixture, pba + i / 8, 1), 1U << i % 8);
		/* Over a word's end it is nothing. */
		assert_int_equal(bar_get(fixture, pba + 4, 8), 0);
		assert_int_equal(bar_get(fixture, pba + 7, 2), 0);
		assert_int_equal(
			bar_get(fixture, pba + 6, 2), i < 48 || i > 63 ? 0 : 1U << (i - 48));
		write_entry(fixture, i, PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
	}
	assert_false(fixture->device.told);
}

static void the_last_word_of_pending_bits_is_not_full(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 67);
	attach(fixture);
	use_msix(fixture, 67);
	for (unsigned i = 0; i < 67; i += 66) {
		raise_vector(i);
		write_entry(fixture, i, PCI_MSIX_ENTRY_VECTOR_CTRL, 1);
	}
	assert_int_equal(bar_get(fixture, 0x2000, 8), 1);
	assert_int_equal(bar_get(fixture, 0x2008, 8), 1 << 2);
}

/* Asleep */

static void add_pm(struct fixture *fixture)
{
	fixture->config[PCI_CAPABILITY_LIST] = PM;
	add_cap(fixture, PM, 0, PCI_CAP_ID_PM);
	host.pm = PM + PCI_PM_CTRL;
	decode(fixture);
	bar_put(fixture, 0x10, 4, 0x12345678);
}

static void set_state(struct fixture *fixture, uint16_t control)
{
	set(fixture, PM + PCI_PM_CTRL, 2, control);
}

static void a_device_that_sleeps_answers_nothing(void **state)
{
	struct fixture *fixture = *state;

	add_pm(fixture);
	for (unsigned i = PCI_D1; i <= PCI_D3hot; i++) {
		set_state(fixture, i);
		assert_int_equal(get(fixture, PM + PCI_PM_CTRL, 2), i);
		assert_int_equal(slot_count(), 0);
		assert_int_equal(bar_get(fixture, 0x10, 4), UINT32_MAX);
		bar_put(fixture, 0x10, 4, 0);
		assert_int_equal(own(fixture, 0, 0x10, 4), 0x12345678);
		set_state(fixture, 0);
		assert_int_equal(slot_at(MEM32)->memory_size, 16 * KIB);
		assert_int_equal(bar_get(fixture, 0x10, 4), 0x12345678);
	}
}

static void others_do_not_reach_a_device_that_sleeps(void **state)
{
	struct fixture *fixture = *state;

	fake_iommu.devices = 2;
	add_pm(fixture);
	assert_int_equal(part_count(), 1);
	set_state(fixture, PCI_D3hot);
	assert_int_equal(part_count(), 0);
	passthrough_reach(&fixture->device);
	set(fixture, PCI_BASE_ADDRESS_0, 4, MEM32 + 0x10000);
	assert_int_equal(part_count(), 0);
	set_state(fixture, 0);
	assert_non_null(reached_at(MEM32 + 0x10000));
	assert_int_equal(part_count(), 1);
}

static unsigned parts_at_write;

static void count_parts(uint64_t offset)
{
	if (offset >= PM + PCI_EXP_DEVCTL && offset < PM + PCI_EXP_DEVCTL + 4)
		parts_at_write = part_count() + slot_count();
}

static void a_function_that_is_reset_is_mapped_anew(void **state)
{
	static const struct {
		unsigned offset, size;
		uint32_t value;
	} resets[] = { { 0, 2, 0x8000 }, { 0, 4, 0x8000 }, { 1, 1, 0x80 }, { 0, 2, 0xffff } },
	  others[] = { { 0, 2, 0x7fff }, { 0, 1, 0x80 }, { 1, 1, 0x7f }, { 2, 2, 0x8080 },
		  { 0, 4, 0x80800000 } };
	struct fixture *fixture = *state;

	fake_iommu.devices = 2;
	fixture->config[PCI_CAPABILITY_LIST] = PM;
	add_cap(fixture, PM, 0, PCI_CAP_ID_EXP);
	put16(&fixture->config[PM + PCI_EXP_FLAGS], 2);
	decode(fixture);
	host.on_write = count_parts;
	for (unsigned i = 0; i < ARRAY_SIZE(resets); i++) {
		parts_at_write = UINT32_MAX;
		set(fixture, PM + PCI_EXP_DEVCTL + resets[i].offset, resets[i].size,
			resets[i].value);
		assert_int_equal(parts_at_write, 0);
		assert_int_equal(host.part_calls, 2 + i);
		assert_int_equal(part_count() + slot_count(), 2);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		parts_at_write = UINT32_MAX;
		set(fixture, PM + PCI_EXP_DEVCTL + others[i].offset, others[i].size,
			others[i].value);
		assert_int_equal(parts_at_write, 2);
	}
	/* Without decoding there is nothing to map. */
	set(fixture, PCI_COMMAND, 2, 0);
	set(fixture, PM + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	assert_int_equal(part_count() + slot_count(), 0);
}

/* PME and the like are in the same register. */
static void a_device_that_stays_awake_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	unsigned before;

	add_pm(fixture);
	before = host.slot_calls;
	set_state(fixture, PCI_PM_CTRL_PME_ENABLE);
	set(fixture, PM + PCI_PM_CTRL, 4, 0);
	set(fixture, PM + PCI_PM_CTRL, 1, 0);
	set(fixture, PM + PCI_PM_CTRL + 1, 1, 3); /* the state is in the other byte */
	set(fixture, PM + PCI_PM_CTRL + 1, 2, 0x0303);
	set(fixture, PM + PCI_PM_CTRL - 1, 1, 3);
	set(fixture, PM + PCI_PM_CTRL - 4, 4, 0x03030303);
	assert_int_equal(host.slot_calls, before);
	assert_int_equal(device_get(fixture, PM + PCI_PM_CTRL, 4), 0x00030300);
	assert_int_equal(bar_get(fixture, 0x10, 4), 0x12345678);
}

/* As they are when the device hears of its new state. */
static unsigned slots_at_write;

static void count_slots(uint64_t offset)
{
	if (offset <= PM + PCI_PM_CTRL)
		slots_at_write = slot_count();
}

static void any_write_with_the_state_in_it_counts(void **state)
{
	static const struct {
		unsigned before, size;
	} writes[] = { { 0, 1 }, { 0, 2 }, { 0, 4 }, { 1, 2 }, { 2, 4 }, { 3, 4 } };
	struct fixture *fixture = *state;

	add_pm(fixture);
	host.on_write = count_slots;
	for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
		unsigned at = PM + PCI_PM_CTRL - writes[i].before, shift = 8 * writes[i].before;

		slots_at_write = UINT32_MAX;
		set(fixture, at, writes[i].size, (uint32_t)PCI_D3hot << shift);
		assert_int_equal(slots_at_write, 0);
		assert_int_equal(slot_count(), 0);
		set(fixture, at, writes[i].size, 0);
		assert_int_equal(slot_count(), 1);
		/* Bits that are next to the state's. */
		slots_at_write = UINT32_MAX;
		set(fixture, at, writes[i].size, 4U << shift);
		assert_int_equal(slots_at_write, 1);
		if (writes[i].before)
			set(fixture, at, writes[i].size, 0xc0U << (shift - 8));
		assert_int_equal(slots_at_write, 1);
	}
}

/* The first counts, for systems too; the other cannot be reached. */
static void a_second_power_capability_is_left_out(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x60;
	add_cap(fixture, 0x60, 0x80, PCI_CAP_ID_PM);
	add_cap(fixture, 0x80, 0, PCI_CAP_ID_PM);
	decode(fixture);
	assert_int_equal(get(fixture, 0x61, 1), 0);
	set(fixture, 0x80 + PCI_PM_CTRL, 2, PCI_D3hot);
	assert_int_equal(device_get(fixture, 0x80 + PCI_PM_CTRL, 2), 0);
	assert_int_equal(slot_count(), 1);
	set(fixture, 0x60 + PCI_PM_CTRL, 2, PCI_D3hot);
	assert_int_equal(slot_count(), 0);
}

/* What another vCPU finds while this one puts the device to sleep. */
static struct {
	struct fixture *fixture;
	pthread_t thread;
	unsigned writes;
	bool waited;
	int started, done; /* by the thread */
	uint32_t read;
} other;

static void *read_bar(void *opaque)
{
	struct fixture *fixture = opaque;

	__atomic_store_n(&other.started, 1, __ATOMIC_RELEASE);
	other.read = bar_get(fixture, 0x10, 4);
	__atomic_store_n(&other.done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void while_the_state_is_written(uint64_t offset)
{
	const struct timespec moment = { .tv_nsec = 50 * 1000 * 1000 };

	if (offset != PM + PCI_PM_CTRL)
		return;
	other.writes++;
	if (slot_count())
		return; /* seen by the test: nobody has waited */
	assert_int_equal(pthread_create(&other.thread, NULL, read_bar, other.fixture), 0);
	while (!__atomic_load_n(&other.started, __ATOMIC_ACQUIRE))
		nanosleep(&moment, NULL);
	nanosleep(&moment, NULL);
	other.waited = !__atomic_load_n(&other.done, __ATOMIC_ACQUIRE);
}

static void watch_the_other(struct fixture *fixture, uint16_t control)
{
	memset(&other, 0, sizeof(other));
	other.fixture = fixture;
	host.on_write = while_the_state_is_written;
	set_state(fixture, control);
	host.on_write = NULL;
	assert_int_equal(other.writes, 1);
	assert_true(other.waited);
	pthread_join(other.thread, NULL);
}

static void accesses_wait_until_the_device_sleeps(void **state)
{
	struct fixture *fixture = *state;

	add_pm(fixture);
	watch_the_other(fixture, PCI_D3hot);
	assert_int_equal(other.read, UINT32_MAX);
	set_state(fixture, 0);
	assert_int_equal(bar_get(fixture, 0x10, 4), 0x12345678);
}

static void accesses_wait_and_go_on_where_it_does_not_sleep(void **state)
{
	struct fixture *fixture = *state;

	host.pm_states = 1 << PCI_D0 | 1 << PCI_D3hot;
	add_pm(fixture);
	watch_the_other(fixture, PCI_D1);
	assert_int_equal(other.read, 0x12345678);
	assert_int_equal(slot_at(MEM32)->memory_size, 16 * KIB);
}

static void what_changes_in_sleep_counts_afterwards(void **state)
{
	struct fixture *fixture = *state;

	add_pm(fixture);
	set_state(fixture, PCI_D3hot);
	set(fixture, PCI_BASE_ADDRESS_0, 4, MEM32 + 0x10000);
	assert_int_equal(slot_count(), 0);
	assert_true(space_read(&fixture->mmio, MEM32 + 0x10010, 4) == UINT64_MAX);
	set_state(fixture, 0);
	assert_int_equal(slot_at(MEM32 + 0x10000)->memory_size, 16 * KIB);
	set_state(fixture, PCI_D3hot);
	set(fixture, PCI_COMMAND, 2, 0);
	set_state(fixture, 0);
	assert_int_equal(slot_count(), 0);
	set_state(fixture, PCI_D3hot);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(slot_count(), 0);
	set_state(fixture, PCI_D2);
	assert_int_equal(slot_count(), 0);
	set_state(fixture, 0);
	assert_int_equal(slot_count(), 1);
}

/* A VGA card's fixed addresses. VFIO's region has them from 0 on. */

#define VGA_AT BAR_AT(PCI_RANGES)

static void make_vga(struct fixture *fixture)
{
	fixture->device.vga = true;
	fixture->device.vfio.regions[VFIO_PCI_VGA_REGION_INDEX] =
		(struct vfio_region){ .size = 0xc0000, .fd_offset = VGA_AT };
	attach(fixture);
	assert_int_equal(ftruncate(fixture->device.vfio.fd, VGA_AT + 0xc0000), 0);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
}

static void a_vga_cards_addresses_are_trapped(void **state)
{
	struct fixture *fixture = *state;
	int fd = fixture->device.vfio.fd;
	uint16_t word = 0;

	make_vga(fixture);
	fd = fixture->device.vfio.fd;
	assert_null(slot_at(0xb8000));
	space_write(&fixture->mmio, 0xb8000, 2, 0x0741);
	assert_int_equal(pread(fd, &word, 2, VGA_AT + 0xb8000), 2);
	assert_int_equal(word, 0x0741);
	assert_int_equal(space_read(&fixture->mmio, 0xb8001, 1), 0x07);
	space_write(&fixture->pio, 0x3c4, 2, 0x0302);
	assert_int_equal(pread(fd, &word, 2, VGA_AT + 0x3c4), 2);
	assert_int_equal(word, 0x0302);
	space_write(&fixture->pio, 0x3b5, 1, 0x12);
	assert_int_equal(space_read(&fixture->pio, 0x3b4, 2), 0x1200);
	/* The kernel gives neither where the device does not decode it itself. */
	assert_int_equal(device_get(fixture, PCI_COMMAND, 2) & 3, 3);
}

/* What 3C3 tells of the card's ports is the guest's address, of AMD's cards, unless the user will have none of it. */
static void ports_at_3c3_are_the_guests(void **state)
{
	struct fixture *fixture = *state;

	put16(&fixture->config[PCI_VENDOR_ID], 0x1002);
	put16(&fixture->config[PCI_CLASS_DEVICE], 0x0300);
	fixture->config[PCI_BASE_ADDRESS_4] = PCI_BASE_ADDRESS_SPACE_IO;
	fixture->device.vfio.regions[4] = (struct vfio_region){ .size = 256 };
	make_vga(fixture);
	space_write(&fixture->pio, 0x3c3, 1, 0x5a);
	set(fixture, PCI_BASE_ADDRESS_4, 4, 0xd700);
	assert_int_equal(space_read(&fixture->pio, 0x3c3, 1), 0xd7);
	assert_int_equal(space_read(&fixture->pio, 0x3c2, 2), 0x5a00);
	detach(fixture);
	fixture->device.plain = true;
	make_vga(fixture);
	space_write(&fixture->pio, 0x3c3, 1, 0x5a);
	assert_int_equal(space_read(&fixture->pio, 0x3c3, 1), 0x5a);
}

static void other_cards_have_no_such_addresses(void **state)
{
	struct fixture *fixture = *state;

	/* Not asked for, or not given. */
	for (unsigned i = 0; i < 2; i++) {
		fixture->device.vga = i;
		fixture->device.vfio.regions[VFIO_PCI_VGA_REGION_INDEX].size = i ? 0 : 0xc0000;
		attach(fixture);
		set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
		assert_int_equal(space_read(&fixture->mmio, 0xb8000, 2), UINT64_MAX);
		assert_int_equal(space_read(&fixture->pio, 0x3c4, 2), UINT64_MAX);
		if (!i)
			detach(fixture);
	}
}

/* The option ROM */

#define ROM_SIZE (8 * KIB)
#define ROM_AT   (MEM32 + 0x4000) /* behind BAR 0 */

/* Each byte tells where it is, behind the signature. */
static uint8_t rom_byte(uint64_t at)
{
	return at == 0 ? 0x55 : at == 1 ? 0xaa : at * 7 + at / 256;
}

static void add_rom(struct fixture *fixture, uint64_t size)
{
	fixture->device.vfio.regions[PCI_ROM] = (struct vfio_region){
		.size = size,
		.fd_offset = BAR_AT(PCI_ROM),
		.readable = true,
	};
}

static void fill_rom(struct fixture *fixture)
{
	uint8_t bytes[ROM_SIZE];

	for (unsigned i = 0; i < ROM_SIZE; i++)
		bytes[i] = rom_byte(i);
	assert_int_equal(
		pwrite(fixture->device.vfio.fd, bytes, ROM_SIZE, BAR_AT(PCI_ROM)), ROM_SIZE);
}

static void enable_rom(struct fixture *fixture, uint32_t address)
{
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set(fixture, PCI_ROM_ADDRESS, 4, address | PCI_ROM_ADDRESS_ENABLE);
}

static void assert_shown(uint64_t address, uint64_t size)
{
	const struct kvm_userspace_memory_region *slot = slot_at(address);

	assert_non_null(slot);
	assert_int_equal(slot->guest_phys_addr, address);
	assert_int_equal(slot->memory_size, size);
	assert_int_equal(slot->flags, KVM_MEM_READONLY);
	for (unsigned i = 0; i < size; i++)
		assert_int_equal(((uint8_t *)slot->userspace_addr)[i], rom_byte(i));
}

static void a_rom_is_shown_where_it_is_enabled(void **state)
{
	struct fixture *fixture = *state;

	add_rom(fixture, ROM_SIZE);
	attach(fixture);
	fill_rom(fixture);
	assert_int_equal(get(fixture, PCI_ROM_ADDRESS, 4), ROM_AT);
	set(fixture, PCI_ROM_ADDRESS, 4, UINT32_MAX & ~PCI_ROM_ADDRESS_ENABLE);
	assert_int_equal(get(fixture, PCI_ROM_ADDRESS, 4), 0xffffe000);
	/* Neither enabled alone, nor memory. */
	set(fixture, PCI_ROM_ADDRESS, 4, ROM_AT | PCI_ROM_ADDRESS_ENABLE);
	assert_null(slot_at(ROM_AT));
	set(fixture, PCI_ROM_ADDRESS, 4, ROM_AT);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_null(slot_at(ROM_AT));
	assert_int_equal(slot_count(), 1);
	enable_rom(fixture, ROM_AT);
	assert_int_equal(get(fixture, PCI_ROM_ADDRESS, 4), ROM_AT | PCI_ROM_ADDRESS_ENABLE);
	assert_shown(ROM_AT, ROM_SIZE);
	assert_int_equal(slot_count(), 2);
	set(fixture, PCI_ROM_ADDRESS, 4, (ROM_AT + 0x10000) | PCI_ROM_ADDRESS_ENABLE);
	assert_null(slot_at(ROM_AT));
	assert_shown(ROM_AT + 0x10000, ROM_SIZE);
	set(fixture, PCI_ROM_ADDRESS, 4, ROM_AT + 0x10000);
	assert_null(slot_at(ROM_AT + 0x10000));
	assert_int_equal(slot_count(), 1);
	/* Other devices' DMA has no business with it. */
	assert_int_equal(part_count(), 0);
}

/* Of the device itself once, and not before somebody looks: a kernel only asks for the size. */
static void a_rom_is_read_when_it_is_first_enabled(void **state)
{
	struct fixture *fixture = *state;
	unsigned before;

	add_rom(fixture, ROM_SIZE);
	decode(fixture);
	fill_rom(fixture);
	before = host.accesses;
	set(fixture, PCI_ROM_ADDRESS, 4, 0xfffff800);
	get(fixture, PCI_ROM_ADDRESS, 4);
	set(fixture, PCI_ROM_ADDRESS, 4, ROM_AT);
	assert_int_equal(host.accesses, before);
	enable_rom(fixture, ROM_AT);
	assert_int_equal(host.accesses, before + 1);
	set(fixture, PCI_ROM_ADDRESS, 4, ROM_AT);
	enable_rom(fixture, ROM_AT);
	assert_int_equal(host.accesses, before + 1);
	assert_shown(ROM_AT, ROM_SIZE);
}

static void a_rom_is_only_read(void **state)
{
	struct fixture *fixture = *state;

	add_rom(fixture, ROM_SIZE);
	attach(fixture);
	fill_rom(fixture);
	enable_rom(fixture, ROM_AT);
	/* What a guest writes is trapped, as is a read where there is no slot. */
	space_write(&fixture->mmio, ROM_AT + 4, 4, 0);
	assert_shown(ROM_AT, ROM_SIZE);
	assert_int_equal(own(fixture, PCI_ROM, 4, 1), rom_byte(4));
	assert_int_equal(bar_get(fixture, 0x4000, 2), 0xaa55);
	assert_int_equal(bar_get(fixture, 0x4000 + ROM_SIZE - 1, 1), rom_byte(ROM_SIZE - 1));
	host.failing = KVM_SET_USER_MEMORY_REGION;
	host.error = ENOSPC;
	enable_rom(fixture, ROM_AT + 0x10000);
	assert_int_equal(bar_get(fixture, 0x14000, 2), 0xaa55);
}

static void a_rom_sleeps_with_its_device(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = PM;
	add_cap(fixture, PM, 0, PCI_CAP_ID_PM);
	add_rom(fixture, ROM_SIZE);
	attach(fixture);
	fill_rom(fixture);
	enable_rom(fixture, ROM_AT);
	set(fixture, PM + PCI_PM_CTRL, 2, PCI_D3hot);
	assert_null(slot_at(ROM_AT));
	set(fixture, PM + PCI_PM_CTRL, 2, PCI_D0);
	assert_shown(ROM_AT, ROM_SIZE);
}

static void a_small_rom_has_its_page_for_itself(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t *bytes;

	add_rom(fixture, 2 * KIB);
	attach(fixture);
	fill_rom(fixture);
	set(fixture, PCI_ROM_ADDRESS, 4, 0xfffff800);
	assert_int_equal(get(fixture, PCI_ROM_ADDRESS, 4), 0xfffff000);
	enable_rom(fixture, ROM_AT);
	assert_int_equal(slot_at(ROM_AT)->memory_size, 4 * KIB);
	bytes = (uint8_t *)slot_at(ROM_AT)->userspace_addr;
	assert_int_equal(bytes[2 * KIB - 1], rom_byte(2 * KIB - 1));
	assert_int_equal(bytes[2 * KIB], 0xff);
}

static void a_rom_that_cannot_be_read_is_empty(void **state)
{
	struct fixture *fixture = *state;

	add_rom(fixture, ROM_SIZE);
	fixture->device.vfio.regions[PCI_ROM].fd_offset = BAR_AT(PCI_RANGES);
	attach(fixture);
	enable_rom(fixture, ROM_AT);
	assert_int_equal(bar_get(fixture, 0x4000, 4), UINT32_MAX);
	assert_int_equal(slot_at(ROM_AT)->memory_size, ROM_SIZE);
}

static void a_rom_may_be_another_or_none(void **state)
{
	struct fixture *fixture = *state;
	static uint8_t bytes[ROM_SIZE] __attribute__((aligned(4096)));

	for (unsigned i = 0; i < ROM_SIZE; i++)
		bytes[i] = rom_byte(i);
	/* Whether or not the device has one itself. */
	for (unsigned i = 0; i < 2; i++) {
		add_rom(fixture, i * 64 * KIB);
		fixture->device.rom = (struct passthrough_rom){ .bytes = bytes, .size = ROM_SIZE };
		attach(fixture);
		enable_rom(fixture, ROM_AT);
		assert_shown(ROM_AT, ROM_SIZE);
		assert_ptr_equal((void *)slot_at(ROM_AT)->userspace_addr, bytes);
		detach(fixture);
	}
	fixture->device.rom = (struct passthrough_rom){ .hidden = true };
	attach(fixture);
	enable_rom(fixture, ROM_AT);
	assert_int_equal(get(fixture, PCI_ROM_ADDRESS, 4), 0);
	assert_int_equal(slot_count(), 1);
}

static void a_rom_that_never_ends_is_hidden(void **state)
{
	struct fixture *fixture = *state;
	static uint8_t bytes[ROM_SIZE] __attribute__((aligned(4096)));

	put16(&fixture->config[PCI_VENDOR_ID], 0x14e4);
	put16(&fixture->config[PCI_DEVICE_ID], 0x168e);
	for (unsigned i = 0; i < 3; i++) {
		add_rom(fixture, ROM_SIZE);
		fixture->device.plain = i == 1;
		if (i == 2)
			fixture->device.rom =
				(struct passthrough_rom){ .bytes = bytes, .size = ROM_SIZE };
		attach(fixture);
		set(fixture, PCI_ROM_ADDRESS, 4, UINT32_MAX);
		assert_int_equal(get(fixture, PCI_ROM_ADDRESS, 4) != 0, i != 0);
		if (i < 2)
			detach(fixture);
	}
}

static void no_rom_has_such_a_size(void **state)
{
	static const uint64_t sizes[] = { 12345, 6 * KIB, 32 * MIB, UINT64_MAX };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct error err = { 0 };

		add_rom(fixture, sizes[i]);
		assert_int_equal(try_attach(fixture, &err), -EINVAL);
		assert_non_null(strstr(err.what, "option ROM"));
		assert_non_null(strstr(err.hint, "rom=off"));
	}
	add_rom(fixture, 16 * MIB);
	attach(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PASSTHROUGH_TEST(a_bar_is_mapped_while_it_is_decoded),
		PASSTHROUGH_TEST(a_bar_that_stays_is_left_alone),
		PASSTHROUGH_TEST(the_pages_of_msix_are_never_mapped),
		PASSTHROUGH_TEST(table_and_pending_bits_may_be_in_two_bars),
		PASSTHROUGH_TEST(only_what_vfio_offers_is_mapped),
		PASSTHROUGH_TEST(a_bar_that_kvm_does_not_map_is_trapped),
		PASSTHROUGH_TEST(a_bar_that_the_kernel_does_not_map_is_an_error),
		PASSTHROUGH_TEST(others_reach_a_bar_while_it_is_decoded),
		PASSTHROUGH_TEST(others_do_not_reach_the_pages_of_msix),
		PASSTHROUGH_TEST(what_others_cannot_reach_is_left_out),
		PASSTHROUGH_TEST(without_others_nothing_is_reached),
		PASSTHROUGH_TEST(a_hostile_bar_is_not_reached),
		PASSTHROUGH_TEST(what_the_kernel_cannot_is_told_once),
		PASSTHROUGH_TEST(others_do_not_reach_a_device_that_is_closed),
		PASSTHROUGH_TEST(mappings_go_with_the_device),
		PASSTHROUGH_TEST(what_is_not_mapped_is_trapped),
		PASSTHROUGH_TEST(the_msix_table_is_virtual),
		PASSTHROUGH_TEST(a_bar_below_a_page_takes_a_page),
		PASSTHROUGH_TEST(the_table_ends_where_it_ends),
		PASSTHROUGH_TEST(pending_bits_are_what_came_while_masked),
		PASSTHROUGH_TEST(the_last_word_of_pending_bits_is_not_full),
		PASSTHROUGH_TEST(a_device_that_sleeps_answers_nothing),
		PASSTHROUGH_TEST(others_do_not_reach_a_device_that_sleeps),
		PASSTHROUGH_TEST(a_function_that_is_reset_is_mapped_anew),
		PASSTHROUGH_TEST(a_device_that_stays_awake_is_left_alone),
		PASSTHROUGH_TEST(any_write_with_the_state_in_it_counts),
		PASSTHROUGH_TEST(a_second_power_capability_is_left_out),
		PASSTHROUGH_TEST(accesses_wait_until_the_device_sleeps),
		PASSTHROUGH_TEST(accesses_wait_and_go_on_where_it_does_not_sleep),
		PASSTHROUGH_TEST(what_changes_in_sleep_counts_afterwards),
		PASSTHROUGH_TEST(a_vga_cards_addresses_are_trapped),
		PASSTHROUGH_TEST(ports_at_3c3_are_the_guests),
		PASSTHROUGH_TEST(other_cards_have_no_such_addresses),
		PASSTHROUGH_TEST(a_rom_is_shown_where_it_is_enabled),
		PASSTHROUGH_TEST(a_rom_is_read_when_it_is_first_enabled),
		PASSTHROUGH_TEST(a_rom_is_only_read),
		PASSTHROUGH_TEST(a_rom_sleeps_with_its_device),
		PASSTHROUGH_TEST(a_small_rom_has_its_page_for_itself),
		PASSTHROUGH_TEST(a_rom_that_cannot_be_read_is_empty),
		PASSTHROUGH_TEST(a_rom_may_be_another_or_none),
		PASSTHROUGH_TEST(a_rom_that_never_ends_is_hidden),
		PASSTHROUGH_TEST(no_rom_has_such_a_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
