/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest.h"

#include "base/size.h"
#include "test.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void assert_access(const struct guest *guest, unsigned i, bool is_port, bool is_write,
	uint64_t address, unsigned size, uint64_t value)
{
	const struct guest_access *access = &guest->accesses[i];
	uint64_t mask = size == 8 ? UINT64_MAX : (1ULL << 8 * size) - 1;

	if (i >= guest->count || access->is_port != is_port || access->is_write != is_write ||
		access->address != address || access->size != size ||
		(access->value & mask) != value)
		fail_msg("access %u of %u: %s %s of %u at %#llx: %#llx", i, guest->count,
			access->is_port ? "port" : "memory", access->is_write ? "write" : "read",
			access->size, (unsigned long long)access->address,
			(unsigned long long)access->value);
}

#define assert_out(guest, i, ...)   assert_access(guest, i, true, true, __VA_ARGS__)
#define assert_in(guest, i, ...)    assert_access(guest, i, true, false, __VA_ARGS__)
#define assert_wrote(guest, i, ...) assert_access(guest, i, false, true, __VA_ARGS__)
#define assert_read(guest, i, ...)  assert_access(guest, i, false, false, __VA_ARGS__)

GUEST(ports, "mov $0x1234, %dx\n"
	     "movl $0x44332211, %eax\n"
	     "out %al, %dx\n"
	     "out %ax, %dx\n"
	     "out %eax, %dx\n"
	     "xorl %eax, %eax\n"
	     "in %dx, %al\n"
	     "out %eax, %dx\n"
	     "in %dx, %ax\n"
	     "out %eax, %dx\n"
	     "in %dx, %eax\n"
	     "out %eax, %dx\n" GUEST_END)

static void ports_are_read_and_written(void **state)
{
	struct guest *guest = *state;

	guest->answer = 0x81828384;
	guest_run(guest, ports);
	assert_int_equal(guest->count, 9);
	assert_out(guest, 0, 0x1234, 1, 0x11);
	assert_out(guest, 1, 0x1234, 2, 0x2211);
	assert_out(guest, 2, 0x1234, 4, 0x44332211);
	assert_in(guest, 3, 0x1234, 1, 0x84);
	assert_out(guest, 4, 0x1234, 4, 0x84);
	assert_in(guest, 5, 0x1234, 2, 0x8385);
	assert_out(guest, 6, 0x1234, 4, 0x8385);
	assert_in(guest, 7, 0x1234, 4, 0x81828386);
	assert_out(guest, 8, 0x1234, 4, 0x81828386);
}

GUEST(string_io, "mov $0x3f8, %dx\n"
		 "mov $0x180000, %rsi\n"
		 "mov $11, %ecx\n"
		 "cld\n"
		 "rep outsb\n"
		 "mov $0x180000, %rsi\n"
		 "mov $2, %ecx\n"
		 "rep outsw\n"
		 "mov $0x180020, %rdi\n"
		 "mov $4, %ecx\n"
		 "rep insb\n" GUEST_END)

static void strings_go_through_ports(void **state)
{
	struct guest *guest = *state;

	if (guest->ram)
		strcpy((char *)guest->ram + GUEST_DATA, "hello ports");
	guest->answer = 'a';
	guest_run(guest, string_io);
	assert_int_equal(guest->count, 17);
	for (unsigned i = 0; i < 11; i++)
		assert_out(guest, i, 0x3f8, 1, "hello ports"[i]);
	assert_out(guest, 11, 0x3f8, 2, 'h' | 'e' << 8);
	assert_out(guest, 12, 0x3f8, 2, 'l' | 'l' << 8);
	assert_memory_equal((char *)guest->ram + GUEST_DATA + 0x20, "abcd", 5);
}

GUEST(memory_io, "mov $0x80001000, %ebx\n"
		 "mov $0x1122334455667788, %rax\n"
		 "movb %al, (%rbx)\n"
		 "movw %ax, 2(%rbx)\n"
		 "movl %eax, 4(%rbx)\n"
		 "movq %rax, 8(%rbx)\n"
		 "xorl %eax, %eax\n"
		 "movb (%rbx), %al\n"
		 "movq %rax, 0x10(%rbx)\n"
		 "movw 2(%rbx), %ax\n"
		 "movq %rax, 0x10(%rbx)\n"
		 "movl 4(%rbx), %eax\n"
		 "movq %rax, 0x10(%rbx)\n"
		 "movq 8(%rbx), %rax\n"
		 "movq %rax, 0x10(%rbx)\n" GUEST_END)

static void memory_is_read_and_written(void **state)
{
	struct guest *guest = *state;

	guest->answer = 0xa1a2a3a4b1b2b3b4;
	guest_run(guest, memory_io);
	assert_int_equal(guest->count, 12);
	assert_wrote(guest, 0, 0x80001000, 1, 0x88);
	assert_wrote(guest, 1, 0x80001002, 2, 0x7788);
	assert_wrote(guest, 2, 0x80001004, 4, 0x55667788);
	assert_wrote(guest, 3, 0x80001008, 8, 0x1122334455667788);
	assert_read(guest, 4, 0x80001000, 1, 0xb4);
	assert_wrote(guest, 5, 0x80001010, 8, 0xb4);
	assert_read(guest, 6, 0x80001002, 2, 0xb3b5);
	assert_wrote(guest, 7, 0x80001010, 8, 0xb3b5);
	assert_read(guest, 8, 0x80001004, 4, 0xb1b2b3b6);
	assert_wrote(guest, 9, 0x80001010, 8, 0xb1b2b3b6);
	assert_read(guest, 10, 0x80001008, 8, 0xa1a2a3a4b1b2b3b7);
	assert_wrote(guest, 11, 0x80001010, 8, 0xa1a2a3a4b1b2b3b7);
}

GUEST(page_end, "mov $0x80000ffd, %ebx\n"
		"movl $0x44332211, %eax\n"
		"movl %eax, (%rbx)\n" GUEST_END)

/* KVM cuts it where the page ends: three bytes, then one. */
static void an_access_over_a_pages_end_keeps_its_bytes(void **state)
{
	struct guest *guest = *state;
	uint8_t bytes[4] = { 0 };

	guest_run(guest, page_end);
	for (unsigned i = 0; i < guest->count; i++) {
		const struct guest_access *access = &guest->accesses[i];

		assert_true(access->is_write && (access->size & (access->size - 1)) == 0);
		assert_true(access->address >= 0x80000ffd);
		memcpy(bytes + (access->address - 0x80000ffd), &access->value, access->size);
	}
	assert_memory_equal(bytes, "\x11\x22\x33\x44", 4);
}

GUEST(nobody, "mov $0x90000000, %ebx\n"
	      "movq (%rbx), %rax\n"
	      "movq %rax, (%rbx)\n"
	      "mov $0x80001000, %ebx\n"
	      "movq %rax, (%rbx)\n" GUEST_END)

static void what_nobody_claims_reads_as_ones(void **state)
{
	struct guest *guest = *state;

	guest_run(guest, nobody);
	assert_int_equal(guest->count, 1);
	assert_wrote(guest, 0, 0x80001000, 8, UINT64_MAX);
}

/* Slots: the guest reads and writes a page before, while and after it is there. */
GUEST(slots, "mov $0x80000000, %ebx\n"
	     "mov $0x80001000, %ecx\n"
	     "movl (%rcx), %eax\n"
	     "movb $1, %al\n"
	     "out %al, $0xf5\n"
	     "movl (%rcx), %eax\n"
	     "movl %eax, (%rbx)\n"
	     "movl $0x77, (%rcx)\n"
	     "movb $0, %al\n"
	     "out %al, $0xf5\n"
	     "movl (%rcx), %eax\n" GUEST_END)

static uint32_t page[1024] __attribute__((aligned(4096)));
static int slot;

static void map_or_unmap(struct guest *guest, uint64_t map)
{
	if (map & 1)
		slot = kvm_slot_map(guest->vm, GUEST_MMIO + 0x1000, sizeof(page), page, 0);
	else
		kvm_slot_unmap(guest->vm, slot);
}

static void a_slot_is_there_while_it_is_mapped(void **state)
{
	struct guest *guest = *state;

	page[0] = 0x42;
	guest->action = map_or_unmap;
	guest_run(guest, slots);
	assert_true(slot >= 0);
	assert_int_equal(guest->count, 3);
	assert_read(guest, 0, GUEST_MMIO + 0x1000, 4, 0);
	assert_wrote(guest, 1, GUEST_MMIO, 4, 0x42);
	assert_read(guest, 2, GUEST_MMIO + 0x1000, 4, 1);
	assert_int_equal(page[0], 0x77);
}

GUEST(read_only, "mov $0x80001000, %ecx\n"
		 "movb $1, %al\n"
		 "out %al, $0xf5\n"
		 "movl (%rcx), %eax\n"
		 "movl $0x77, (%rcx)\n"
		 "movl (%rcx), %eax\n"
		 "movl %eax, -0x1000(%rcx)\n" GUEST_END)

static void map_read_only(struct guest *guest, uint64_t value)
{
	(void)value;
	slot = kvm_slot_map(guest->vm, GUEST_MMIO + 0x1000, sizeof(page), page, KVM_MEM_READONLY);
}

static void a_write_to_a_read_only_slot_is_trapped(void **state)
{
	struct guest *guest = *state;

	page[0] = 0x42;
	guest->action = map_read_only;
	guest_run(guest, read_only);
	assert_int_equal(guest->count, 2);
	assert_wrote(guest, 0, GUEST_MMIO + 0x1000, 4, 0x77);
	assert_wrote(guest, 1, GUEST_MMIO, 4, 0x42);
	assert_int_equal(page[0], 0x42);
}

/* Running, stopping, failing */

GUEST(spin, "out %al, $0xf4\n1: jmp 1b\n")
GUEST(halt, "out %al, $0xf4\n1: hlt\njmp 1b\n")

static void assert_stops(struct guest *guest)
{
	struct timespec before, after;

	clock_gettime(CLOCK_MONOTONIC, &before);
	guest_stop(guest);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true(after.tv_sec - before.tv_sec < 5);
}

static void a_spinning_guest_is_stopped(void **state)
{
	struct guest *guest = *state;

	guest_start(guest, spin);
	guest_wait(guest, &guest->dones, 1);
	assert_stops(guest);
}

static void a_halted_guest_is_stopped(void **state)
{
	struct guest *guest = *state;

	guest_start(guest, halt);
	guest_wait(guest, &guest->dones, 1);
	assert_stops(guest);
}

/* A kick that comes before KVM_RUN does must not be lost. */
static void a_guest_is_stopped_at_once(void **state)
{
	for (unsigned i = 0; i < 20; i++) {
		struct guest *guest = *state;

		guest_start(guest, spin);
		assert_stops(guest);
		/* A VM keeps the number of a vCPU that is gone: another one, then. */
		guest_teardown(state);
		assert_int_equal(guest_setup(state), 0);
	}
}

GUEST(triple_fault, "movw $0, 0x180000\n"
		    "movq $0, 0x180002\n"
		    "lidt 0x180000\n"
		    "ud2\n")

static void a_triple_fault_is_a_reset(void **state)
{
	struct guest *guest = *state;

	guest_start(guest, triple_fault);
	guest_wait(guest, &guest->resets, 1);
	guest_stop(guest);
	assert_int_equal(guest->resets, 1);
	assert_int_equal(guest->failures, 0);
}

GUEST(start, "mov $0x80000000, %ebx\n"
	     "movq %rsi, (%rbx)\n"
	     "mov $0x80000, %esp\n"
	     "pushfq\n"
	     "popq %rax\n"
	     "movq %rax, (%rbx)\n"
	     "movq %cr0, %rax\n"
	     "movq %rax, (%rbx)\n"
	     "movw %cs, %ax\n"
	     "movw %ax, (%rbx)\n"
	     "movw %ds, %ax\n"
	     "movw %ax, (%rbx)\n" GUEST_END)

/* Linux Documentation/arch/x86/boot.rst, 64-bit boot protocol. */
static void it_starts_as_the_boot_protocol_wants(void **state)
{
	struct guest *guest = *state;

	guest_run(guest, start);
	assert_int_equal(guest->count, 5);
	assert_wrote(guest, 0, GUEST_MMIO, 8, 0x5151);
	/* Interrupts are off. */
	assert_int_equal(guest->accesses[1].value & (1 << 9), 0);
	assert_int_equal(guest->accesses[2].value & 0x80000001, 0x80000001);
	assert_wrote(guest, 3, GUEST_MMIO, 2, 0x10);
	assert_wrote(guest, 4, GUEST_MMIO, 2, 0x18);
}

/* Interrupts */

#define KVM_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(ports_are_read_and_written),
		KVM_TEST(strings_go_through_ports),
		KVM_TEST(memory_is_read_and_written),
		KVM_TEST(an_access_over_a_pages_end_keeps_its_bytes),
		KVM_TEST(what_nobody_claims_reads_as_ones),
		KVM_TEST(a_slot_is_there_while_it_is_mapped),
		KVM_TEST(a_write_to_a_read_only_slot_is_trapped),
		KVM_TEST(a_spinning_guest_is_stopped),
		KVM_TEST(a_halted_guest_is_stopped),
		KVM_TEST(a_guest_is_stopped_at_once),
		KVM_TEST(a_triple_fault_is_a_reset),
		KVM_TEST(it_starts_as_the_boot_protocol_wants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
