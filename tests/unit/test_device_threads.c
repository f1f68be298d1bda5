/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "passthrough_host.h"
#include "pci/port.h"

#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * A guest's vCPUs at one device at once, each with accesses of a kind, for ThreadSanitizer to look at;
 * and what holds whatever their order is.
 */

#define ROUNDS  10000
#define PLACES  3
#define MSIX    0x40
#define MSI     0x40 /* of the other */
#define PM      0x60
#define USED    16 /* vectors */
#define CONTENT 0x12345678

static uint64_t place(unsigned i)
{
	return MEM32 + i % PLACES * 0x100000;
}

/* Accesses to a BAR that may be anywhere find it, or nothing. */
static void check(uint64_t value, uint64_t expected)
{
	if ((uint32_t)value != UINT32_MAX && (uint32_t)value != expected)
		abort(); /* no assertion: those of cmocka are for its thread */
}

static void *use_registers(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++)
		for (unsigned j = 0; j < PLACES; j++) {
			check(space_read(&fixture->mmio, place(j) + 0x10, 4), CONTENT);
			space_write(&fixture->mmio, place(j) + 0x20, 4, i);
		}
	return NULL;
}

static void *write_table(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned vector = i % USED;
		uint64_t entry = place(i / USED) + 0x1000 + vector * MSIX_ENTRY_SIZE;
		uint32_t data;

		space_write(&fixture->mmio, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, 1);
		space_write(&fixture->mmio, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 8, 0xfee00000);
		space_write(&fixture->mmio, entry + PCI_MSIX_ENTRY_DATA, 4, vector | i << 8);
		data = space_read(&fixture->mmio, entry + PCI_MSIX_ENTRY_DATA, 4);
		if (data)
			check(data | 0xffffff00, 0xffffff00 | vector);
		space_write(&fixture->mmio, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, 0);
	}
	return NULL;
}

static void *read_pending(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++)
		for (unsigned j = 0; j < PLACES; j++) {
			uint64_t pending = space_read(&fixture->mmio, place(j) + 0x2000, 8);

			if (pending != UINT64_MAX && pending >> USED)
				abort();
			raise_vector((i + j) % USED);
		}
	return NULL;
}

static void *move_bar(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		set(fixture, PCI_BASE_ADDRESS_0, 4, place(i));
		if (i % 3 == 0)
			set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
		set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	}
	return NULL;
}

static void *change_power(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		set(fixture, PM + PCI_PM_CTRL, 2, i % 2 ? PCI_PM_CTRL_STATE_MASK : 0);
		get(fixture, PM + PCI_PM_CTRL, 2);
		set(fixture, PM + PCI_PM_CTRL, 2, PCI_PM_CTRL_PME_ENABLE);
	}
	return NULL;
}

static void *switch_msix(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		set(fixture, MSIX + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
		set(fixture, MSIX + PCI_MSIX_FLAGS, 2,
			PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
		if (i % 4 == 0)
			set(fixture, MSIX + PCI_MSIX_FLAGS, 2, 0);
	}
	return NULL;
}

/* The second device: one BAR, which wants the first one's places, and MSI. */

static void set_other(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value)
{
	space_write(&fixture->mmio, CONFIG + 0x8000 + offset, size, value);
}

static void *move_other(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		set_other(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		set_other(fixture, PCI_BASE_ADDRESS_0, 4, place(i + 1));
		set_other(fixture, MSI + PCI_MSI_DATA_32, 2, i);
		set_other(fixture, MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
		if (i % 5)
			continue;
		set_other(fixture, PCI_COMMAND, 2, 0);
		set_other(fixture, MSI + PCI_MSI_FLAGS, 2, 0);
	}
	return NULL;
}

/* As when a third one has come. */
static void *let_reach(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++)
		passthrough_reach(&fixture->device);
	return NULL;
}

static void attach_both(struct fixture *fixture, struct passthrough *other)
{
	const struct passthrough_place slot = { .bus = &fixture->root.bus, .devfn = DEVFN + 8 };
	uint8_t config[PCI_CFG_SPACE_SIZE] = {
		[PCI_VENDOR_ID] = 0x34,
		[PCI_STATUS] = PCI_STATUS_CAP_LIST,
		[PCI_CAPABILITY_LIST] = MSI,
		[MSI] = PCI_CAP_ID_MSI,
	};
	struct error err = { 0 };

	fake_iommu.devices = 2;
	fixture->config[PCI_CAPABILITY_LIST] = MSIX;
	add_msix(fixture, MSIX, PM, USED);
	add_cap(fixture, PM, 0, PCI_CAP_ID_PM);
	add_intx(fixture, 1);
	attach(fixture);
	vfio_region_write(&fixture->device.vfio, 0, 0x10, 4, CONTENT);
	*other = (struct passthrough){ .vfio = fixture->device.vfio };
	other->vfio.irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 0;
	other->vfio.fd = memfd_create("other", MFD_CLOEXEC);
	assert_int_equal(ftruncate(other->vfio.fd, BAR_AT(PCI_RANGES)), 0);
	assert_int_equal(pwrite(other->vfio.fd, config, sizeof(config), 0), sizeof(config));
	vfio_region_write(&other->vfio, 0, 0x10, 4, CONTENT);
	if (passthrough_attach(other, &fixture->vm, &slot, &err) ||
		pci_bus_place(&other->pci, &err))
		fail_msg("%s", err.what);
}

/* Where a device's BAR is, it is direct, for the other device too, and nowhere else. */
static void check_slots(struct fixture *fixture, struct passthrough *other)
{
	struct passthrough *devices[] = { &fixture->device, other };
	unsigned windows = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
		for (unsigned j = 0; j < devices[i]->bars[0].count; j++) {
			const struct passthrough_window *window = &devices[i]->bars[0].windows[j];
			const struct kvm_userspace_memory_region *slot =
				slot_at(devices[i]->pci.bars[0].address + window->offset);

			assert_true(devices[i]->pci.bars[0].decoded);
			assert_int_equal(slot->userspace_addr, (uintptr_t)window->hva);
			assert_int_equal(slot->memory_size, window->size);
			assert_ptr_equal(reached_at(slot->guest_phys_addr), window->hva);
			windows++;
		}
	assert_int_equal(slot_count(), windows);
	assert_int_equal(part_count(), windows);
}

static void vcpus_use_a_device_at_once(void **state)
{
	static void *(*const uses[])(void *) = { use_registers, write_table, read_pending, move_bar,
		change_power, switch_msix, move_other, let_reach };
	struct fixture *fixture = *state;
	pthread_t threads[ARRAY_SIZE(uses)];
	struct passthrough other;

	attach_both(fixture, &other);
	for (unsigned i = 0; i < ARRAY_SIZE(uses); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, uses[i], fixture), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(uses); i++)
		pthread_join(threads[i], NULL);
	/* Whatever they left, the guest gets what it asks for now. */
	set_other(fixture, PCI_BASE_ADDRESS_0, 4, place(1));
	set_other(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set(fixture, PCI_BASE_ADDRESS_0, 4, place(0));
	set(fixture, PM + PCI_PM_CTRL, 2, 0);
	use_msix(fixture, USED);
	check_slots(fixture, &other);
	assert_int_equal(connected(), USED);
	for (unsigned i = 0; i < USED; i++) {
		assert_int_equal(message_of(irqfd_of(host.fds[i])->gsi)->data, 0x40 + i);
		raise_vector(i);
		write_entry(fixture, i, PCI_MSIX_ENTRY_VECTOR_CTRL, 1);
	}
	assert_int_equal(space_read(&fixture->mmio, MEM32 + 0x2000, 8), (1ULL << USED) - 1);
	assert_false(fixture->device.told || other.told);
	passthrough_detach(&other);
}

/* The first device is behind a root port now, the second one on the root bus as before. */

#define PORT_CONFIG   (ECAM + (5 << 15))
#define BEHIND_CONFIG (ECAM + (1 << 20))
#define SLOT_CONTROL  (0x60 + PCI_EXP_SLTCTL) /* of a port, see port.c */

static struct pci_port port;

static const struct pci_link slow = { 1, 1, 0 };

static void set_port(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value)
{
	space_write(&fixture->mmio, PORT_CONFIG + offset, size, value);
}

static void set_behind(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value)
{
	space_write(&fixture->mmio, BEHIND_CONFIG + offset, size, value);
}

/* Windows of one place each, of all, of none; bus numbers and the command register, too. */
static void *move_window(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t first = place(i) >> 16, last = place(i % 2 ? i : PLACES - 1) >> 16;

		set_port(fixture, PCI_MEMORY_BASE, 4, last << 16 | first);
		set_port(fixture, PCI_COMMAND, 2, i % 3 ? PCI_COMMAND_MEMORY : 0);
		set_port(fixture, PCI_SECONDARY_BUS, 2, i % 5 ? 0x0101 : 0x0202);
	}
	return NULL;
}

static void *move_behind(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		set_behind(fixture, PCI_BASE_ADDRESS_0, 4, place(i));
		set_behind(fixture, PCI_COMMAND, 2, i % 4 ? PCI_COMMAND_MEMORY : 0);
		space_read(&fixture->mmio, BEHIND_CONFIG + PCI_COMMAND, 4);
	}
	return NULL;
}

static void *switch_slot(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		set_port(fixture, SLOT_CONTROL, 4,
			0xffff0000 | PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_ABPE |
				(i % 2 ? PCI_EXP_SLTCTL_PCC : 0));
		space_read(&fixture->mmio, PORT_CONFIG + SLOT_CONTROL, 4);
	}
	return NULL;
}

/* What the event loop does. */
static void *plug(void *opaque)
{
	(void)opaque;
	for (unsigned i = 0; i < ROUNDS; i++) {
		pci_port_press_button(&port);
		pci_port_unplug(&port);
		pci_port_plug(&port, &slow);
		pci_port_is_powered(&port);
	}
	return NULL;
}

static void attach_behind_port(struct fixture *fixture, struct passthrough *other)
{
	static const struct pci_windows windows = { .mem32 = { MEM32, 16 * MIB, MEM32 } };
	struct error err = { 0 };

	assert_int_equal(pci_port_init(&port, 1, 1, &windows), 0);
	assert_int_equal(pci_bridge_add(&fixture->root.bus, &port.bridge, 5 << 3, &err), 0);
	fixture->place = (struct passthrough_place){ .bus = &port.bridge.secondary };
	attach_both(fixture, other);
	pci_port_occupy(&port, &slow);
}

static void a_window_moves_while_others_use_what_is_behind_it(void **state)
{
	static void *(*const uses[])(void *) = { use_registers, move_window, move_behind,
		switch_slot, plug, move_other };
	struct fixture *fixture = *state;
	pthread_t threads[ARRAY_SIZE(uses)];
	struct passthrough other;

	attach_behind_port(fixture, &other);
	for (unsigned i = 0; i < ARRAY_SIZE(uses); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, uses[i], fixture), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(uses); i++)
		pthread_join(threads[i], NULL);
	/* Whatever they left, the guest gets what it asks for now. */
	set_other(fixture, PCI_BASE_ADDRESS_0, 4, place(1));
	set_other(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set_port(fixture, SLOT_CONTROL, 2, 0);
	set_port(fixture, PCI_SECONDARY_BUS, 2, 0x0101);
	set_port(fixture, PCI_MEMORY_BASE, 4, (uint32_t)place(2) | place(0) >> 16);
	set_port(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set_behind(fixture, PCI_BASE_ADDRESS_0, 4, place(0));
	set_behind(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	check_slots(fixture, &other);
	assert_int_equal((uint32_t)space_read(&fixture->mmio, place(0) + 0x10, 4), CONTENT);
	/* Closed by one thread's write, it is gone when that returns. */
	set_port(fixture, PCI_MEMORY_BASE, 4, 0x0000fff0);
	assert_null(slot_at(place(0)));
	passthrough_detach(&other);
	passthrough_detach(&fixture->device);
	fixture->detached = true;
	pci_port_destroy(&port);
}

static pthread_barrier_t barrier;

/* The second device comes to the place that the first leaves in the same moment, and the other way. */
static void *come(void *opaque)
{
	struct fixture *fixture = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&barrier);
		set_other(fixture, PCI_BASE_ADDRESS_0, 4, place(i));
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

static void both_are_decoded_whoever_comes_first(void **state)
{
	struct fixture *fixture = *state;
	struct passthrough other;
	pthread_t thread;

	attach_both(fixture, &other);
	set(fixture, PCI_BASE_ADDRESS_0, 4, place(0));
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	set_other(fixture, PCI_BASE_ADDRESS_0, 4, place(PLACES - 1));
	set_other(fixture, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	pthread_barrier_init(&barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, come, fixture), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&barrier);
		set(fixture, PCI_BASE_ADDRESS_0, 4, place(i + 1));
		pthread_barrier_wait(&barrier);
		check_slots(fixture, &other);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&barrier);
	passthrough_detach(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PASSTHROUGH_TEST(vcpus_use_a_device_at_once),
		PASSTHROUGH_TEST(a_window_moves_while_others_use_what_is_behind_it),
		PASSTHROUGH_TEST(both_are_decoded_whoever_comes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
