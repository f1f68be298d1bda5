/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest.h"

#include "base/fd.h"
#include "base/size.h"
#include "kvm/cpuid.h"
#include "test.h"

#include <errno.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
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

/* Both directions, all widths, more than one at a time, and from the end to the start. */
GUEST(words, "mov $0x180000, %rsi\n"
	     "mov $0x180100, %rdi\n"
	     "mov $0x1f0, %dx\n"
	     "cld\n"
	     "mov $5, %ecx\n"
	     "rep outsw\n"
	     "mov $3, %ecx\n"
	     "rep outsl\n"
	     "mov $5, %ecx\n"
	     "rep insw\n"
	     "mov $3, %ecx\n"
	     "rep insl\n" GUEST_END)

static void strings_of_words_go_both_ways(void **state)
{
	struct guest *guest = *state;
	uint8_t *data = (uint8_t *)guest->ram + GUEST_DATA;

	for (unsigned i = 0; guest->ram && i < 0x200; i++)
		data[i] = i;
	guest->answer = 0xf1f0e1e0;
	guest_run(guest, words);
	assert_int_equal(guest->count, 16);
	for (unsigned i = 0; i < 5; i++)
		assert_out(guest, i, 0x1f0, 2, 2 * i | (2 * i + 1) << 8);
	for (unsigned i = 0; i < 3; i++)
		assert_out(guest, 5 + i, 0x1f0, 4, 0x0d0c0b0aU + i * 0x04040404);
	for (unsigned i = 0; i < 5; i++) {
		assert_in(guest, 8 + i, 0x1f0, 2, 0xe1e0 + i);
		assert_int_equal(*(uint16_t *)(data + 0x100 + 2 * i), 0xe1e0 + i);
	}
	for (unsigned i = 0; i < 3; i++) {
		assert_in(guest, 13 + i, 0x1f0, 4, 0xf1f0e1e5 + i);
		assert_memory_equal(data + 0x10a + 4 * i, &guest->accesses[13 + i].value, 4);
	}
	assert_int_equal(data[0xff], 0xff);
	assert_int_equal(data[0x116], 0x16);
}

GUEST(backwards, "mov $0x180007, %rsi\n"
		 "mov $0x180010, %rdi\n"
		 "mov $0x1f0, %dx\n"
		 "std\n"
		 "mov $4, %ecx\n"
		 "rep outsb\n"
		 "mov $3, %ecx\n"
		 "rep insb\n" GUEST_END)

static void strings_may_go_backwards(void **state)
{
	struct guest *guest = *state;
	uint8_t *data = (uint8_t *)guest->ram + GUEST_DATA;

	for (unsigned i = 0; guest->ram && i < 0x20; i++)
		data[i] = i;
	guest->answer = 0x91;
	guest_run(guest, backwards);
	assert_int_equal(guest->count, 7);
	for (unsigned i = 0; i < 4; i++)
		assert_out(guest, i, 0x1f0, 1, 7 - i);
	for (unsigned i = 0; i < 3; i++)
		assert_in(guest, 4 + i, 0x1f0, 1, 0x91 + i);
	assert_memory_equal(data + 0xd, "\x0d\x93\x92\x91\x11", 5);
}

/* Longer than what KVM hands over at once, which is a page. */
GUEST(long_string, "mov $0x180001, %rsi\n"
		   "mov $0x1f0, %dx\n"
		   "mov $5000, %ecx\n"
		   "cld\n"
		   "rep outsb\n" GUEST_END)

static void a_long_string_goes_out(void **state)
{
	struct guest *guest = *state;
	uint8_t *data = (uint8_t *)guest->ram + GUEST_DATA;

	for (unsigned i = 0; guest->ram && i < 6000; i++)
		data[i] = i % 251;
	guest_run(guest, long_string);
	/* Of those that are noted. */
	assert_int_equal(guest->count, ARRAY_SIZE(guest->accesses));
	assert_int_equal(guest->port_bytes, 5000);
	for (unsigned i = 0; i < guest->count; i++)
		assert_out(guest, i, 0x1f0, 1, (i + 1) % 251);
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

GUEST(unaligned, "mov $0x80001000, %ebx\n"
		 "mov $0x1122334455667788, %rax\n"
		 "movw %ax, 1(%rbx)\n"
		 "movl %eax, 3(%rbx)\n"
		 "movq %rax, 9(%rbx)\n"
		 "movq 0x21(%rbx), %rax\n"
		 "movq %rax, (%rbx)\n" GUEST_END)

static void an_unaligned_access_stays_whole(void **state)
{
	struct guest *guest = *state;

	guest->answer = 0xa1a2a3a4b1b2b3b4;
	guest_run(guest, unaligned);
	assert_int_equal(guest->count, 5);
	assert_wrote(guest, 0, 0x80001001, 2, 0x7788);
	assert_wrote(guest, 1, 0x80001003, 4, 0x55667788);
	assert_wrote(guest, 2, 0x80001009, 8, 0x1122334455667788);
	assert_read(guest, 3, 0x80001021, 8, 0xa1a2a3a4b1b2b3b4);
	assert_wrote(guest, 4, 0x80001000, 8, 0xa1a2a3a4b1b2b3b4);
}

/* Five bytes, then three; each piece's part of an answer ends up in its place. */
GUEST(page_end_read, "mov $0x80000ffb, %ebx\n"
		     "mov $0x80002000, %ecx\n"
		     "movq (%rbx), %rax\n"
		     "movq %rax, (%rcx)\n"
		     "movl 2(%rbx), %eax\n"
		     "movl %eax, (%rcx)\n" GUEST_END)

static void a_read_over_a_pages_end_keeps_its_bytes(void **state)
{
	struct guest *guest = *state;
	uint64_t value = 0, seen = 0;

	guest->answer = 0x0807060504030201;
	guest_run(guest, page_end_read);
	/* The reads up to the first write make up what it writes. */
	for (unsigned i = 0; i < guest->count && seen < 2; i++) {
		const struct guest_access *access = &guest->accesses[i];
		unsigned shift = access->address - (seen ? 0x80000ffd : 0x80000ffb);

		if (access->is_write) {
			assert_wrote(guest, i, 0x80002000, seen ? 4 : 8, value);
			seen++;
			value = 0;
			continue;
		}
		assert_true(shift + access->size <= (seen ? 4 : 8));
		assert_true((access->address & 0xfff) + access->size <= 0x1000);
		value |= (access->value & (UINT64_MAX >> (64 - 8 * access->size))) << 8 * shift;
	}
	assert_int_equal(seen, 2);
}

/* The range ends where its last page does: half of the access is nobody's. */
GUEST(range_end, "mov $0x8000fffc, %ebx\n"
		 "mov $0x80000000, %ecx\n"
		 "mov $0x1122334455667788, %rax\n"
		 "movq %rax, (%rbx)\n"
		 "movq (%rbx), %rax\n"
		 "movq %rax, (%rcx)\n" GUEST_END)

static void an_access_over_a_ranges_end_is_half_nobodys(void **state)
{
	struct guest *guest = *state;

	guest->answer = 0x42434445;
	guest_run(guest, range_end);
	assert_int_equal(guest->count, 3);
	assert_wrote(guest, 0, 0x8000fffc, 4, 0x55667788);
	assert_read(guest, 1, 0x8000fffc, 4, 0x42434445);
	assert_wrote(guest, 2, 0x80000000, 8, 0xffffffff42434445);
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

static void slots_do_not_overlap(void **state)
{
	static uint8_t pages[2 * 4096] __attribute__((aligned(4096)));
	struct guest *guest = *state;
	int first;

	if (!guest->vm)
		test_skip("no /dev/kvm");
	first = kvm_slot_map(guest->vm, GUEST_MMIO, 8192, pages, 0);
	assert_true(first > 0);
	assert_int_equal(kvm_slot_map(guest->vm, GUEST_MMIO + 4096, 8192, pages, 0), -EEXIST);
	assert_int_equal(kvm_slot_map(guest->vm, 0, 4096, pages, 0), -EEXIST);
	assert_true(kvm_slot_map(guest->vm, GUEST_MMIO + 8192, 4096, pages, 0) > first);
	kvm_slot_unmap(guest->vm, first);
	assert_int_equal(kvm_slot_map(guest->vm, GUEST_MMIO, 4096, pages, 0), first);
}

/* Memory that others see, too */

#define SHARED_AT 0x40000000ULL

/* Read what another process left there, tell it, and write an answer at both ends. */
GUEST(shared, "mov $0x40000000, %ebx\n"
	      "mov $0x80000000, %ecx\n"
	      "movq 0x123450(%rbx), %rax\n"
	      "movq %rax, (%rcx)\n"
	      "movq $0x5566, (%rbx)\n"
	      "movq $0x7788, 0x3ffff8(%rbx)\n" GUEST_END)

static void assert_shared(struct guest *guest, enum memory_kind kind)
{
	unsigned flags = kind == MEMORY_HUGETLB ? MFD_HUGETLB | MFD_HUGE_2MB : 0;
	struct memory memory;
	struct error err = { 0 };
	struct statfs of;
	uint64_t *other;

	assert_int_equal(memory_place(&memory, 4 * MIB, MEMORY_PAGE, NULL, 0, &err), 0);
	if (memory_map(&memory, memory_file(4 * MIB, flags), kind, &err) ||
		memory_populate(&memory, 0, 4 * MIB, &err))
		fail_msg("%s", err.what);
	assert_int_equal(fstatfs(memory.fd, &of), 0);
	assert_int_equal(of.f_type == HUGETLBFS_MAGIC, kind == MEMORY_HUGETLB);
	/* As another process would. */
	other = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0);
	assert_ptr_not_equal(other, MAP_FAILED);
	other[0x123450 / 8] = 0x1122334455667788;
	assert_true(kvm_slot_map(guest->vm, SHARED_AT, 4 * MIB, memory.regions[0].hva, 0) >= 0);
	guest_run(guest, shared);
	assert_int_equal(guest->count, 1);
	assert_wrote(guest, 0, GUEST_MMIO, 8, 0x1122334455667788);
	assert_int_equal(other[0], 0x5566);
	assert_int_equal(other[4 * MIB / 8 - 1], 0x7788);
	munmap(other, 4 * MIB);
	memory_free(&memory);
}

static void memory_is_seen_through_its_file(void **state)
{
	struct guest *guest = *state;

	if (!guest->vm)
		test_skip("no /dev/kvm");
	assert_shared(guest, MEMORY_COLLAPSE);
}

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static int read_number(const char *path)
{
	char text[32];

	return fd_read_file(path, text, sizeof(text)) < 0 ? -1 : atoi(text);
}

static void memory_of_huge_pages_is_seen_through_its_file(void **state)
{
	struct guest *guest = *state;
	int total = read_number(POOL "nr_hugepages");
	bool fits = read_number(POOL "free_hugepages") >= 2;
	char text[16];

	if (!guest->vm)
		test_skip("no /dev/kvm");
	snprintf(text, sizeof(text), "%d", total + 2);
	if (!fits && (total < 0 || fd_write_file(POOL "nr_hugepages", text) ||
			     read_number(POOL "free_hugepages") < 2))
		test_skip("no huge pages can be had");
	assert_shared(guest, MEMORY_HUGETLB);
	snprintf(text, sizeof(text), "%d", total);
	if (!fits)
		assert_int_equal(fd_write_file(POOL "nr_hugepages", text), 0);
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

/* Those that wait for a start-up IPI as well. */
static void many_vcpus_are_stopped(void **state)
{
	struct guest *guest = *state;

	guest->cpus = 4;
	guest_start(guest, spin);
	guest_wait(guest, &guest->dones, 1);
	assert_stops(guest);
	assert_int_equal(guest->dones, 1);
	assert_int_equal(guest->failures, 0);
}

static void tables_may_be_filled_before(void **state)
{
	struct guest *guest = *state;

	guest->cpus = 3;
	guest->prefault = GUEST_RAM / (64 * KIB);
	guest->answer = 1;
	guest_run(guest, ports);
	assert_int_equal(guest->count, 9);
}

static void a_kick_comes_before_the_run(void **state)
{
	struct guest *guest = *state;
	struct error err = { 0 };
	struct kvm_vcpu vcpu;

	if (!guest->vm)
		test_skip("no /dev/kvm");
	assert_int_equal(kvm_vcpu_open(&vcpu, guest->vm, &KVM_CPUS(8), 7, &err), 0);
	kvm_vcpu_kick(&vcpu);
	assert_int_equal(kvm_vcpu_run(&vcpu), -EINTR);
	kvm_vcpu_close(&vcpu);
}

/* INIT and two start-up IPIs to all others, at 8000; each says which CPU it is and stops. */
GUEST(start_up, "mov $0xfee00000, %ebp\n"
		"movl $0x1ff, 0xf0(%rbp)\n"
		"out %al, $0xf4\n"
		"movl $0xc4500, 0x300(%rbp)\n"
		"movl $0xc4608, 0x300(%rbp)\n"
		"1: jmp 1b\n")

/* In real mode: CPUID's leaf 1 tells the APIC ID. */
__asm__(".pushsection .rodata\n.code16\nother_cpu:\n"
	"mov $1, %eax\n"
	"cpuid\n"
	"mov %ebx, %eax\n"
	"shr $24, %eax\n"
	"out %al, $0xe0\n"
	"9: hlt\n"
	"jmp 9b\n"
	"other_cpu_end:\n.code64\n.popsection");
extern const uint8_t other_cpu[], other_cpu_end[];

static void other_cpus_wait_for_a_start_up(void **state)
{
	struct guest *guest = *state;
	unsigned seen = 0;

	guest->cpus = 4;
	if (guest->ram)
		memcpy((char *)guest->ram + 0x8000, other_cpu, other_cpu_end - other_cpu);
	guest_start(guest, start_up);
	guest_wait(guest, &guest->count, 3);
	guest_stop(guest);
	assert_int_equal(guest->count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(guest->accesses[i].address, 0xe0);
		seen |= 1 << (guest->accesses[i].value & 0xff);
	}
	assert_int_equal(seen, 0xe);
}

/* Leaves 1, b.0, b.1, and 80000008, as the guest's kernel reads them. */
GUEST(identity, "mov $0x80000000, %edi\n"
		"mov $1, %eax\n"
		"cpuid\n"
		"movl %ebx, (%rdi)\n"
		"movl %ecx, (%rdi)\n"
		"movl %edx, (%rdi)\n"
		"mov $0xb, %eax\n"
		"mov $1, %ecx\n"
		"cpuid\n"
		"movl %ebx, (%rdi)\n"
		"mov $0x80000008, %eax\n"
		"cpuid\n"
		"movl %eax, (%rdi)\n" GUEST_END)

static void the_guest_sees_its_topology(void **state)
{
	struct guest *guest = *state;
	uint32_t bits;

	guest->cpus = 3;
	guest_run(guest, identity);
	assert_int_equal(guest->count, 5);
	/* APIC ID 0, room for four. */
	assert_int_equal(guest->accesses[0].value >> 16, 4);
	assert_true(guest->accesses[1].value >> 31 & 1); /* a hypervisor */
	assert_true(guest->accesses[2].value >> 28 & 1); /* more than one */
	/* Not every CPU has leaf b. */
	assert_true(guest->accesses[3].value == 3 || guest->accesses[3].value == 0);
	bits = guest->accesses[4].value & 0xff;
	assert_in_range(kvm_physical_bits(guest->kvm_fd), 32, bits);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		KVM_TEST(ports_are_read_and_written),
		KVM_TEST(strings_go_through_ports),
		KVM_TEST(strings_of_words_go_both_ways),
		KVM_TEST(strings_may_go_backwards),
		KVM_TEST(a_long_string_goes_out),
		KVM_TEST(memory_is_read_and_written),
		KVM_TEST(an_access_over_a_pages_end_keeps_its_bytes),
		KVM_TEST(an_unaligned_access_stays_whole),
		KVM_TEST(a_read_over_a_pages_end_keeps_its_bytes),
		KVM_TEST(an_access_over_a_ranges_end_is_half_nobodys),
		KVM_TEST(what_nobody_claims_reads_as_ones),
		KVM_TEST(a_slot_is_there_while_it_is_mapped),
		KVM_TEST(a_write_to_a_read_only_slot_is_trapped),
		KVM_TEST(slots_do_not_overlap),
		KVM_TEST(memory_is_seen_through_its_file),
		KVM_TEST(memory_of_huge_pages_is_seen_through_its_file),
		KVM_TEST(a_spinning_guest_is_stopped),
		KVM_TEST(a_halted_guest_is_stopped),
		KVM_TEST(a_guest_is_stopped_at_once),
		KVM_TEST(many_vcpus_are_stopped),
		KVM_TEST(tables_may_be_filled_before),
		KVM_TEST(a_kick_comes_before_the_run),
		KVM_TEST(other_cpus_wait_for_a_start_up),
		KVM_TEST(the_guest_sees_its_topology),
		KVM_TEST(a_triple_fault_is_a_reset),
		KVM_TEST(it_starts_as_the_boot_protocol_wants),
	};

	return test_run(tests);
}
