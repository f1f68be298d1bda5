/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "fake_kvm.h"
#include "machine/layout.h"
#include "machine/platform/flash.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CODE      (64 * KIB)
#define VARIABLES (16 * KIB)
#define BASE      (LAYOUT_4G - CODE - VARIABLES)

struct fixture {
	struct kvm_vm *vm;
	struct space mmio;
	struct flash flash;
	int code, nvram;
	struct error err;
};

static int make_file(uint64_t size, uint8_t byte)
{
	uint8_t bytes[4 * KIB];
	int fd = memfd_create("flash", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	memset(bytes, byte, sizeof(bytes));
	for (uint64_t done = 0; done < size; done += sizeof(bytes))
		assert_int_equal(pwrite(fd, bytes, min_u64(sizeof(bytes), size - done), done),
			min_u64(sizeof(bytes), size - done));
	return fd;
}

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	fake_kvm_reset();
	space_init(&fixture.mmio);
	fixture.vm = kvm_vm_new(FAKE_KVM_FD, &fixture.err);
	fixture.code = make_file(CODE, 0xc0);
	fixture.nvram = make_file(VARIABLES, 0x5a);
	*state = &fixture;
	return fixture.err.code;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	flash_destroy(&fixture->flash);
	kvm_vm_free(fixture->vm);
	space_destroy(&fixture->mmio);
	close(fixture->code);
	close(fixture->nvram);
	return 0;
}

static int try(struct fixture *fixture)
{
	fixture->err = (struct error){ 0 };
	return flash_init(&fixture->flash, fixture->vm, &fixture->mmio, fixture->code, "code",
		fixture->nvram, "vars", &fixture->err);
}

static uint8_t get(struct fixture *fixture, uint64_t offset)
{
	return space_read(&fixture->mmio, BASE + offset, 1);
}

static void set(struct fixture *fixture, uint64_t offset, uint8_t value)
{
	space_write(&fixture->mmio, BASE + offset, 1, value);
}

static uint8_t kept(struct fixture *fixture, uint64_t offset)
{
	uint8_t byte = 0;

	assert_int_equal(pread(fixture->nvram, &byte, 1, offset), 1);
	return byte;
}

static bool is_mapped(struct fixture *fixture)
{
	return fixture->flash.slot >= 0;
}

static void code_and_variables_end_at_4_gib(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(try(fixture), 0);
	assert_int_equal(fake_kvm.slot.guest_phys_addr, BASE);
	assert_int_equal(fake_kvm.slot.memory_size, VARIABLES);
	assert_int_equal(fake_kvm.slot.flags, KVM_MEM_READONLY);
	assert_int_equal(fixture->flash.code[CODE - 1], 0xc0);
	assert_int_equal(get(fixture, VARIABLES - 1), 0x5a);
	set(fixture, VARIABLES, 0x70); /* the code's: nobody is there */
	assert_true(is_mapped(fixture));
}

static void code_alone_is_a_rom(void **state)
{
	struct fixture *fixture = *state;

	close(fixture->nvram);
	fixture->nvram = -1;
	assert_int_equal(try(fixture), 0);
	assert_int_equal(fake_kvm.slot.guest_phys_addr, LAYOUT_4G - CODE);
	assert_int_equal(fake_kvm.slot.memory_size, CODE);
	assert_int_equal(get(fixture, 0), 0xff);
}

/* Of the code's pages, how many this process has. */
static unsigned pages_there(const struct flash *flash)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	unsigned there = 0;
	uint64_t entry;

	for (uint64_t page = 0; page < CODE / 4096; page++) {
		assert_int_equal(pread(fd, &entry, sizeof(entry),
					 ((uintptr_t)flash->code / 4096 + page) * sizeof(entry)),
			sizeof(entry));
		there += entry >> 63;
	}
	close(fd);
	return there;
}

static void code_that_has_run_takes_no_memory(void **state)
{
	struct fixture *fixture = *state;
	unsigned sum = 0;

	assert_int_equal(try(fixture), 0);
	for (unsigned at = 0; at < CODE; at += 4096)
		sum += fixture->flash.code[at];
	assert_int_equal(sum, CODE / 4096 * 0xc0);
	assert_int_equal(pages_there(&fixture->flash), CODE / 4096);
	flash_forget_code(&fixture->flash);
	assert_int_equal(pages_there(&fixture->flash), 0);
	assert_int_equal(fixture->flash.code[CODE - 1], 0xc0);
}

/* As OVMF finds out whether this is RAM, ROM or flash. */
static void firmware_recognizes_a_flash(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(try(fixture), 0);
	set(fixture, 0, 0x50);
	assert_int_equal(get(fixture, 0), 0x5a); /* no RAM */
	set(fixture, 0, 0x70);
	assert_int_equal(get(fixture, 0), 0x00); /* no ROM either */
	assert_false(is_mapped(fixture));
	set(fixture, 0, 0xff);
	assert_int_equal(get(fixture, 0), 0x5a);
	assert_true(is_mapped(fixture));
}

/* As OVMF writes a variable: in pieces, and none of it is read back. */
static void the_slot_comes_back_with_the_next_read(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(try(fixture), 0);
	assert_true(is_mapped(fixture));
	for (unsigned i = 0; i < 8; i++) {
		set(fixture, i, 0x10);
		set(fixture, i, i);
		set(fixture, i, 0xff);
		assert_false(is_mapped(fixture));
	}
	assert_int_equal(get(fixture, 7), 7);
	assert_true(is_mapped(fixture));
	assert_memory_equal(fixture->flash.bytes, "\0\1\2\3\4\5\6\7", 8);
}

static void a_byte_is_in_the_file_when_it_is_written(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(try(fixture), 0);
	set(fixture, 7, 0x10);
	assert_false(is_mapped(fixture));
	assert_int_equal(kept(fixture, 7), 0x5a);
	set(fixture, 7, 0x42);
	assert_int_equal(kept(fixture, 7), 0x42);
	assert_int_equal(get(fixture, 7), 0x80); /* done */
	set(fixture, 7, 0xff);
	assert_int_equal(get(fixture, 7), 0x42);
	assert_int_equal(get(fixture, 6), 0x5a);
	assert_int_equal(get(fixture, 8), 0x5a);
	assert_int_equal(kept(fixture, 8), 0x5a);
	/* The byte may be any: no command then. */
	set(fixture, 8, 0x40);
	set(fixture, 8, 0x20);
	set(fixture, 8, 0xff);
	assert_int_equal(kept(fixture, 8), 0x20);
}

static void a_block_is_erased(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(try(fixture), 0);
	set(fixture, 4 * KIB + 123, 0x20);
	set(fixture, 4 * KIB + 123, 0xd0);
	assert_int_equal(get(fixture, 0), 0x80);
	set(fixture, 0, 0xff);
	assert_int_equal(get(fixture, 4 * KIB - 1), 0x5a);
	assert_int_equal(get(fixture, 4 * KIB), 0xff);
	assert_int_equal(get(fixture, 8 * KIB - 1), 0xff);
	assert_int_equal(get(fixture, 8 * KIB), 0x5a);
	assert_int_equal(kept(fixture, 4 * KIB), 0xff);
	assert_int_equal(kept(fixture, 8 * KIB), 0x5a);
	/* Not without a confirmation. */
	set(fixture, 0, 0x20);
	set(fixture, 0, 0x10);
	assert_int_equal(get(fixture, 0), 0x80 | 0x20 | 0x10);
	set(fixture, 0, 0x50);
	assert_int_equal(get(fixture, 0), 0x5a);
}

static void an_access_may_have_any_size(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(try(fixture), 0);
	space_write(&fixture->mmio, BASE, 1, 0x10);
	space_write(&fixture->mmio, BASE, 8, 0x8877665544332211);
	set(fixture, 0, 0xff);
	assert_true(space_read(&fixture->mmio, BASE, 8) == 0x8877665544332211);
	assert_int_equal(kept(fixture, 7), 0x88);
	/* Over its end is nobody's. */
	space_write(&fixture->mmio, BASE + VARIABLES - 1, 1, 0x10);
	space_write(&fixture->mmio, BASE + VARIABLES - 1, 2, 0);
	assert_int_equal(kept(fixture, VARIABLES - 1), 0x5a);
	space_write(&fixture->mmio, BASE + VARIABLES - 1, 1, 0);
	assert_int_equal(kept(fixture, VARIABLES - 1), 0);
}

/* Command n of a firmware that writes its variables for ever: a block is erased, then filled byte by byte. */

#define STEPS 33

static uint64_t written_at(uint64_t n, uint8_t *byte)
{
	uint64_t block = n / STEPS % (VARIABLES / FLASH_BLOCK) * FLASH_BLOCK;

	*byte = n / STEPS;
	return block + n % STEPS * 124;
}

static void give_command(struct fixture *fixture, uint64_t n)
{
	uint8_t byte;
	uint64_t offset = written_at(n, &byte);

	set(fixture, offset, n % STEPS ? 0x10 : 0x20);
	set(fixture, offset, n % STEPS ? byte : 0xd0);
}

static void assert_kept_after(struct fixture *fixture, uint64_t commands)
{
	uint8_t expected[VARIABLES], kept[VARIABLES], byte;
	uint64_t offset = 0;

	memset(expected, 0x5a, sizeof(expected));
	assert_int_equal(pread(fixture->nvram, kept, sizeof(kept), 0), sizeof(kept));
	for (uint64_t n = 0; n <= commands; n++) {
		/* The one that was under way may have been done. */
		if (n == commands && memcmp(kept, expected, sizeof(kept)) == 0)
			return;
		offset = written_at(n, &byte);
		if (n % STEPS)
			expected[offset] = byte;
		else
			memset(expected + offset, 0xff, FLASH_BLOCK);
	}
	assert_memory_equal(kept, expected, sizeof(kept));
}

static void a_kill_loses_no_more_than_one_command(void **state)
{
	struct fixture *fixture = *state;
	uint64_t *done = mmap(
		NULL, sizeof(*done), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t before;
	pid_t child;

	assert_int_equal(try(fixture), 0);
	for (unsigned i = 0; i < 20; i++) {
		before = *done;
		child = fork();
		if (!child)
			for (;; __atomic_add_fetch(done, 1, __ATOMIC_RELAXED))
				give_command(fixture, *done);
		while (__atomic_load_n(done, __ATOMIC_RELAXED) < before + 50 + 7 * i)
			;
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		assert_kept_after(fixture, *done);
	}
	munmap(done, sizeof(*done));
}

/* What could not be kept is not shown as if it were. */
static void what_cannot_be_written_is_told(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(try(fixture), 0);
	assert_int_equal(fcntl(fixture->nvram, F_ADD_SEALS, F_SEAL_WRITE), 0);
	set(fixture, 0, 0x10);
	set(fixture, 0, 0x42);
	assert_int_equal(get(fixture, 0), 0x80 | 0x10);
	set(fixture, 0, 0x20);
	set(fixture, 0, 0xd0);
	assert_int_equal(get(fixture, 0), 0x80 | 0x10 | 0x20);
	set(fixture, 0, 0x50);
	assert_int_equal(get(fixture, 0), 0x5a);
}

static void without_a_slot_reads_are_served(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(try(fixture), 0);
	set(fixture, 0, 0x70);
	fake_kvm.failing = KVM_SET_USER_MEMORY_REGION;
	fake_kvm.code = EINVAL;
	set(fixture, 0, 0xff);
	assert_int_equal(get(fixture, 0), 0x5a);
	assert_false(is_mapped(fixture));
	fake_kvm.failing = 0;
}

static void refuse(struct fixture *fixture, const char *object)
{
	assert_int_equal(try(fixture), -EINVAL);
	assert_string_equal(fixture->err.object, object);
	flash_destroy(&fixture->flash);
	fixture->flash = (struct flash){ 0 };
}

static void an_odd_size_is_refused(void **state)
{
	struct fixture *fixture = *state;
	static const uint64_t sizes[] = { 0, 1, CODE - 1, CODE + 1, FLASH_MAX + 4 * KIB };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(ftruncate(fixture->code, sizes[i]), 0);
		refuse(fixture, "code");
	}
	assert_int_equal(ftruncate(fixture->code, CODE), 0);
	assert_int_equal(ftruncate(fixture->nvram, FLASH_MAX), 0);
	refuse(fixture, "vars");
	assert_int_equal(ftruncate(fixture->nvram, FLASH_MAX - CODE), 0);
	assert_int_equal(try(fixture), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(code_and_variables_end_at_4_gib, setup, teardown),
		cmocka_unit_test_setup_teardown(code_alone_is_a_rom, setup, teardown),
		cmocka_unit_test_setup_teardown(code_that_has_run_takes_no_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(firmware_recognizes_a_flash, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_slot_comes_back_with_the_next_read, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_byte_is_in_the_file_when_it_is_written, setup, teardown),
		cmocka_unit_test_setup_teardown(a_block_is_erased, setup, teardown),
		cmocka_unit_test_setup_teardown(an_access_may_have_any_size, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_kill_loses_no_more_than_one_command, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_written_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(without_a_slot_reads_are_served, setup, teardown),
		cmocka_unit_test_setup_teardown(an_odd_size_is_refused, setup, teardown),
	};

	return test_run(tests);
}
