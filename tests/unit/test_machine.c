/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "fake_kvm.h"
#include "machine/boot/linux.h"
#include "machine/devices.h"
#include "machine/fill.h"
#include "machine/machine.h"
#include "machine/message.h"
#include "machine/platform/panic.h"
#include "machine/sandbox.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * A whole machine, without a sandbox and devices, over a KVM whose vCPUs do what the test wants; the test is the
 * broker.
 */

#define WAIT_MS    5000
#define RESET_PORT 0x64 /* the keyboard controller's */
#define RESET      0xfe
#define IO_AT      2048 /* in what a vCPU shares with the kernel */

int __wrap_sandbox_enter(struct error *err);
int __wrap_linux_load(struct memory *memory, const struct boot_files *boot,
	const struct memory_map *map, uint64_t rsdp, struct linux_entry *entry, struct error *err);
int __real_devices_open(struct machine_devices *devices, const struct machine_config *config,
	struct kvm_vm *vm, struct error *err);
int __wrap_devices_open(struct machine_devices *devices, const struct machine_config *config,
	struct kvm_vm *vm, struct error *err);
bool __wrap_devices_have_vga(const struct machine_devices *devices);
int __real_fill_wait(struct fill *fill, unsigned seconds);
int __wrap_fill_wait(struct fill *fill, unsigned seconds);
bool __real_fill_is_done(const struct fill *fill);
bool __wrap_fill_is_done(const struct fill *fill);
int __real_pthread_kill(pthread_t thread, int signal);
int __wrap_pthread_kill(pthread_t thread, int signal);

static struct {
	struct machine_config config;
	struct machine_devices *devices;
	pthread_t thread;
	int control; /* the broker's end */
	enum machine_end end;
	struct error err;
	unsigned runs[4]; /* of each vCPU; atomic */
} machine;

/* RAM that comes late; what follows is atomic. */
static struct {
	bool is; /* this is what the test is about */
	bool done;
	unsigned waiting;
	pthread_t first; /* of those who hold the others */
	bool has_first, second;
} late;

int __wrap_sandbox_enter(struct error *err)
{
	(void)err;
	return 0;
}

int __wrap_linux_load(struct memory *memory, const struct boot_files *boot,
	const struct memory_map *map, uint64_t rsdp, struct linux_entry *entry, struct error *err)
{
	(void)memory, (void)boot, (void)map, (void)rsdp, (void)err;
	*entry = (struct linux_entry){ 0 };
	return 0;
}

int __wrap_devices_open(struct machine_devices *devices, const struct machine_config *config,
	struct kvm_vm *vm, struct error *err)
{
	machine.devices = devices;
	return __real_devices_open(devices, config, vm, err);
}

static bool has_vga;

bool __wrap_devices_have_vga(const struct machine_devices *devices)
{
	(void)devices;
	return has_vga;
}

static bool is_set(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
}

/* Two wait in vain; the first one that has held the others has RAM when the second one wants to hold them, too. */
int __wrap_fill_wait(struct fill *fill, unsigned seconds)
{
	if (!late.is)
		return __real_fill_wait(fill, seconds);
	if (seconds) {
		__atomic_add_fetch(&late.waiting, 1, __ATOMIC_ACQ_REL);
		while (__atomic_load_n(&late.waiting, __ATOMIC_ACQUIRE) < 2)
			usleep(1000);
		return -ETIMEDOUT;
	}
	if (!__atomic_load_n(&late.waiting, __ATOMIC_ACQUIRE))
		return 0; /* all of it is there before the start, as far as that knows */
	for (unsigned i = 0; i < 300 && !is_set(&late.second); i++)
		usleep(1000);
	set(&late.done);
	return 0;
}

bool __wrap_fill_is_done(const struct fill *fill)
{
	return late.is ? is_set(&late.done) : __real_fill_is_done(fill);
}

/* The second one is slow between saying that it holds the others and waiting for them. */
int __wrap_pthread_kill(pthread_t thread, int signal)
{
	if (late.is && __atomic_load_n(&late.waiting, __ATOMIC_ACQUIRE) == 2) {
		if (!__atomic_exchange_n(&late.has_first, true, __ATOMIC_ACQ_REL)) {
			late.first = pthread_self();
		} else if (!pthread_equal(late.first, pthread_self()) && !is_set(&late.second)) {
			set(&late.second);
			usleep(300000);
		}
	}
	return __real_pthread_kill(thread, signal);
}

static void *run_machine(void *opaque)
{
	(void)opaque;
	machine.end = machine_run(&machine.config, &machine.err);
	return NULL;
}

static void start(int (*run)(unsigned id, struct kvm_run *run), unsigned cpus)
{
	int pair[2];

	fake_kvm.run = run;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	machine.control = pair[0];
	machine.config.control_fd = pair[1];
	machine.config.cpus = KVM_CPUS(cpus);
	machine.config.memory_page = MEMORY_PAGE;
	machine.config.memory_fd = memfd_create("ram", MFD_CLOEXEC);
	machine.config.boot.kernel_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(machine.config.memory_fd, machine.config.memory), 0);
	assert_int_equal(pthread_create(&machine.thread, NULL, run_machine, NULL), 0);
}

static enum machine_end end(enum message_type how)
{
	if (how)
		message_send(machine.control, &(struct message){ .type = how });
	else
		shutdown(machine.control, SHUT_WR);
	pthread_join(machine.thread, NULL);
	close(machine.control);
	close(machine.config.control_fd);
	return machine.end;
}

/* Its messages up to one of this kind; how many there were of another one before. */
static unsigned hear(enum message_type type, enum message_type counted, struct message *message)
{
	unsigned count = 0;

	for (;;) {
		if (message_receive(machine.control, message) != 1)
			fail_msg("%s: %s", machine.err.object, machine.err.what);
		if (message->type == type)
			return count;
		count += message->type == counted;
	}
}

static const struct smbios_config nothing_said;

static int setup(void **state)
{
	(void)state;
	fake_kvm_reset();
	fake_kvm.supported[0].function = 0x80000008;
	fake_kvm.supported[0].eax = 39;
	fake_kvm.supported_count = 1;
	memset(&machine, 0, sizeof(machine));
	memset(&late, 0, sizeof(late));
	machine.config = (struct machine_config){
		.name = "test",
		.smbios = &nothing_said,
		.boot = { .firmware_fd = -1, .nvram_fd = -1, .initrd_fd = -1, .cmdline = "" },
		.memory = 32 * MIB,
		.console = { .in = -1, .out = -1 },
		.tpm = { -1, -1 },
		.display = { -1, -1, NULL },
		.kvm_fd = FAKE_KVM_FD,
		.iommu_fd = -1,
		.hold_at_reboot = true,
		.hold_at_crash = true,
	};
	return 0;
}

/* Guests */

static int out(struct kvm_run *run, unsigned port, uint8_t value)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = KVM_EXIT_IO_OUT;
	run->io.port = port;
	run->io.size = run->io.count = 1;
	run->io.data_offset = IO_AT;
	((uint8_t *)run)[IO_AT] = value;
	return 0;
}

static int idle(const struct kvm_run *run)
{
	while (!__atomic_load_n(&run->immediate_exit, __ATOMIC_ACQUIRE))
		usleep(1000);
	return -EINTR;
}

static unsigned count_run(unsigned id)
{
	return __atomic_fetch_add(&machine.runs[id], 1, __ATOMIC_ACQ_REL);
}

static int reset_once(unsigned id, struct kvm_run *run)
{
	return count_run(id) ? idle(run) : out(run, RESET_PORT, RESET);
}

/* What another client wants may be under way when the guest resets. */
TEST(a_guest_that_has_reset_does_not_go_on)
{
	struct message message;
	unsigned runs;

	start(reset_once, 1);
	hear(MESSAGE_HELD, 0, &message);
	assert_int_equal(message.end, MACHINE_RESET);
	message_send(machine.control, &(struct message){ .type = MESSAGE_CONT, .id = 7 });
	hear(MESSAGE_REPLY, 0, &message);
	usleep(50000);
	runs = __atomic_load_n(&machine.runs[0], __ATOMIC_ACQUIRE);
	assert_int_equal(end(MESSAGE_RESET), MACHINE_RESET);
	assert_int_equal(message.id, 7);
	assert_int_equal(message.error.code, -EBUSY);
	assert_string_equal(message.error.what, MACHINE_MUST_RESET);
	assert_int_equal(runs, 1);
}

/* And then all reset at once. */
static int repeat(unsigned id, struct kvm_run *run)
{
	if (count_run(id) < 1000)
		return out(run, PANIC_PORT, PANIC_CRASH_LOADED);
	for (unsigned i = 0; i < 4; i++)
		while (__atomic_load_n(&machine.runs[i], __ATOMIC_ACQUIRE) <= 1000)
			usleep(1000);
	return out(run, RESET_PORT, RESET);
}

/* More than a socket has room for would stop them, where the broker does not read. */
TEST(what_guests_repeat_is_told_once)
{
	struct message message;
	unsigned crashes, holds;

	start(repeat, 4);
	crashes = hear(MESSAGE_HELD, MESSAGE_CRASH_LOADED, &message);
	usleep(50000);
	message_send(machine.control, &(struct message){ .type = MESSAGE_CONT, .id = 7 });
	holds = hear(MESSAGE_REPLY, MESSAGE_HELD, &message);
	assert_int_equal(end(MESSAGE_RESET), MACHINE_RESET);
	assert_int_equal(crashes, 1);
	assert_int_equal(holds, 0);
}

static int wait_for_ram(unsigned id, struct kvm_run *run)
{
	if (count_run(id))
		return idle(run);
	machine.devices->ready(machine.devices->opaque);
	return out(run, 0x80, 0);
}

/* The second must not wait for vCPUs that the first has let go on. */
TEST(two_that_wait_for_ram_go_on)
{
	struct message message;
	bool go_on = false;

	late.is = true;
	machine.config.prealloc = true;
	start(wait_for_ram, 2);
	hear(MESSAGE_READY, 0, &message);
	for (unsigned i = 0; i < WAIT_MS && !go_on; i++) {
		usleep(1000);
		go_on = __atomic_load_n(&machine.runs[0], __ATOMIC_ACQUIRE) > 1 &&
			__atomic_load_n(&machine.runs[1], __ATOMIC_ACQUIRE) > 1;
	}
	assert_int_equal(end(0), MACHINE_QUIT);
	assert_true(go_on);
}

static int do_nothing(unsigned id, struct kvm_run *run)
{
	(void)id;
	return idle(run);
}

/* RAM is where a VGA card's memory is on a PC, but not where there is one that a BIOS draws on. */
TEST(a_vga_card_takes_the_place_of_ram)
{
	struct message message;

	for (unsigned i = 0; i < 2; i++) {
		setup(state);
		has_vga = i;
		start(do_nothing, 1);
		hear(MESSAGE_READY, 0, &message);
		assert_int_equal(end(0), MACHINE_QUIT);
		assert_int_equal(fake_kvm.slots[0].guest_phys_addr, 0);
		if (i) {
			assert_int_equal(fake_kvm.slots[0].memory_size, 0xa0000);
			assert_int_equal(fake_kvm.slots[1].guest_phys_addr, 0xc0000);
			assert_int_equal(fake_kvm.slots[1].memory_size, 32 * MIB - 0xc0000);
			assert_int_equal(fake_kvm.slots[1].userspace_addr,
				fake_kvm.slots[0].userspace_addr + 0xc0000);
		} else {
			assert_int_equal(fake_kvm.slots[0].memory_size, 32 * MIB);
		}
	}
	has_vga = false;
}

#define MACHINE_TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MACHINE_TEST(a_guest_that_has_reset_does_not_go_on),
		MACHINE_TEST(what_guests_repeat_is_told_once),
		MACHINE_TEST(two_that_wait_for_ram_go_on),
		MACHINE_TEST(a_vga_card_takes_the_place_of_ram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
