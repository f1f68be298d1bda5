/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "passthrough/passthrough.h"
#include "test.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

/*
 * A device that is a file: its configuration space, then its BARs. The linker hands us the ioctls
 * (-Wl,--wrap=ioctl): all succeed and do nothing, but for those of VFIO's interrupts, which are
 * answered as the kernel does where a host has few vectors.
 */

#define ECAM   0xe0000000ULL
#define DEVFN  (1 << 3)
#define CONFIG (ECAM + (DEVFN << 12))
#define MEM32  0x80000000ULL
#define BAR_AT 4096 /* in the file */

int __wrap_ioctl(int fd, unsigned long request, ...);

static struct {
	unsigned offered; /* vectors that the host has */
	bool can_grow;    /* vectors can be added to MSI-X that is on */
	bool no_intx;
	unsigned enabled; /* vectors of MSI or MSI-X that are on */
	int fds[64];
	unsigned calls;
} host;

static int set_msi(const struct vfio_irq_set *set)
{
	unsigned end = set->start + set->count;

	host.calls++;
	if (!set->count) {
		host.enabled = 0;
		return 0;
	}
	if (!host.enabled && end > host.offered)
		return host.offered;
	if (host.enabled && end > (host.can_grow ? host.offered : host.enabled)) {
		errno = EINVAL;
		return -1;
	}
	assert_true(end <= ARRAY_SIZE(host.fds));
	if (!host.enabled)
		memset(host.fds, 0xff, sizeof(host.fds));
	memcpy(&host.fds[set->start], set->data, set->count * sizeof(int));
	host.enabled = max_u64(host.enabled, end);
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	const struct vfio_irq_set *set;
	va_list arguments;

	(void)fd;
	if (request != VFIO_DEVICE_SET_IRQS)
		return 0;
	va_start(arguments, request);
	set = va_arg(arguments, const struct vfio_irq_set *);
	va_end(arguments);
	if (set->index != VFIO_PCI_INTX_IRQ_INDEX)
		return set_msi(set);
	errno = EBUSY;
	return host.no_intx ? -1 : 0;
}

static unsigned connected(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < host.enabled; i++)
		count += host.fds[i] >= 0;
	return count;
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
	host = (typeof(host)){ .offered = 64, .can_grow = true };
	fixture->vm = (struct kvm_vm){ .fd = -1, .vfio_fd = -1 };
	fixture->vm.routing =
		calloc(1, sizeof(*fixture->vm.routing) +
				  KVM_ROUTES_MAX * sizeof(struct kvm_irq_routing_entry));
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
	fixture->device.vfio.irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 8;
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

	fixture->device.vfio.irqs[VFIO_PCI_MSIX_IRQ_INDEX].can_grow = host.can_grow;
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

/* No other BAR can get into the page that it is mapped by. */
static void a_bar_below_a_page_takes_a_page(void **state)
{
	struct fixture *fixture = *state;

	fixture->device.vfio.regions[0].size = 256;
	attach(fixture);
	set(fixture, PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	assert_int_equal(get(fixture, PCI_BASE_ADDRESS_0, 4), 0xfffff000);
	set(fixture, PCI_BASE_ADDRESS_0, 4, MEM32 + 0x5000);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	space_write(&fixture->mmio, MEM32 + 0x5010, 4, 0x12345678);
	assert_int_equal(vfio_region_read(&fixture->device.vfio, 0, 0x10, 4), 0x12345678);
}

/* What Linux does: all masked, on, then a vector after the other. */
static void switch_msix_on(struct fixture *fixture, unsigned vectors)
{
	attach(fixture);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	for (unsigned i = 0; i < vectors; i++) {
		uint64_t entry = MEM32 + 0x1000 + i * MSIX_ENTRY_SIZE;

		space_write(&fixture->mmio, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4, 0xfee00000);
		space_write(&fixture->mmio, entry + PCI_MSIX_ENTRY_DATA, 4, 0x40 + i);
	}
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < vectors; i++)
		space_write(&fixture->mmio,
			MEM32 + 0x1000 + i * MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, 0);
}

static void each_vector_is_connected_at_its_first_use(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	switch_msix_on(fixture, 3);
	assert_int_equal(connected(), 3);
	assert_int_equal(host.calls, 4); /* one to switch it on */
}

/* Kernels before 6.5: all vectors are there from the start, and are connected when they are used. */
static void vectors_that_cannot_be_added_are_there_from_the_start(void **state)
{
	struct fixture *fixture = *state;

	host.can_grow = false;
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	switch_msix_on(fixture, 3);
	assert_int_equal(host.enabled, 8);
	assert_int_equal(connected(), 3);
	assert_int_equal(host.calls, 4);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(host.enabled, 0);
}

static void a_host_with_few_vectors_gives_those(void **state)
{
	struct fixture *fixture = *state;

	host.can_grow = false;
	host.offered = 2;
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	switch_msix_on(fixture, 3);
	assert_int_equal(host.enabled, 2);
	assert_int_equal(connected(), 2);
	assert_true(fixture->device.told);
}

static void a_host_with_few_vectors_gives_those_by_msi(void **state)
{
	struct fixture *fixture = *state;

	host.offered = 1;
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msi(fixture, 0x40, 0, 2 << 1); /* four vectors */
	attach(fixture);
	set(fixture, 0x40 + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	set(fixture, 0x40 + PCI_MSI_FLAGS, 2, 2 << 4 | PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(connected(), 1);
	assert_true(fixture->device.told);
}

/* Its line is shared with a device of the host, say: a driver with MSI does not need it. */
static void a_device_with_msi_goes_without_intx(void **state)
{
	struct fixture *fixture = *state;

	host.no_intx = true;
	fixture->device.vfio.irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
	fixture->config[PCI_INTERRUPT_PIN] = 1;
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	switch_msix_on(fixture, 1);
	assert_int_equal(get(fixture, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(connected(), 1);
}

static void a_device_with_nothing_but_intx_needs_it(void **state)
{
	struct passthrough_place place = { .devfn = DEVFN, .gsi = { 16, 17, 18, 19 } };
	struct fixture *fixture = *state;
	struct error err = { 0 };

	host.no_intx = true;
	fixture->device.vfio.irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
	fixture->config[PCI_INTERRUPT_PIN] = 1;
	assert_int_equal(
		fd_write_all(fixture->device.vfio.fd, fixture->config, sizeof(fixture->config)), 0);
	assert_int_equal(
		passthrough_attach(&fixture->device, &fixture->vm, &fixture->bus, &place, &err),
		-EBUSY);
	assert_non_null(strstr(err.hint, "/proc/interrupts"));
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
		PASSTHROUGH_TEST(a_bar_below_a_page_takes_a_page),
		PASSTHROUGH_TEST(each_vector_is_connected_at_its_first_use),
		PASSTHROUGH_TEST(vectors_that_cannot_be_added_are_there_from_the_start),
		PASSTHROUGH_TEST(a_host_with_few_vectors_gives_those),
		PASSTHROUGH_TEST(a_host_with_few_vectors_gives_those_by_msi),
		PASSTHROUGH_TEST(a_device_with_msi_goes_without_intx),
		PASSTHROUGH_TEST(a_device_with_nothing_but_intx_needs_it),
		PASSTHROUGH_TEST(a_short_express_capability_leaves_the_next_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
