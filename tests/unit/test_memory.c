/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "machine/layout.h"
#include "machine/memory.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE (2 * MIB)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* The linker hands us what is meant for madvise(2) (-Wl,--wrap=madvise). */
int __real_madvise(void *at, size_t size, int advice);
int __wrap_madvise(void *at, size_t size, int advice);

static int failing_advice, failing_with; /* a call for the one fails with the other */
static unsigned calls[32];               /* by advice */
static uint64_t advised[32];             /* bytes */

int __wrap_madvise(void *at, size_t size, int advice)
{
	calls[advice]++;
	advised[advice] += size;
	if (advice != failing_advice)
		return __real_madvise(at, size, advice);
	errno = failing_with;
	return -1;
}

static void fail_advice(int advice, int error)
{
	failing_advice = advice;
	failing_with = error;
	memset(calls, 0, sizeof(calls));
	memset(advised, 0, sizeof(advised));
}

/* The holes that an Intel host's IOMMU leaves: below, the local APICs' page range, above. */
static const struct iova_range usual[] = {
	{ 0, 0xfedfffff },
	{ 0xfef00000, (1ULL << 39) - 1 },
};

static int place(
	struct memory *memory, uint64_t size, const struct iova_range *ranges, unsigned count)
{
	struct error err = { 0 };
	int code = memory_place(memory, size, MEMORY_PAGE, ranges, count, &err);

	assert_int_equal(code, err.code);
	return code;
}

static void assert_region(const struct memory *memory, unsigned i, uint64_t gpa, uint64_t size)
{
	assert_true(i < memory->count);
	assert_int_equal(memory->regions[i].gpa, gpa);
	assert_int_equal(memory->regions[i].size, size);
}

TEST(little_memory_is_one_region)
{
	struct memory memory;

	assert_int_equal(place(&memory, 512 * MIB, NULL, 0), 0);
	assert_int_equal(memory.count, 1);
	assert_region(&memory, 0, 0, 512 * MIB);
	assert_int_equal(memory_end(&memory), 512 * MIB);
	assert_int_equal(place(&memory, 2 * GIB, usual, 2), 0);
	assert_int_equal(memory.count, 1);
	/* Not a multiple of a huge page. */
	assert_int_equal(place(&memory, 3 * MIB + 4 * KIB, NULL, 0), 0);
	assert_region(&memory, 0, 0, 3 * MIB + 4 * KIB);
	assert_int_equal(memory.size, 3 * MIB + 4 * KIB);
}

TEST(more_goes_on_above_4_gib)
{
	struct memory memory;

	assert_int_equal(place(&memory, 5 * GIB, NULL, 0), 0);
	assert_int_equal(memory.count, 2);
	assert_region(&memory, 0, 0, LAYOUT_LOW_RAM_END);
	assert_region(&memory, 1, LAYOUT_HIGH_RAM, 3 * GIB);
	assert_int_equal(memory_end(&memory), 7 * GIB);
	assert_int_equal(place(&memory, 5 * GIB, usual, 2), 0);
	assert_int_equal(memory.count, 2);
	assert_region(&memory, 1, LAYOUT_HIGH_RAM, 3 * GIB);
	assert_int_equal(place(&memory, 2 * GIB + 4 * KIB, NULL, 0), 0);
	assert_region(&memory, 1, LAYOUT_HIGH_RAM, 4 * KIB);
}

TEST(ram_lies_around_what_the_host_reserves)
{
	static const struct iova_range low[] = { { 0, 0x3fffffff }, { 0x40100000, UINT64_MAX } };
	static const struct iova_range high[] = { { 0, 0x1ffffffff }, { 0x210000000, UINT64_MAX } };
	struct memory memory;

	assert_int_equal(place(&memory, 3 * GIB, low, 2), 0);
	assert_int_equal(memory.count, 3);
	assert_region(&memory, 0, 0, GIB);
	assert_region(&memory, 1, 0x40200000, GIB - 2 * MIB);
	assert_region(&memory, 2, LAYOUT_HIGH_RAM, GIB + 2 * MIB);
	assert_int_equal(place(&memory, 7 * GIB, high, 2), 0);
	assert_int_equal(memory.count, 3);
	assert_region(&memory, 1, LAYOUT_HIGH_RAM, 4 * GIB);
	assert_region(&memory, 2, 0x210000000, GIB);
}

/* Whole ones, at places that they can be mapped at by whole ones. */
TEST(pages_of_1_gib_lie_on_their_borders)
{
	static const struct iova_range some[] = { { 0, 0x7d7fffff }, { 0x80000000, 0x19fffffff },
		{ 0x1a0000000, UINT64_MAX } };
	static const struct iova_range low[] = { { 0, 0x2fffffff }, { 0x30000000, UINT64_MAX } };
	struct memory memory;
	struct error err = { 0 };

	assert_int_equal(memory_place(&memory, 3 * GIB, GIB, NULL, 0, &err), 0);
	assert_region(&memory, 0, 0, 2 * GIB);
	assert_region(&memory, 1, LAYOUT_HIGH_RAM, GIB);
	assert_int_equal(memory_place(&memory, 4 * GIB, GIB, some, 3, &err), 0);
	assert_int_equal(memory.count, 3);
	assert_region(&memory, 0, 0, GIB);
	assert_region(&memory, 1, LAYOUT_HIGH_RAM, 2 * GIB);
	assert_region(&memory, 2, 7 * GIB, GIB);
	assert_int_equal(memory_place(&memory, GIB, GIB, low, 2, &err), -ENOSPC);
	assert_non_null(strstr(err.what, "addresses below 1 GiB"));
	assert_non_null(strstr(err.hint, "hugepages=2M"));
}

/* Of the pool, where it has one that is free; the kernel refuses what is not whole. */
TEST(pages_of_1_gib_are_mapped_by_whole_ones)
{
	char count[16] = "0", reserved[16] = "0";
	bool is_free = fd_read_file("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
			       count, sizeof(count)) >= 0 &&
		       fd_read_file("/sys/kernel/mm/hugepages/hugepages-1048576kB/resv_hugepages",
			       reserved, sizeof(reserved)) >= 0 &&
		       atoi(count) > atoi(reserved);
	int fd = memory_file(GIB, is_free ? MFD_HUGETLB | MFD_HUGE_1GB : 0);
	struct error err = { 0 };
	struct memory memory;

	assert_int_equal(memory_place(&memory, GIB, GIB, NULL, 0, &err), 0);
	assert_int_equal(memory_map(&memory, fd, is_free ? MEMORY_HUGETLB : MEMORY_HUGE, &err), 0);
	assert_int_equal((uintptr_t)memory.regions[0].hva % GIB, 0);
	if (is_free)
		assert_int_equal(memory_populate(&memory, GIB - 4 * KIB, 4 * KIB, &err), 0);
	memory_free(&memory);
}

/* Never a byte outside the ranges, whatever they are; the sizes add up. */
TEST(every_region_is_inside_a_range)
{
	static const struct iova_range odd[] = { { 0, 0x12345677 }, { 0x12345679, 0x2fffffff },
		{ 0x30000001, 0x30000001 }, { 0x30001000, 0x301fffff }, { 0x30200001, 0x1fffffffe },
		{ 0x200000000, UINT64_MAX } };
	struct memory memory;
	uint64_t sum = 0;

	assert_int_equal(place(&memory, 9 * GIB, odd, ARRAY_SIZE(odd)), 0);
	for (unsigned i = 0; i < memory.count; i++) {
		const struct memory_region *region = &memory.regions[i];
		bool inside = false;

		assert_int_equal(region->gpa % HUGE_PAGE, 0);
		/* The last one takes what is left. */
		assert_true(region->size % HUGE_PAGE == 0 || i == memory.count - 1);
		for (size_t j = 0; j < ARRAY_SIZE(odd); j++)
			inside |= region->gpa >= odd[j].first &&
				  region->gpa + region->size - 1 <= odd[j].last;
		assert_true(inside);
		if (i)
			assert_true(region->gpa >=
				    memory.regions[i - 1].gpa + memory.regions[i - 1].size);
		sum += region->size;
	}
	assert_int_equal(sum, 9 * GIB);
}

TEST(memory_that_does_not_fit_is_refused)
{
	static const struct iova_range narrow[] = { { 0, 0xffffffff } };
	static const struct iova_range none[] = { { 0, 0 } };
	static const struct iova_range beyond[] = { { UINT64_MAX, UINT64_MAX } };
	struct memory memory;

	assert_int_equal(place(&memory, 2 * GIB, narrow, 1), 0);
	assert_int_equal(place(&memory, 2 * GIB + 4 * KIB, narrow, 1), -ENOSPC);
	assert_int_equal(place(&memory, 2 * MIB, none, 1), -ENOSPC);
	assert_int_equal(place(&memory, 2 * MIB, beyond, 1), -ENOSPC);
	assert_int_equal(place(&memory, 1ULL << 50, NULL, 0), -ENOSPC);
	assert_int_equal(place(&memory, UINT64_MAX & ~0xfffULL, NULL, 0), -ENOSPC);
	assert_int_equal(place(&memory, 0, NULL, 0), -ENOSPC);
}

/* The kernel and the tables lie in the first 16 MiB. */
TEST(a_hole_at_the_bottom_is_refused)
{
	static const struct iova_range first[] = { { 0x200000, UINT64_MAX } };
	static const struct iova_range hole[] = { { 0, 0x7fffff }, { 0x900000, UINT64_MAX } };
	static const struct iova_range allowed[] = { { 0, 0xffffff }, { 0x1200000, UINT64_MAX } };
	struct memory memory;

	assert_int_equal(place(&memory, 512 * MIB, first, 1), -ENOSPC);
	assert_int_equal(place(&memory, 512 * MIB, hole, 2), -ENOSPC);
	assert_int_equal(place(&memory, 4 * MIB, hole, 2), 0);
	assert_int_equal(place(&memory, 512 * MIB, allowed, 2), 0);
	assert_int_equal(memory.count, 2);
}

TEST(too_many_holes_are_refused)
{
	struct iova_range ranges[MEMORY_REGIONS_MAX + 1];
	struct memory memory;

	for (unsigned i = 0; i <= MEMORY_REGIONS_MAX; i++)
		ranges[i] = (struct iova_range){ i * 64 * MIB, i * 64 * MIB + 32 * MIB - 1 };
	assert_int_equal(
		place(&memory, MEMORY_REGIONS_MAX * 32 * MIB, ranges, MEMORY_REGIONS_MAX + 1), 0);
	assert_int_equal(memory.count, MEMORY_REGIONS_MAX);
	assert_int_equal(place(&memory, MEMORY_REGIONS_MAX * 32 * MIB + 4 * KIB, ranges,
				 MEMORY_REGIONS_MAX + 1),
		-ENOSPC);
}

static void allocate(struct memory *memory, uint64_t size, const struct iova_range *ranges,
	unsigned count, enum memory_kind kind)
{
	struct error err = { 0 };

	assert_int_equal(place(memory, size, ranges, count), 0);
	assert_int_equal(memory_map(memory, memory_file(size, 0), kind, &err), 0);
}

TEST(addresses_are_found_within_one_region_alone)
{
	static const struct iova_range ranges[] = { { 0, 0x1ffffff }, { 0x2200000, UINT64_MAX } };
	struct memory memory;
	char *first, *second;

	allocate(&memory, 64 * MIB, ranges, 2, MEMORY_HUGE);
	first = memory.regions[0].hva;
	second = memory.regions[1].hva;
	assert_ptr_equal(memory_at(&memory, 0, 1), first);
	assert_ptr_equal(memory_at(&memory, 0, 32 * MIB), first);
	assert_ptr_equal(memory_at(&memory, 32 * MIB - 1, 1), first + 32 * MIB - 1);
	assert_null(memory_at(&memory, 32 * MIB - 1, 2));
	assert_null(memory_at(&memory, 0, 32 * MIB + 1));
	assert_null(memory_at(&memory, 32 * MIB, 1)); /* in the hole */
	assert_null(memory_at(&memory, 0x21fffff, 2));
	assert_ptr_equal(memory_at(&memory, 0x2200000, 4), second);
	assert_null(memory_at(&memory, memory_end(&memory), 1));
	assert_null(memory_at(&memory, memory_end(&memory) - 1, 2));
	assert_non_null(memory_at(&memory, memory_end(&memory) - 1, 1));
	/* Sums that wrap round. */
	assert_null(memory_at(&memory, 4096, UINT64_MAX));
	assert_null(memory_at(&memory, UINT64_MAX, 2));
	assert_null(memory_at(&memory, UINT64_MAX - 4095, 8192));
	assert_null(memory_at(&memory, 0, UINT64_MAX));
	memory_free(&memory);
	assert_int_equal(memory.count, 0);
}

/* A huge page serves guest and process only where both addresses agree in their low bits. */
TEST(addresses_agree_modulo_a_huge_page)
{
	struct memory memory;

	allocate(&memory, 2 * GIB + 6 * MIB + 4 * KIB, NULL, 0, MEMORY_HUGE);
	for (unsigned i = 0; i < memory.count; i++)
		assert_int_equal(
			((uintptr_t)memory.regions[i].hva - memory.regions[i].gpa) % HUGE_PAGE, 0);
	memory_free(&memory);
}

/* Each region has its own part of the file: another process that maps it sees the same RAM. */
TEST(memory_is_one_file)
{
	struct memory memory;
	char *mapped;

	allocate(&memory, 2 * GIB + 6 * MIB, NULL, 0, MEMORY_HUGE);
	assert_true(memory.fd >= 0);
	strcpy(memory_at(&memory, 4096, 4), "low");
	strcpy(memory_at(&memory, LAYOUT_HIGH_RAM + 4096, 5), "high");
	mapped = mmap(NULL, memory.size, PROT_READ, MAP_SHARED, memory.fd, 0);
	assert_ptr_not_equal(mapped, MAP_FAILED);
	assert_string_equal(mapped + 4096, "low");
	assert_string_equal(mapped + 2 * GIB + 4096, "high");
	munmap(mapped, memory.size);
	memory_free(&memory);
	assert_int_equal(memory.fd, -1);
}

static bool is_mapped(const void *at)
{
	unsigned char there;

	return mincore((void *)at, 4096, &there) == 0;
}

TEST(freed_memory_is_gone)
{
	void *hvas[2];
	struct memory memory;
	int fd;

	allocate(&memory, 2 * GIB + 2 * MIB, NULL, 0, MEMORY_HUGE);
	fd = memory.fd;
	for (unsigned i = 0; i < 2; i++) {
		hvas[i] = memory.regions[i].hva;
		assert_true(is_mapped(hvas[i]));
	}
	memory_free(&memory);
	for (unsigned i = 0; i < 2; i++)
		assert_false(is_mapped(hvas[i]));
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* The flags of the mapping that an address lies in, as proc_pid_smaps(5) has them. */
static bool has_flag(const void *at, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	bool inside = false, found = false;
	unsigned long first, end;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx-%lx ", &first, &end) == 2)
			inside = (uintptr_t)at >= first && (uintptr_t)at < end;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line + 8, flag);
	fclose(file);
	return found;
}

/* It gets huge pages, and no core file has to hold it. */
TEST(the_kernel_knows_what_it_is_for)
{
	struct memory memory;

	allocate(&memory, 8 * MIB, NULL, 0, MEMORY_HUGE);
	if (access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0)
		assert_true(has_flag(memory.regions[0].hva, " hg"));
	assert_true(has_flag(memory.regions[0].hva, " dd"));
	memory_free(&memory);
}

/* An error now, and no SIGBUS once the guest runs. */
TEST(a_pool_of_huge_pages_that_is_too_small_is_told)
{
	int fd = memory_file(1ULL << 40, MFD_HUGETLB | MFD_HUGE_2MB);
	struct error err = { 0 };
	struct memory memory;

	assert_true(fd >= 0);
	assert_int_equal(place(&memory, 1ULL << 40, NULL, 0), 0);
	assert_true(memory_map(&memory, fd, MEMORY_HUGETLB, &err) < 0);
	assert_non_null(strstr(err.what, "1 TiB"));
	assert_non_null(strstr(err.hint, "hugepages-2048kB/free_hugepages"));
	memory_free(&memory);
}

static void assert_present(const struct memory *memory, uint64_t gpa, uint64_t size)
{
	unsigned char *there = test_malloc(size / 4096);

	assert_int_equal(mincore(memory_at(memory, gpa, size), size, there), 0);
	for (size_t i = 0; i < size / 4096; i++)
		if (!(there[i] & 1))
			fail_msg("page %zu from %#llx on is missing", i, (unsigned long long)gpa);
	test_free(there);
}

static bool is_present(const struct memory *memory, uint64_t gpa)
{
	unsigned char there;

	return mincore(memory_at(memory, gpa, 4096), 4096, &there) == 0 && there & 1;
}

/* Whole huge pages, and no other; the last one of a region may be smaller. */
TEST(populating_makes_huge_pages_present)
{
	struct error err = { 0 };
	struct memory memory;

	for (enum memory_kind kind = MEMORY_HUGE; kind <= MEMORY_COLLAPSE; kind++) {
		allocate(&memory, 14 * MIB + 12 * KIB, NULL, 0, kind);
		assert_int_equal(memory_populate(&memory, 5 * MIB, 3 * MIB + 1, &err), 0);
		assert_present(&memory, 4 * MIB, 6 * MIB);
		assert_false(is_present(&memory, 4 * MIB - 4096));
		assert_false(is_present(&memory, 10 * MIB));
		assert_int_equal(memory_populate(&memory, 14 * MIB, 12 * KIB, &err), 0);
		assert_present(&memory, 14 * MIB, 12 * KIB);
		assert_false(is_present(&memory, 14 * MIB - 4096));
		memory_free(&memory);
	}
}

static unsigned kib_of_huge_pages(const void *at)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long first, end, kib = 0;
	bool inside = false;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx-%lx ", &first, &end) == 2)
			inside = (uintptr_t)at >= first && (uintptr_t)at < end;
		else if (inside && sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

/* Nothing is cleared or copied twice: one small page of each, and the huge page of that. */
TEST(small_pages_are_put_together)
{
	struct error err = { 0 };
	struct memory memory;

	allocate(&memory, 64 * MIB, NULL, 0, MEMORY_COLLAPSE);
	if (__real_madvise(memory.regions[0].hva, 4096, MADV_POPULATE_WRITE) ||
		__real_madvise(memory.regions[0].hva, HUGE_PAGE, MADV_COLLAPSE))
		test_skip("this kernel cannot");
	memcpy(memory_at(&memory, 4 * MIB + 4096, 5), "early", 5);
	fail_advice(0, 0);
	assert_int_equal(memory_populate(&memory, 0, 64 * MIB, &err), 0);
	assert_int_equal(kib_of_huge_pages(memory.regions[0].hva), 64 * 1024);
	assert_int_equal(advised[MADV_COLLAPSE], 64 * MIB);
	assert_memory_equal(memory_at(&memory, 4 * MIB + 4096, 5), "early", 5);
	memory_free(&memory);
}

/* They are not worth an end; and it is not tried again and again. */
TEST(small_pages_do_where_none_can_be_put_together)
{
	static const int errors[] = { EAGAIN, ENOMEM, EINVAL };
	struct error err = { 0 };
	struct memory memory;

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		allocate(&memory, 8 * MIB, NULL, 0, MEMORY_COLLAPSE);
		fail_advice(MADV_COLLAPSE, errors[i]);
		assert_int_equal(memory_populate(&memory, 0, 4 * MIB, &err), 0);
		assert_int_equal(memory_populate(&memory, 4 * MIB, 4 * MIB, &err), 0);
		assert_present(&memory, 0, 8 * MIB);
		assert_int_equal(calls[MADV_COLLAPSE], errors[i] == EINVAL ? 1 : 2);
		memory_free(&memory);
	}
	fail_advice(0, 0);
}

TEST(memory_that_cannot_be_had_is_told)
{
	static const int errors[][2] = { { EFAULT, ENOMEM }, { ENOMEM, ENOMEM },
		{ EHWPOISON, EHWPOISON } };
	struct error err = { 0 };
	struct memory memory;

	for (enum memory_kind kind = MEMORY_HUGE; kind <= MEMORY_COLLAPSE; kind++) {
		allocate(&memory, 128 * MIB, NULL, 0, kind);
		for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
			err = (struct error){ 0 };
			fail_advice(MADV_POPULATE_WRITE, errors[i][0]);
			assert_int_equal(
				memory_populate(&memory, 0, 64 * MIB, &err), -errors[i][1]);
			assert_non_null(strstr(err.what, "no memory left"));
			assert_non_null(strstr(err.what, "128 MiB"));
		}
		/* A kernel that does not know how leaves it to the pinning. */
		err = (struct error){ 0 };
		fail_advice(MADV_POPULATE_WRITE, EINVAL);
		assert_int_equal(memory_populate(&memory, 0, 64 * MIB, &err), 0);
		assert_int_equal(err.code, 0);
		memory_free(&memory);
	}
	fail_advice(0, 0);
}

/* A file that is smaller than what the guest is to have is as a host without memory. */
TEST(a_page_that_is_not_to_be_had_is_an_error_and_no_signal)
{
	struct error err = { 0 };
	struct memory memory;

	assert_int_equal(place(&memory, 16 * MIB, NULL, 0), 0);
	assert_int_equal(memory_map(&memory, memory_file(8 * MIB, 0), MEMORY_HUGE, &err), 0);
	assert_int_equal(memory_populate(&memory, 0, 8 * MIB, &err), 0);
	assert_int_equal(memory_need(&memory, 8 * MIB, 4096, &err), -ENOMEM);
	assert_int_equal(memory.first_count, 0);
	memory_free(&memory);
}

TEST(what_the_guest_needs_first_is_given_once)
{
	struct memory_range range = { 0 };
	struct error err = { 0 };
	struct memory memory;

	allocate(&memory, 32 * MIB, NULL, 0, MEMORY_HUGE);
	assert_false(memory_next_first(&memory, &range));
	assert_int_equal(memory_need(&memory, 0, MIB, &err), 0);
	assert_int_equal(memory_need(&memory, 17 * MIB, 3 * MIB, &err), 0);
	assert_present(&memory, 16 * MIB, 4 * MIB);
	memory_add_first(&memory, 64 * MIB, MIB); /* no RAM */
	assert_true(memory_next_first(&memory, &range));
	assert_int_equal(range.gpa, 0);
	assert_int_equal(range.size, MIB);
	assert_true(memory_next_first(&memory, &range));
	assert_int_equal(range.gpa, 17 * MIB);
	assert_int_equal(range.size, 3 * MIB);
	assert_true(memory_next_first(&memory, &range));
	assert_int_equal(range.gpa, 64 * MIB);
	assert_int_equal(range.size, MIB);
	assert_false(memory_next_first(&memory, &range));
	memory_free(&memory);
}

/* A back end has the file as well. */
TEST(nobody_takes_the_end_of_the_file_away)
{
	int fd = memory_file(4 * MIB, 0);

	assert_int_not_equal(ftruncate(fd, MIB), 0);
	assert_int_not_equal(ftruncate(fd, 8 * MIB), 0);
	close(fd);
}

TEST(memory_that_the_host_does_not_have_is_an_error)
{
	struct error err = { 0 };
	struct memory memory;

	/* More than 47 bits of addresses hold. */
	memory = (struct memory){ .fd = -1, .count = 1, .size = 1ULL << 50 };
	memory.regions[0].size = 1ULL << 50;
	assert_int_equal(memory_map(&memory, memory_file(MIB, 0), MEMORY_HUGE, &err), -ENOMEM);
	assert_true(err.what[0]);
	memory_free(&memory);
}

/* The kernel gives them in order and apart from each other; what if it did not? */
TEST(ranges_that_overlap_give_each_address_once)
{
	static const struct iova_range twice[] = { { 0, 0x7fffffff }, { 0, 0xfedfffff },
		{ 4 * GIB, 8 * GIB - 1 }, { 5 * GIB, 9 * GIB - 1 } };
	static const struct iova_range back[] = { { 4 * GIB, 8 * GIB - 1 }, { 0, GIB - 1 } };
	struct memory memory;

	assert_int_equal(place(&memory, 7 * GIB, twice, 4), 0);
	assert_int_equal(memory.count, 3);
	assert_region(&memory, 1, 4 * GIB, 4 * GIB);
	assert_region(&memory, 2, 8 * GIB, GIB);
	assert_int_equal(place(&memory, 2 * GIB, back, 2), 0);
	assert_region(&memory, 0, 0, GIB);
	assert_region(&memory, 1, 4 * GIB, GIB);
}

TEST(no_range_at_all_is_not_everywhere)
{
	struct memory memory;

	assert_int_equal(place(&memory, 64 * MIB, usual, 0), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(little_memory_is_one_region),
		cmocka_unit_test(more_goes_on_above_4_gib),
		cmocka_unit_test(ram_lies_around_what_the_host_reserves),
		cmocka_unit_test(pages_of_1_gib_lie_on_their_borders),
		cmocka_unit_test(pages_of_1_gib_are_mapped_by_whole_ones),
		cmocka_unit_test(every_region_is_inside_a_range),
		cmocka_unit_test(memory_that_does_not_fit_is_refused),
		cmocka_unit_test(a_hole_at_the_bottom_is_refused),
		cmocka_unit_test(too_many_holes_are_refused),
		cmocka_unit_test(ranges_that_overlap_give_each_address_once),
		cmocka_unit_test(no_range_at_all_is_not_everywhere),
		cmocka_unit_test(addresses_are_found_within_one_region_alone),
		cmocka_unit_test(addresses_agree_modulo_a_huge_page),
		cmocka_unit_test(memory_is_one_file),
		cmocka_unit_test(freed_memory_is_gone),
		cmocka_unit_test(the_kernel_knows_what_it_is_for),
		cmocka_unit_test(a_pool_of_huge_pages_that_is_too_small_is_told),
		cmocka_unit_test(populating_makes_huge_pages_present),
		cmocka_unit_test(small_pages_are_put_together),
		cmocka_unit_test(small_pages_do_where_none_can_be_put_together),
		cmocka_unit_test(memory_that_cannot_be_had_is_told),
		cmocka_unit_test(a_page_that_is_not_to_be_had_is_an_error_and_no_signal),
		cmocka_unit_test(what_the_guest_needs_first_is_given_once),
		cmocka_unit_test(nobody_takes_the_end_of_the_file_away),
		cmocka_unit_test(memory_that_the_host_does_not_have_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
