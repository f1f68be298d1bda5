/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "passthrough/passthrough.h"
#include "test.h"

#include <linux/pci_regs.h>
#include <string.h>
#include <sys/mman.h>

/*
 * A device that is a file: its configuration space, then its BARs. The kernel's ioctls succeed and
 * do nothing: the linker hands them to us (-Wl,--wrap=ioctl).
 */

#define ECAM   0xe0000000ULL
#define DEVFN  (1 << 3)
#define CONFIG (ECAM + (DEVFN << 12))
#define MEM32  0x80000000ULL
#define BAR_AT 4096 /* in the file */

int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	(void)fd, (void)request;
	return 0;
}

struct fixture {
	struct kvm_vm vm;
	struct space mmio, pio;
	struct pci_bus bus;
	struct passthrough device;
	uint8_t config[PCI_CFG_SPACE_SIZE]; /* the device's own, before it is attached */
};

static void put16(uint8_t *bytes, uint16_t value)
{
	bytes[0] = value;
	bytes[1] = value >> 8;
}

static int setup(void **state)
{
	static const struct pci_windows windows = {
		.io = { 0x6000, 0xa000, 0x6000 },
		.mem32 = { MEM32, 0x60000000, MEM32 },
		.mem64 = { 1ULL << 40, 1ULL << 40, 1ULL << 40 },
	};
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct error err = { 0 };

	assert_non_null(fixture);
	fixture->vm = (struct kvm_vm){ .fd = -1, .vfio_fd = -1 };
	fixture->vm.routing = calloc(1,
		sizeof(*fixture->vm.routing) + KVM_GSI_MAX * sizeof(struct kvm_irq_routing_entry));
	space_init(&fixture->mmio);
	space_init(&fixture->pio);
	pci_bus_init(&fixture->bus, &fixture->mmio, &fixture->pio, ECAM, &windows, &err);
	put16(&fixture->config[PCI_VENDOR_ID], 0x1234);
	put16(&fixture->config[PCI_DEVICE_ID], 0x5678);
	put16(&fixture->config[PCI_STATUS], PCI_STATUS_CAP_LIST);
	fixture->device.vfio = (struct vfio_device){ .fd = memfd_create("device", MFD_CLOEXEC) };
	fixture->device.vfio.regions[VFIO_PCI_CONFIG_REGION_INDEX].size = PCI_CFG_SPACE_SIZE;
	fixture->device.vfio.regions[0] = (struct vfio_region){
		.size = 16 * KIB, .fd_offset = BAR_AT, .readable = true, .writable = true
	};
	fixture->device.vfio.irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 1;
	fixture->device.vfio.irqs[VFIO_PCI_MSIX_IRQ_INDEX] = (struct vfio_irq){ 8, true };
	*state = fixture;
	return err.code;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	passthrough_detach(&fixture->device);
	space_destroy(&fixture->mmio);
	space_destroy(&fixture->pio);
	free(fixture->vm.routing);
	free(fixture);
	return 0;
}

static void attach(struct fixture *fixture)
{
	struct passthrough_place place = { .devfn = DEVFN, .gsi = { 16, 17, 18, 19 } };
	int fd = fixture->device.vfio.fd;
	struct error err = { 0 };

	assert_int_equal(fd_write_all(fd, fixture->config, sizeof(fixture->config)), 0);
	assert_int_equal(ftruncate(fd, BAR_AT + 16 * KIB), 0);
	if (passthrough_attach(&fixture->device, &fixture->vm, &fixture->bus, &place, &err))
		fail_msg("%s", err.what);
}

static void add_msix(struct fixture *fixture, unsigned at, unsigned next, unsigned vectors)
{
	uint8_t *cap = &fixture->config[at];

	cap[0] = PCI_CAP_ID_MSIX;
	cap[1] = next;
	put16(cap + PCI_MSIX_FLAGS, vectors - 1);
	put16(cap + PCI_MSIX_TABLE, 0x1000);
	put16(cap + PCI_MSIX_PBA, 0x2000);
}

static void add_msi(struct fixture *fixture, unsigned at, unsigned next, uint16_t flags)
{
	fixture->config[at] = PCI_CAP_ID_MSI;
	fixture->config[at + 1] = next;
	put16(&fixture->config[at + PCI_MSI_FLAGS], flags);
}

static uint32_t get(struct fixture *fixture, unsigned offset, unsigned size)
{
	return space_read(&fixture->mmio, CONFIG + offset, size) & ((2ULL << (8 * size - 1)) - 1);
}

static void set(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value)
{
	space_write(&fixture->mmio, CONFIG + offset, size, value);
}

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

static void hidden_capabilities_are_not_listed(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	fixture->config[0x40] = PCI_CAP_ID_AF;
	fixture->config[0x41] = 0x50;
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

#define PASSTHROUGH_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PASSTHROUGH_TEST(the_guest_sees_the_device),
		PASSTHROUGH_TEST(hidden_capabilities_are_not_listed),
		PASSTHROUGH_TEST(a_list_that_loops_ends),
		PASSTHROUGH_TEST(the_msix_table_is_virtual),
		PASSTHROUGH_TEST(a_second_msix_capability_is_left_out),
		PASSTHROUGH_TEST(a_second_msi_capability_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
