/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "fake_kernel.h"
#include "kvm/vcpu.h"
#include "machine/boot/linux.h"
#include "machine/layout.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RSDP 0xe1000

struct fixture {
	struct memory memory;
	struct fake_kernel kernel;
	struct setup_header *header; /* of kernel */
	struct boot_files boot;
	struct linux_entry entry;
	struct error err;
};

/* There: of the file that it is in. */
static void make_memory_of(struct fixture *fixture, uint64_t size, uint64_t there)
{
	if (fixture->memory.count)
		memory_free(&fixture->memory);
	assert_int_equal(
		memory_place(&fixture->memory, size, MEMORY_PAGE, NULL, 0, &fixture->err), 0);
	assert_int_equal(
		memory_map(&fixture->memory, memory_file(there, 0), MEMORY_HUGE, &fixture->err), 0);
}

static void make_memory(struct fixture *fixture, uint64_t size)
{
	make_memory_of(fixture, size, size);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	make_memory(fixture, 64 * MIB);
	/* Nothing that is written there may count on zeroes. */
	memset(memory_at(&fixture->memory, 0, LAYOUT_1M), 0xff, LAYOUT_1M);
	fake_kernel_make(&fixture->kernel, "\xf4", 1);
	fixture->header = fake_kernel_header(&fixture->kernel);
	fixture->boot = (struct boot_files){
		.kernel_fd = -1,
		.kernel_name = "vmlinuz",
		.initrd_fd = -1,
		.initrd_name = "initrd",
		.cmdline = "quiet",
	};
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	memory_free(&fixture->memory);
	if (fixture->boot.kernel_fd >= 0)
		close(fixture->boot.kernel_fd);
	if (fixture->boot.initrd_fd >= 0)
		close(fixture->boot.initrd_fd);
	free(fixture);
	return 0;
}

static int load_files(struct fixture *fixture)
{
	struct memory_map map;

	memory_map_for_kernel(&map, &fixture->memory, 3 * MIB);
	return linux_load(
		&fixture->memory, &fixture->boot, &map, RSDP, &fixture->entry, &fixture->err);
}

/* Try what the fixture holds now. */
static int load(struct fixture *fixture)
{
	int code;

	if (fixture->boot.kernel_fd >= 0)
		close(fixture->boot.kernel_fd);
	fixture->boot.kernel_fd = fake_kernel_open(&fixture->kernel);
	memset(&fixture->err, 0, sizeof(fixture->err));
	code = load_files(fixture);
	assert_int_equal(code, fixture->err.code);
	return code;
}

/* The error names the file, and its text holds the words. */
static void assert_refused(struct fixture *fixture, int code, const char *words)
{
	assert_int_equal(load(fixture), code);
	if (!strstr(fixture->err.what, words))
		fail_msg("'%s' does not say '%s'", fixture->err.what, words);
}

static void assert_no_kernel(struct fixture *fixture, const char *words)
{
	assert_refused(fixture, -ENOEXEC, words);
	assert_string_equal(fixture->err.object, "vmlinuz");
	assert_true(fixture->err.hint[0]);
}

static int make_initrd(struct fixture *fixture, uint64_t size)
{
	fixture->boot.initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fixture->boot.initrd_fd, size), 0);
	return fixture->boot.initrd_fd;
}

static struct boot_params *params(struct fixture *fixture)
{
	return memory_at(&fixture->memory, fixture->entry.rsi, sizeof(struct boot_params));
}

static void a_kernel_is_loaded_where_it_wants(void **state)
{
	struct fixture *fixture = *state;
	const void *at;

	assert_int_equal(load(fixture), 0);
	at = memory_at(&fixture->memory, FAKE_KERNEL_AT, FAKE_KERNEL_SIZE);
	assert_memory_equal(at, fixture->kernel.bytes + FAKE_KERNEL_IMAGE,
		FAKE_KERNEL_SIZE - FAKE_KERNEL_IMAGE);
	assert_int_equal(fixture->entry.rip, FAKE_KERNEL_AT + FAKE_KERNEL_ENTRY);
	assert_memory_equal(memory_at(&fixture->memory, fixture->entry.gdt, 32), kvm_vcpu_gdt, 32);
}

static void the_zero_page_tells_the_kernel_what_there_is(void **state)
{
	struct fixture *fixture = *state;
	struct boot_params *zero_page;

	assert_int_equal(load(fixture), 0);
	zero_page = params(fixture);
	assert_int_equal(zero_page->acpi_rsdp_addr, RSDP);
	assert_int_equal(zero_page->hdr.type_of_loader, 0xff);
	assert_int_equal(zero_page->hdr.version, 0x020f);
	assert_int_equal(zero_page->hdr.ramdisk_size, 0);
	assert_int_equal(zero_page->ext_ramdisk_size, 0);
	assert_string_equal(memory_at(&fixture->memory, zero_page->hdr.cmd_line_ptr, 6), "quiet");
}

/* What jumps to where a PC starts writes 6 to port cf9, the reset control register. */
static void where_a_pc_starts_is_a_reset(void **state)
{
	static const uint8_t code[] = { 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4 };
	struct fixture *fixture = *state;

	assert_int_equal(load(fixture), 0);
	assert_memory_equal(memory_at(&fixture->memory, 0xffff0, 16), code, sizeof(code));
}

static bool is_reserved(const struct boot_params *zero_page, uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < zero_page->e820_entries; i++)
		if (zero_page->e820_table[i].addr == start &&
			zero_page->e820_table[i].size == end - start)
			return zero_page->e820_table[i].type == 2;
	return false;
}

/* What firmware would say: sorted, without overlaps, and all RAM in it but what the tables take. */
static void the_memory_map_is_right(void **state)
{
	struct fixture *fixture = *state;
	uint64_t end = 0, usable = 0;
	struct boot_params *zero_page;

	make_memory(fixture, 3 * GIB);
	assert_int_equal(load(fixture), 0);
	zero_page = params(fixture);
	for (unsigned i = 0; i < zero_page->e820_entries; i++) {
		struct boot_e820_entry entry = zero_page->e820_table[i];

		if (entry.type == 1) {
			assert_non_null(memory_at(&fixture->memory, entry.addr, entry.size));
			assert_true(entry.addr >= end);
			end = entry.addr + entry.size;
			usable += entry.size;
		} else {
			/* Neither the tables nor ECAM may be used as RAM. */
			assert_true(entry.addr >= end || entry.addr == LAYOUT_ECAM);
		}
	}
	assert_int_equal(usable, 3 * GIB - (LAYOUT_1M - LAYOUT_EBDA));
	assert_true(is_reserved(zero_page, LAYOUT_EBDA, 0xa0000));
	assert_true(is_reserved(zero_page, LAYOUT_ACPI, LAYOUT_1M));
	assert_true(is_reserved(zero_page, LAYOUT_ECAM, LAYOUT_ECAM + 3 * MIB));
}

/* Each entry of the first 4 GiB is mapped to itself. */
static void the_page_tables_are_an_identity(void **state)
{
	struct fixture *fixture = *state;
	uint64_t *top, *second;

	assert_int_equal(load(fixture), 0);
	top = memory_at(&fixture->memory, fixture->entry.cr3, 4096);
	assert_int_equal(top[0] & 0xfff, 3);
	assert_int_equal(top[1], 0);
	second = memory_at(&fixture->memory, top[0] & ~0xfffULL, 4096);
	assert_int_equal(second[4], 0);
	for (uint64_t at = 0; at < 4 * GIB; at += 2 * MIB) {
		uint64_t *third = memory_at(&fixture->memory, second[at / GIB] & ~0xfffULL, 4096);

		assert_int_equal(second[at / GIB] & 0xfff, 3);
		assert_int_equal(third[at % GIB / (2 * MIB)], at | 0x83);
	}
}

static void an_initrd_lies_at_the_top(void **state)
{
	struct fixture *fixture = *state;
	struct setup_header *header;

	assert_int_equal(pwrite(make_initrd(fixture, 5 * MIB + 3), "end", 3, 5 * MIB), 3);
	assert_int_equal(load(fixture), 0);
	header = &params(fixture)->hdr;
	assert_int_equal(header->ramdisk_size, 5 * MIB + 3);
	assert_int_equal(header->ramdisk_image % 4096, 0);
	assert_int_equal(header->ramdisk_image, 64 * MIB - 5 * MIB - 4 * KIB);
	assert_memory_equal(
		memory_at(&fixture->memory, header->ramdisk_image + 5 * MIB, 3), "end", 3);
}

static void an_initrd_stays_below_what_the_kernel_reaches(void **state)
{
	struct fixture *fixture = *state;

	make_initrd(fixture, MIB);
	fixture->header->initrd_addr_max = 32 * MIB - 1;
	assert_int_equal(load(fixture), 0);
	assert_int_equal(params(fixture)->hdr.ramdisk_image, 31 * MIB);
}

static void an_initrd_that_does_not_fit_is_refused(void **state)
{
	struct fixture *fixture = *state;

	make_initrd(fixture, 47 * MIB); /* 64 MiB, less the kernel's 17 */
	assert_int_equal(load(fixture), 0);
	assert_int_equal(ftruncate(fixture->boot.initrd_fd, 47 * MIB + 1), 0);
	assert_refused(fixture, -ENOSPC, "does not fit");
	assert_string_equal(fixture->err.object, "initrd");
	assert_non_null(strstr(fixture->err.hint, "--memory"));
	assert_int_equal(ftruncate(fixture->boot.initrd_fd, 64 * MIB), 0);
	assert_refused(fixture, -ENOSPC, "does not fit");
	assert_int_equal(ftruncate(fixture->boot.initrd_fd, 1LL << 40), 0);
	assert_refused(fixture, -ENOSPC, "does not fit");
	assert_int_equal(ftruncate(fixture->boot.initrd_fd, MIB), 0);
	fixture->header->initrd_addr_max = 16 * MIB;
	assert_refused(fixture, -ENOSPC, "does not fit");
	fixture->header->initrd_addr_max = 0;
	assert_refused(fixture, -ENOSPC, "does not fit");
	fixture->header->initrd_addr_max = UINT32_MAX;
	assert_int_equal(load(fixture), 0);
	assert_int_equal(params(fixture)->hdr.ramdisk_image, 63 * MIB);
}

static void what_is_no_initrd_is_refused(void **state)
{
	struct fixture *fixture = *state;
	int pair[2];

	make_initrd(fixture, 0);
	assert_refused(fixture, -EINVAL, "empty");
	close(fixture->boot.initrd_fd);
	assert_int_equal(pipe(pair), 0);
	fixture->boot.initrd_fd = pair[0];
	close(pair[1]);
	assert_refused(fixture, -EINVAL, "regular");
	close(pair[0]);
	fixture->boot.initrd_fd = open("/", O_RDONLY | O_DIRECTORY);
	assert_refused(fixture, -EINVAL, "regular");
}

/* And no signal: a file that ends there is as a host that has no more. */
static void memory_that_the_host_lacks_is_an_error(void **state)
{
	struct fixture *fixture = *state;

	make_memory_of(fixture, 64 * MIB, FAKE_KERNEL_AT);
	assert_refused(fixture, -ENOMEM, "no memory left");
	make_memory_of(fixture, 64 * MIB, 60 * MIB);
	make_initrd(fixture, 3 * MIB);
	assert_refused(fixture, -ENOMEM, "no memory left");
}

static bool is_needed(const struct fixture *fixture, uint64_t gpa, uint64_t size)
{
	const struct memory *memory = &fixture->memory;

	for (unsigned i = 0; i < memory->first_count; i++)
		if (memory->first[i].gpa <= gpa &&
			gpa + size <= memory->first[i].gpa + memory->first[i].size)
			return true;
	return false;
}

/* All that it unpacks itself to, too. */
static void what_the_kernel_starts_with_is_known(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->init_size = 20 * MIB;
	make_initrd(fixture, 3 * MIB);
	assert_int_equal(load(fixture), 0);
	assert_true(is_needed(fixture, 0, LAYOUT_1M));
	assert_true(is_needed(fixture, FAKE_KERNEL_AT, 20 * MIB));
	assert_true(is_needed(fixture, 61 * MIB, 3 * MIB));
}

static void a_file_that_is_no_kernel_is_refused(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->boot_flag = 0;
	assert_no_kernel(fixture, "signature");
	fake_kernel_make(&fixture->kernel, NULL, 0);
	fixture->header->header = 0;
	assert_no_kernel(fixture, "signature");
	memset(fixture->kernel.bytes, 0, sizeof(fixture->kernel.bytes));
	assert_no_kernel(fixture, "signature");
	memset(fixture->kernel.bytes, 0xff, sizeof(fixture->kernel.bytes));
	assert_no_kernel(fixture, "signature");
}

static void a_kernel_that_is_no_file_is_refused(void **state)
{
	struct fixture *fixture = *state;
	int pair[2];

	assert_int_equal(pipe(pair), 0);
	fixture->boot.kernel_fd = pair[0];
	assert_int_equal(load_files(fixture), -ENOEXEC);
	close(pair[1]);
}

/* Cut anywhere: a file without its end must never be started. */
static void a_truncated_kernel_is_refused(void **state)
{
	struct fixture *fixture = *state;

	for (size_t size = 0; size + 15 < FAKE_KERNEL_SIZE; size++) {
		fixture->kernel.size = size;
		assert_int_equal(load(fixture), -ENOEXEC);
	}
	assert_non_null(strstr(fixture->err.what, "truncated"));
	/* Its size is counted in units of 16 bytes. */
	fixture->kernel.size = FAKE_KERNEL_SIZE - 15;
	assert_int_equal(load(fixture), 0);
}

static void a_header_that_promises_more_than_the_file_has_is_refused(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->syssize += 1;
	assert_no_kernel(fixture, "truncated");
	fixture->header->syssize = UINT32_MAX;
	assert_no_kernel(fixture, "truncated");
	fixture->header->syssize = 0;
	assert_no_kernel(fixture, "");
	fixture->header->syssize = FAKE_KERNEL_ENTRY / 16;
	assert_no_kernel(fixture, "");
	fake_kernel_make(&fixture->kernel, NULL, 0);
	fixture->header->setup_sects = 255;
	assert_no_kernel(fixture, "truncated");
	fixture->header->setup_sects = 0; /* means 4 */
	assert_no_kernel(fixture, "");
}

/* What follows the part that runs, such as a signature, is not loaded. */
static void what_follows_the_image_is_left_out(void **state)
{
	struct fixture *fixture = *state;
	uint8_t *last;

	fixture->header->syssize -= 16;
	fixture->kernel.bytes[FAKE_KERNEL_SIZE - 256] = 0x42;
	assert_int_equal(load(fixture), 0);
	last = memory_at(
		&fixture->memory, FAKE_KERNEL_AT + FAKE_KERNEL_SIZE - FAKE_KERNEL_IMAGE - 256, 1);
	assert_int_equal(*last, 0);
}

static void a_kernel_without_64_bit_entry_is_refused(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->xloadflags = 0;
	assert_no_kernel(fixture, "64-bit entry");
	fixture->header->xloadflags = XLF_KERNEL_64;
	fixture->header->version = 0x020b;
	assert_no_kernel(fixture, "64-bit entry");
	fixture->header->version = 0x020c;
	assert_int_equal(load(fixture), 0);
	fixture->header->loadflags = 0;
	assert_no_kernel(fixture, "zImage");
}

/* Old kernels leave the number of setup sectors 0, which means 4. */
static void no_setup_sectors_are_four(void **state)
{
	struct fixture *fixture = *state;
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	fixture->header->setup_sects = 0;
	assert_int_equal(
		pwrite(fd, fixture->kernel.bytes, FAKE_KERNEL_IMAGE, 0), FAKE_KERNEL_IMAGE);
	assert_int_equal(pwrite(fd, "first", 5, 5 * 512), 5);
	assert_int_equal(ftruncate(fd, 5 * 512 + 4096), 0);
	fixture->boot.kernel_fd = fd;
	assert_int_equal(load_files(fixture), 0);
	assert_memory_equal(memory_at(&fixture->memory, FAKE_KERNEL_AT, 5), "first", 5);
}

/* A header ends where the jump over it says: what lies behind is code, not fields. */
static void a_short_header_has_no_later_fields(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->jump = 0xeb;
	assert_no_kernel(fixture, "64-bit entry");
	/* Just before xloadflags at 0x236. */
	fixture->header->jump = 0xeb | (0x236 - 0x202) << 8;
	assert_no_kernel(fixture, "64-bit entry");
	/* As far as cmdline_size at 0x238, so that pref_address at 0x258 is not there. */
	fixture->header->jump = 0xeb | (0x23c - 0x202) << 8;
	assert_no_kernel(fixture, "preferred address");
}

static void a_kernel_out_of_range_is_refused(void **state)
{
	static const uint64_t places[] = { 0, 0xfffff, 5 * GIB, 1ULL << 63, UINT64_MAX,
		UINT64_MAX - MIB };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		fixture->header->pref_address = places[i];
		assert_no_kernel(fixture, "preferred address");
	}
	fixture->header->pref_address = MIB;
	assert_int_equal(load(fixture), 0);
}

/* The tables that it starts with map 4 GiB; the first instruction beyond would fault. */
static void a_kernel_beyond_the_mapped_addresses_is_refused(void **state)
{
	struct fixture *fixture = *state;

	make_memory(fixture, 4 * GIB);
	fixture->header->pref_address = 4 * GIB;
	assert_no_kernel(fixture, "preferred address");
}

static void a_kernel_that_does_not_fit_is_refused(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->init_size = 48 * MIB;
	assert_int_equal(load(fixture), 0);
	fixture->header->init_size = 48 * MIB + 1;
	assert_refused(fixture, -ENOSPC, "needs");
	assert_non_null(strstr(fixture->err.hint, "--memory"));
	fixture->header->init_size = UINT32_MAX;
	assert_refused(fixture, -ENOSPC, "needs");
	fixture->header->init_size = 0;
	fixture->header->pref_address = 64 * MIB;
	assert_refused(fixture, -ENOSPC, "needs");
}

static void too_little_memory_is_refused(void **state)
{
	struct fixture *fixture = *state;

	memory_free(&fixture->memory);
	fixture->memory.count = 1; /* not what memory_place() would make */
	fixture->memory.regions[0].size = 512 * KIB;
	fixture->memory.regions[0].hva =
		mmap(NULL, 512 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_refused(fixture, -ENOSPC, "memory");
	make_memory(fixture, 2 * MIB);
	assert_refused(fixture, -ENOSPC, "needs");
}

static void a_command_line_of_the_kernels_length_is_taken(void **state)
{
	struct fixture *fixture = *state;
	char text[4096];

	memset(text, 'x', sizeof(text));
	text[2047] = '\0';
	fixture->boot.cmdline = text;
	assert_int_equal(load(fixture), 0);
	assert_string_equal(
		memory_at(&fixture->memory, params(fixture)->hdr.cmd_line_ptr, 2048), text);
	text[2047] = 'x';
	text[2048] = '\0';
	assert_refused(fixture, -E2BIG, "2048 bytes");
	fixture->header->cmdline_size = 0;
	fixture->boot.cmdline = "";
	assert_int_equal(load(fixture), 0);
}

/* A hostile header may promise more room than there is below the EBDA. */
static void a_command_line_longer_than_its_room_is_refused(void **state)
{
	struct fixture *fixture = *state;
	size_t length = 0x9fc00 - 0x20000;
	char *text = malloc(length + 1);

	memset(text, 'x', length);
	text[length] = '\0';
	fixture->header->cmdline_size = UINT32_MAX;
	fixture->boot.cmdline = text;
	assert_int_equal(load(fixture), -E2BIG);
	text[length - 1] = '\0';
	assert_int_equal(load(fixture), 0);
	free(text);
}

#define LINUX_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LINUX_TEST(a_kernel_is_loaded_where_it_wants),
		LINUX_TEST(the_zero_page_tells_the_kernel_what_there_is),
		LINUX_TEST(where_a_pc_starts_is_a_reset),
		LINUX_TEST(the_memory_map_is_right),
		LINUX_TEST(the_page_tables_are_an_identity),
		LINUX_TEST(an_initrd_lies_at_the_top),
		LINUX_TEST(an_initrd_stays_below_what_the_kernel_reaches),
		LINUX_TEST(an_initrd_that_does_not_fit_is_refused),
		LINUX_TEST(what_is_no_initrd_is_refused),
		LINUX_TEST(memory_that_the_host_lacks_is_an_error),
		LINUX_TEST(what_the_kernel_starts_with_is_known),
		LINUX_TEST(a_file_that_is_no_kernel_is_refused),
		LINUX_TEST(a_kernel_that_is_no_file_is_refused),
		LINUX_TEST(a_truncated_kernel_is_refused),
		LINUX_TEST(a_header_that_promises_more_than_the_file_has_is_refused),
		LINUX_TEST(what_follows_the_image_is_left_out),
		LINUX_TEST(a_kernel_without_64_bit_entry_is_refused),
		LINUX_TEST(no_setup_sectors_are_four),
		LINUX_TEST(a_short_header_has_no_later_fields),
		LINUX_TEST(a_kernel_out_of_range_is_refused),
		LINUX_TEST(a_kernel_beyond_the_mapped_addresses_is_refused),
		LINUX_TEST(a_kernel_that_does_not_fit_is_refused),
		LINUX_TEST(too_little_memory_is_refused),
		LINUX_TEST(a_command_line_of_the_kernels_length_is_taken),
		LINUX_TEST(a_command_line_longer_than_its_room_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
