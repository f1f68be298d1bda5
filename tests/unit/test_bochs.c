/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake_kvm.h"
#include "machine/display.h"
#include "machine/layout.h"
#include "test.h"

#include <linux/pci_regs.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOT  3
#define DISPI 0x500

enum { ID, XRES, YRES, BPP, ENABLE, BANK, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET, MEMORY };

struct fixture {
	struct kvm_vm *vm;
	struct space mmio, pio;
	struct topology topology;
	struct machine_pci pci;
	struct machine_display display;
	struct loop *loop;
	uint8_t *file; /* as the process that shows it has it */
	int user;      /* its end of the socket */
};

static uint8_t rom[DISPLAY_ROM] __attribute__((aligned(4096))) = { 0x55, 0xaa };

static int setup(void **state)
{
	static struct fixture fixture;
	struct display_config config = { memfd_create("display", 0), -1, rom };
	struct error err = { 0 };
	int pair[2];

	fixture = (struct fixture){ .display = MACHINE_DISPLAY_NONE };
	fake_kvm_reset();
	space_init(&fixture.mmio);
	space_init(&fixture.pio);
	fixture.vm = kvm_vm_new(FAKE_KVM_FD, &err);
	fixture.loop = loop_new(&err);
	topology_windows(40, 2 * GIB, false, &fixture.topology.windows, &err);
	fixture.topology.display = true;
	topology_plan(&fixture.topology, SLOT - 1, &err);
	machine_pci_init(&fixture.pci, fixture.vm, &fixture.mmio, &fixture.pio, &fixture.topology,
		false, &err);
	if (ftruncate(config.memory_fd, DISPLAY_FILE_SIZE) < 0 ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	fixture.file = mmap(
		NULL, DISPLAY_FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, config.memory_fd, 0);
	fixture.user = pair[0];
	config.event_fd = pair[1];
	/* From a former life: nobody has to take it. */
	(void)!write(pair[0], &(struct display_event){ DISPLAY_KEY, .key = { 0x10, 1 } },
		sizeof(struct display_event));
	machine_display_attach(&fixture.display, &config, &fixture.pci, &fixture.pio,
		fixture.topology.display_devfn, fixture.loop, &err);
	*state = &fixture;
	return err.code;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	machine_display_close(&fixture->display);
	machine_pci_destroy(&fixture->pci);
	loop_free(fixture->loop);
	kvm_vm_free(fixture->vm);
	space_destroy(&fixture->mmio);
	space_destroy(&fixture->pio);
	munmap(fixture->file, DISPLAY_FILE_SIZE);
	close(fixture->user);
	if (fixture->display.event_fd >= 0)
		close(fixture->display.event_fd);
	return 0;
}

static uint64_t config_at(const struct fixture *fixture, unsigned offset)
{
	return LAYOUT_ECAM + ((uint64_t)fixture->topology.display_devfn << 12) + offset;
}

static void decode(struct fixture *fixture, bool memory)
{
	space_write(&fixture->mmio, config_at(fixture, PCI_COMMAND), 2,
		memory ? PCI_COMMAND_MEMORY : 0);
}

static uint64_t bar(struct fixture *fixture, unsigned i)
{
	return space_read(&fixture->mmio, config_at(fixture, PCI_BASE_ADDRESS_0 + 4 * i), 4) &
	       ~0xfULL;
}

static uint16_t get(struct fixture *fixture, unsigned i)
{
	return space_read(&fixture->mmio, bar(fixture, 2) + DISPI + 2 * i, 2);
}

static void set(struct fixture *fixture, unsigned i, uint16_t value)
{
	space_write(&fixture->mmio, bar(fixture, 2) + DISPI + 2 * i, 2, value);
}

static struct display_mode shown(const struct fixture *fixture)
{
	return display_mode_look((struct display_shared *)(fixture->file + DISPLAY_MEMORY));
}

/* bochs_hw_init() and bochs_hw_setmode() of Linux; what OVMF's QemuVideoDxe writes, too. */
static void set_mode(struct fixture *fixture, unsigned width, unsigned height)
{
	set(fixture, ENABLE, 0);
	set(fixture, BPP, 32);
	set(fixture, XRES, width);
	set(fixture, YRES, height);
	set(fixture, BANK, 0);
	set(fixture, VIRT_WIDTH, width);
	set(fixture, VIRT_HEIGHT, height);
	set(fixture, X_OFFSET, 0);
	set(fixture, Y_OFFSET, 0);
	set(fixture, ENABLE, 0x41);
}

static void drivers_set_a_mode(void **state)
{
	struct fixture *fixture = *state;
	struct display_mode mode;

	assert_int_equal(space_read(&fixture->mmio, config_at(fixture, 0), 4), 0x11111234);
	decode(fixture, true);
	assert_int_equal(get(fixture, ID) & 0xfff0, 0xb0c0);
	assert_int_equal(get(fixture, MEMORY) * 64 * KIB, DISPLAY_MEMORY);
	assert_int_equal(shown(fixture).width, 0);
	set_mode(fixture, 1024, 768);
	mode = shown(fixture);
	assert_int_equal(mode.width, 1024);
	assert_int_equal(mode.height, 768);
	assert_int_equal(mode.stride, 4096);
	assert_int_equal(mode.offset, 0);
	set(fixture, VIRT_WIDTH, 2048);
	set(fixture, X_OFFSET, 16);
	set(fixture, Y_OFFSET, 2);
	mode = shown(fixture);
	assert_int_equal(mode.stride, 8192);
	assert_int_equal(mode.offset, 2 * 8192 + 64);
	set(fixture, ENABLE, 0);
	assert_int_equal(shown(fixture).width, 0);
	/* no EDID, no extended registers, and VGA's ones lead nowhere */
	assert_int_equal(space_read(&fixture->mmio, bar(fixture, 2), 4), 0);
	assert_int_equal(space_read(&fixture->mmio, bar(fixture, 2) + 0x600, 4), 0);
	space_write(&fixture->mmio, bar(fixture, 2) + 0x400, 1, 0x20);
}

static void what_does_not_fit_is_not_shown(void **state)
{
	struct fixture *fixture = *state;
	static const uint16_t bad[][2] = { { XRES, 0 }, { YRES, 0 }, { XRES, 4097 },
		{ YRES, 65535 }, { BPP, 16 }, { Y_OFFSET, 65535 }, { VIRT_WIDTH, 65535 } };

	decode(fixture, true);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		set_mode(fixture, 1024, 768);
		assert_int_equal(shown(fixture).width, 1024);
		set(fixture, bad[i][0], bad[i][1]);
		assert_int_equal(shown(fixture).width, 0);
	}
	/* to the last byte: 4096 rows of 4096 bytes */
	set_mode(fixture, 1024, 4096);
	assert_int_equal(shown(fixture).height, 4096);
	set(fixture, X_OFFSET, 1);
	assert_int_equal(shown(fixture).height, 0);
}

static void the_guest_draws_into_the_file(void **state)
{
	struct fixture *fixture = *state;
	uint64_t address = bar(fixture, 0);

	decode(fixture, true);
	assert_int_equal(fake_kvm.slot.guest_phys_addr, address);
	assert_int_equal(fake_kvm.slot.memory_size, DISPLAY_MEMORY);
	assert_int_equal(address % DISPLAY_MEMORY, 0);
	strcpy((char *)(uintptr_t)fake_kvm.slot.userspace_addr, "drawn");
	assert_string_equal((char *)fixture->file, "drawn");
	decode(fixture, false);
	assert_int_equal(fake_kvm.slot.memory_size, 0);
}

static void a_bios_finds_its_driver_in_the_rom(void **state)
{
	struct fixture *fixture = *state;
	uint64_t address = space_read(&fixture->mmio, config_at(fixture, PCI_ROM_ADDRESS), 4);

	assert_true(address);
	decode(fixture, true);
	assert_int_equal(fake_kvm.slot.memory_size, DISPLAY_MEMORY);
	space_write(&fixture->mmio, config_at(fixture, PCI_ROM_ADDRESS), 4, address | 1);
	assert_int_equal(fake_kvm.slot.guest_phys_addr, address);
	assert_int_equal(fake_kvm.slot.memory_size, DISPLAY_ROM);
	assert_true(fake_kvm.slot.flags & KVM_MEM_READONLY);
	assert_ptr_equal((void *)(uintptr_t)fake_kvm.slot.userspace_addr, rom);
}

static void send_raw(const struct fixture *fixture, const void *event, size_t size)
{
	assert_int_equal(send(fixture->user, event, size, 0), size);
	loop_step(fixture->loop, 1000);
}

static void keys_come_by_the_socket(void **state)
{
	struct fixture *fixture = *state;
	struct display_event event = { DISPLAY_KEY, .key = { DISPLAY_KEY_EXTENDED | 0x48, 1 } };

	assert_int_equal(space_read(&fixture->pio, I8042_COMMAND, 1) & 1, 0);
	/* whatever else comes means nothing */
	send_raw(fixture, &event, sizeof(event) - 1);
	send_raw(fixture, &(struct display_event){ .type = 77 }, sizeof(event));
	send_raw(fixture, &(struct display_event){ DISPLAY_KEY, .key = { 0, 1 } }, sizeof(event));
	assert_int_equal(space_read(&fixture->pio, I8042_COMMAND, 1) & 1, 0);
	send_raw(fixture, &event, sizeof(event));
	assert_int_equal(space_read(&fixture->pio, I8042_DATA, 1), 0xe0);
	assert_int_equal(space_read(&fixture->pio, I8042_DATA, 1), 0x48);
	event = (struct display_event){ DISPLAY_POINTER,
		.pointer = { INT32_MAX, INT32_MIN, INT32_MAX, ~0U } };
	send_raw(fixture, &event, sizeof(event));
	/* and its end is no end of the machine */
	shutdown(fixture->user, SHUT_RDWR);
	loop_step(fixture->loop, 1000);
	assert_int_equal(fixture->display.event_fd, -1);
}

TEST(a_mode_that_lies_is_none)
{
	struct display_shared shared = { 0 };
	const struct display_mode sound = { 640, 480, 2560, 0 };
	struct display_mode bad[] = {
		{ 640, 0, 2560, 0 },
		{ 0, 480, 2560, 0 },
		{ 640, 480, 2559, 0 },
		{ 640, 480, UINT32_MAX, 0 },
		{ 640, 480, 2560, UINT32_MAX },
		{ UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX },
		{ 640, 480, 2560, DISPLAY_MEMORY - 640 * 480 * 4 + 1 },
		{ 4097, 1, 4 * 4097, 0 },
	};

	display_mode_tell(&shared, &sound);
	assert_int_equal(display_mode_look(&shared).width, 640);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(display_mode_is_sound(&bad[i]));
		shared.mode = bad[i];
		assert_int_equal(display_mode_look(&shared).width, 0);
	}
	shared.mode = sound;
	shared.sequence |= 1;
	assert_int_equal(display_mode_look(&shared).width, 0);
	display_mode_tell(&shared, &sound);
	assert_int_equal(display_mode_look(&shared).width, 640);
}

int main(void)
{
#define CARD_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CARD_TEST(drivers_set_a_mode),
		CARD_TEST(what_does_not_fit_is_not_shown),
		CARD_TEST(the_guest_draws_into_the_file),
		CARD_TEST(a_bios_finds_its_driver_in_the_rom),
		CARD_TEST(keys_come_by_the_socket),
		cmocka_unit_test(a_mode_that_lies_is_none),
	};

	return test_run(tests);
}
