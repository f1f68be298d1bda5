/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest.h"

#include "test.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define VECTOR 0x40
#define PIN    16   /* of the IOAPIC */
#define TOLD   0xe0 /* the port that the handler writes to */

#define IDT_AT   0x60000
#define IDTR_AT  "0x180000" /* GUEST_DATA */
#define GATE     0x8e00     /* present, privilege 0, interrupt gate */
#define SELECTOR 0x10       /* of the code */

/*
 * A stack, the interrupt table, and the local APIC's software enable. The handler tells a port and
 * ends the interrupt.
 */
#define INTERRUPTS_ON             \
	"mov $0x80000, %esp\n"    \
	"lidt " IDTR_AT "\n"      \
	"mov $0xfee00000, %ebp\n" \
	"movl $0x1ff, 0xf0(%rbp)\n"

#define WAIT_FOR_INTERRUPTS \
	"out %al, $0xf4\n"  \
	"sti\n"             \
	"1: hlt\n"          \
	"jmp 1b\n"

#define HANDLER(label)                \
	label ":\n"                   \
	      "push %rax\n"           \
	      "mov $0x55, %al\n"      \
	      "out %al, $0xe0\n"      \
	      "movl $0, 0xb0(%rbp)\n" \
	      "pop %rax\n"            \
	      "iretq\n"

extern const uint8_t msi_handler[], level_handler[];

GUEST(msi, INTERRUPTS_ON WAIT_FOR_INTERRUPTS HANDLER("msi_handler"))

/* The IOAPIC's index and data registers are at FEC00000 and FEC00010; pin 16 is entry 30 and 31. */
GUEST(level,
	INTERRUPTS_ON "mov $0xfec00000, %ebx\n"
		      "movl $0x31, (%rbx)\n"
		      "movl $0, 0x10(%rbx)\n"
		      "movl $0x30, (%rbx)\n"
		      "movl $0x8040, 0x10(%rbx)\n" WAIT_FOR_INTERRUPTS HANDLER("level_handler"))

static void set_gate(struct guest *guest, uint64_t handler)
{
	uint32_t *gate = (uint32_t *)((char *)guest->ram + IDT_AT + 16 * VECTOR);
	uint64_t base = IDT_AT;
	uint16_t limit = 0xfff;

	gate[0] = SELECTOR << 16 | (handler & 0xffff);
	gate[1] = (handler & 0xffff0000) | GATE;
	gate[2] = handler >> 32;
	memcpy((char *)guest->ram + GUEST_DATA, &limit, 2);
	memcpy((char *)guest->ram + GUEST_DATA + 2, &base, 8);
}

static void start(
	struct guest *guest, const uint8_t *code, const uint8_t *end, const uint8_t *handler)
{
	if (guest->ram)
		set_gate(guest, GUEST_CODE + (handler - code));
	guest_start_code(guest, code, end - code);
	guest_wait(guest, &guest->dones, 1);
}

static void an_msi_wakes_a_halted_guest(void **state)
{
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), gsi;
	struct guest *guest = *state;

	start(guest, guest_msi, guest_msi_end, msi_handler);
	gsi = kvm_gsi_alloc(guest->vm);
	assert_int_equal(gsi, KVM_IOAPIC_PINS);
	kvm_route_msi(guest->vm, gsi, 0xfee00000, VECTOR);
	assert_int_equal(kvm_routes_commit(guest->vm), 0);
	/* What was counted before is delivered by the attach. */
	eventfd_write(event, 1);
	assert_int_equal(kvm_irqfd_attach(guest->vm, gsi, event, -1), 0);
	guest_wait(guest, &guest->count, 1);
	eventfd_write(event, 1);
	guest_wait(guest, &guest->count, 2);
	/* Detached it is only counted. */
	kvm_irqfd_detach(guest->vm, gsi, event);
	eventfd_write(event, 1);
	usleep(100000);
	assert_int_equal(guest->count, 2);
	assert_int_equal(kvm_irqfd_attach(guest->vm, gsi, event, -1), 0);
	guest_wait(guest, &guest->count, 3);
	kvm_irqfd_detach(guest->vm, gsi, event);
	guest_stop(guest);
	assert_int_equal(guest->accesses[2].address, TOLD);
	close(event);
}

static void a_level_is_lowered_and_told_at_the_guests_end(void **state)
{
	int trigger = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd told = { .fd = resample, .events = POLLIN };
	struct guest *guest = *state;
	eventfd_t count;

	start(guest, guest_level, guest_level_end, level_handler);
	assert_int_equal(kvm_irqfd_attach(guest->vm, PIN, trigger, resample), 0);
	for (unsigned i = 1; i <= 2; i++) {
		eventfd_write(trigger, 1);
		guest_wait(guest, &guest->count, i);
		assert_int_equal(poll(&told, 1, 5000), 1);
		eventfd_read(resample, &count);
	}
	/* It was lowered, so it is not taken again. */
	usleep(100000);
	assert_int_equal(guest->count, 2);
	kvm_irqfd_detach(guest->vm, PIN, trigger);
	guest_stop(guest);
	close(trigger);
	close(resample);
}

/* As the routes of a device that the guest has switched off, and then on again. */
static void a_freed_route_carries_nothing(void **state)
{
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), gsi;
	struct guest *guest = *state;

	start(guest, guest_msi, guest_msi_end, msi_handler);
	gsi = kvm_gsi_alloc(guest->vm);
	kvm_route_msi(guest->vm, gsi, 0xfee00000, VECTOR);
	assert_int_equal(kvm_routes_commit(guest->vm), 0);
	assert_int_equal(kvm_irqfd_attach(guest->vm, gsi, event, -1), 0);
	eventfd_write(event, 1);
	guest_wait(guest, &guest->count, 1);
	kvm_gsi_free(guest->vm, gsi);
	assert_int_equal(kvm_routes_commit(guest->vm), 0);
	eventfd_write(event, 1);
	usleep(100000);
	assert_int_equal(guest->count, 1);
	assert_int_equal(kvm_gsi_alloc(guest->vm), gsi);
	kvm_route_msi(guest->vm, gsi, 0xfee00000, VECTOR);
	assert_int_equal(kvm_routes_commit(guest->vm), 0);
	eventfd_write(event, 1);
	guest_wait(guest, &guest->count, 2);
	kvm_irqfd_detach(guest->vm, gsi, event);
	guest_stop(guest);
	close(event);
}

/* Nor does a level get through, or its end get told. */
static void a_detached_level_is_only_counted(void **state)
{
	int trigger = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd told = { .fd = resample, .events = POLLIN };
	struct guest *guest = *state;

	start(guest, guest_level, guest_level_end, level_handler);
	assert_int_equal(kvm_irqfd_attach(guest->vm, PIN, trigger, resample), 0);
	kvm_irqfd_detach(guest->vm, PIN, trigger);
	eventfd_write(trigger, 1);
	assert_int_equal(poll(&told, 1, 100), 0);
	assert_int_equal(guest->count, 0);
	assert_int_equal(kvm_irqfd_attach(guest->vm, PIN, trigger, resample), 0);
	guest_wait(guest, &guest->count, 1);
	assert_int_equal(poll(&told, 1, 5000), 1);
	kvm_irqfd_detach(guest->vm, PIN, trigger);
	guest_stop(guest);
	close(trigger);
	close(resample);
}

/* What is no file of VFIO's is refused; one that is takes a device, which the lab has. */
static void only_a_file_of_vfio_is_taken_for_one(void **state)
{
	int event = eventfd(0, EFD_CLOEXEC);
	struct guest *guest = *state;

	if (!guest->vm)
		test_skip("no /dev/kvm");
	assert_true(kvm_add_vfio_file(guest->vm, event) < 0);
	assert_true(kvm_add_vfio_file(guest->vm, -1) < 0);
	close(event);
}

/* The lines that the platform's own devices use. */
static void a_line_is_a_level(void **state)
{
	struct guest *guest = *state;

	start(guest, guest_level, guest_level_end, level_handler);
	kvm_irq_line(guest->vm, PIN, true);
	guest_wait(guest, &guest->count, 3); /* again and again while it is up */
	kvm_irq_line(guest->vm, PIN, false);
	guest_stop(guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(an_msi_wakes_a_halted_guest),
		KVM_TEST(a_level_is_lowered_and_told_at_the_guests_end),
		KVM_TEST(a_line_is_a_level),
		KVM_TEST(a_freed_route_carries_nothing),
		KVM_TEST(a_detached_level_is_only_counted),
		KVM_TEST(only_a_file_of_vfio_is_taken_for_one),
	};

	return test_run(tests);
}
