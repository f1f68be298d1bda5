/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/memory.h"

#include "base/fd.h"
#include "base/log.h"
#include "machine/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* RAM below this must not have a hole: the kernel, its command line and the ACPI tables lie there. */
#define CONTIGUOUS_END (16 * MIB)

/* Take as much of [first, end) as is still wanted, on huge-page borders but for the last end. */
static int take_memory(struct memory *memory, uint64_t first, uint64_t end, uint64_t *wanted)
{
	uint64_t gpa = align_up(first, memory->page);
	uint64_t size;

	end = align_down(end, memory->page);
	if (!*wanted || end <= gpa)
		return 0;
	if (memory->count == MEMORY_REGIONS_MAX)
		return -ENOSPC;
	size = min_u64(end - gpa, *wanted);
	memory->regions[memory->count++] = (struct memory_region){ .gpa = gpa, .size = size };
	*wanted -= size;
	return 0;
}

/* Where the guest's map allows RAM; the second end leaves room for the 64-bit PCI window. */
static const struct iova_range allowed[] = {
	{ 0, LAYOUT_LOW_RAM_END - 1 },
	{ LAYOUT_HIGH_RAM, (1ULL << 46) - 1 },
};

int memory_place(struct memory *memory, uint64_t size, uint64_t page,
	const struct iova_range *ranges, unsigned count, struct error *err)
{
	static const struct iova_range everywhere = { 0, UINT64_MAX };
	uint64_t wanted = size, low_end = max_u64(page, CONTIGUOUS_END);
	char text[24];

	if (!ranges) {
		ranges = &everywhere;
		count = 1;
	}
	*memory = (struct memory){ .size = size, .page = page, .fd = -1 };
	for (unsigned i = 0; i < ARRAY_SIZE(allowed); i++)
		for (unsigned j = 0; j < count; j++) {
			uint64_t first = max_u64(max_u64(allowed[i].first, ranges[j].first),
				memory->count ? memory_end(memory) : 0);
			uint64_t last = min_u64(allowed[i].last, ranges[j].last);

			if (first < last && take_memory(memory, first, last + 1, &wanted))
				return error_set(err, -ENOSPC, NULL,
					"the host's IOMMU reserves too many regions");
		}
	if (wanted)
		return error_set(err, -ENOSPC, NULL,
			"guest RAM of %s does not fit into the addresses that the devices reach",
			size_format(size, text));
	if (memory->count && !memory->regions[0].gpa &&
		memory->regions[0].size >= min_u64(size, low_end))
		return 0;
	error_set(err, -ENOSPC, NULL,
		"the host's IOMMU reserves addresses below %s, where a guest needs RAM",
		size_format(low_end, text));
	if (page > MEMORY_PAGE)
		error_hint(err, "huge pages of 2 MiB may lie around them: --memory %s,hugepages=2M",
			size_format(size, text));
	return err->code;
}

int memory_file(uint64_t size, unsigned flags)
{
	cleanup_fd int fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	/* Back ends have it, too: none of them may take its end away from under us. */
	if (fd < 0 || ftruncate(fd, size) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return take_fd(&fd);
}

static int map_region(struct memory *memory, struct memory_region *region, uint64_t offset)
{
	/* Pages of the pool are reserved here, so that one that is too small is an error and no SIGBUS. */
	int flags = MAP_SHARED | MAP_FIXED | (memory->kind == MEMORY_HUGETLB ? 0 : MAP_NORESERVE);
	uint64_t reserved = region->size + memory->page;
	char *at =
		mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *aligned;

	if (at == MAP_FAILED)
		return -errno;
	/* GPA and HVA must agree in their low bits for one huge page to serve both. */
	aligned = (char *)align_up((uintptr_t)at, memory->page);
	region->hva =
		mmap(aligned, region->size, PROT_READ | PROT_WRITE, flags, memory->fd, offset);
	if (region->hva == MAP_FAILED) {
		region->hva = NULL;
		return -errno;
	}
	if (memory->kind != MEMORY_HUGETLB)
		madvise(region->hva, region->size, MADV_HUGEPAGE);
	madvise(region->hva, region->size, MADV_DONTDUMP);
	return 0;
}

int memory_map(struct memory *memory, int fd, enum memory_kind kind, struct error *err)
{
	uint64_t offset = 0;
	char text[24];
	int code = 0;

	memory->fd = fd;
	memory->kind = kind;
	for (unsigned i = 0; i < memory->count && !code; i++) {
		code = map_region(memory, &memory->regions[i], offset);
		offset += memory->regions[i].size;
	}
	if (!code)
		return 0;
	error_sys(err, code, NULL, "cannot get %s of memory for the guest",
		size_format(memory->size, text));
	if (kind == MEMORY_HUGETLB)
		error_hint(err,
			"others have taken huge pages just now; see "
			"/sys/kernel/mm/hugepages/hugepages-%llukB/free_hugepages",
			(unsigned long long)(memory->page / KIB));
	return code;
}

void memory_free(struct memory *memory)
{
	for (unsigned i = 0; i < memory->count; i++)
		if (memory->regions[i].hva)
			munmap(memory->regions[i].hva, memory->regions[i].size);
	if (memory->fd >= 0)
		close(memory->fd);
	*memory = (struct memory){ .fd = -1 };
}

/* Kernels before 5.14 do not know the advice; whoever touches the pages then does the work. */
static int make_present(char *at, uint64_t size)
{
	return madvise(at, size, MADV_POPULATE_WRITE) < 0 && errno != EINVAL ? -errno : 0;
}

/*
 * One small page of each huge one is made present, for of nothing the kernel makes nothing; then it
 * puts together a huge page of what is there and zeroes. A huge page that cannot be had is no error.
 */
static int collapse(struct memory *memory, char *at, uint64_t size)
{
	int code = 0;

	for (uint64_t done = 0; done < size && !code; done += MEMORY_PAGE)
		code = make_present(at + done, 4 * KIB);
	if (code || madvise(at, size, MADV_COLLAPSE) == 0 || errno != EINVAL)
		return code;
	if (__atomic_exchange_n(&memory->kind, MEMORY_HUGE, __ATOMIC_RELAXED) == MEMORY_COLLAPSE)
		log_info(
			"the guest's memory is on pages of 4 KiB: root, user namespaces, or Linux 6.1 or "
			"newer would have huge ones");
	return 0;
}

static const struct memory_region *region_at(
	const struct memory *memory, uint64_t gpa, uint64_t size)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];

		if (gpa >= region->gpa && size <= region->size &&
			gpa - region->gpa <= region->size - size)
			return region;
	}
	return NULL;
}

int memory_populate(struct memory *memory, uint64_t gpa, uint64_t size, struct error *err)
{
	const struct memory_region *region = region_at(memory, gpa, size);
	uint64_t start = align_down(gpa, MEMORY_PAGE) - region->gpa;
	uint64_t end = min_u64(align_up(gpa + size, MEMORY_PAGE) - region->gpa, region->size);
	char *at = (char *)region->hva + start;
	char text[24];
	int code = 0;

	if (__atomic_load_n(&memory->kind, __ATOMIC_RELAXED) == MEMORY_COLLAPSE)
		code = collapse(memory, at, end - start);
	if (!code)
		code = make_present(at, end - start);
	if (!code)
		return 0;
	/* It says so by EFAULT where the page is not to be had, for whatever reason. */
	error_set(err, code == -EFAULT ? -ENOMEM : code, NULL,
		"the host has no memory left for the guest's %s", size_format(memory->size, text));
	error_hint(err, "give it less with --memory, or end what uses the host's memory");
	return err->code;
}

int memory_need(struct memory *memory, uint64_t gpa, uint64_t size, struct error *err)
{
	if (memory_populate(memory, gpa, size, err))
		return err->code;
	memory_add_first(memory, gpa, size);
	return 0;
}

void memory_add_first(struct memory *memory, uint64_t gpa, uint64_t size)
{
	if (memory->first_count < MEMORY_FIRST_MAX)
		memory->first[memory->first_count++] = (struct memory_range){ gpa, size };
}

bool memory_next_first(struct memory *memory, struct memory_range *range)
{
	unsigned i;

	if (__atomic_load_n(&memory->first_given, __ATOMIC_RELAXED) >= memory->first_count)
		return false;
	i = __atomic_fetch_add(&memory->first_given, 1, __ATOMIC_RELAXED);
	if (i >= memory->first_count)
		return false;
	*range = memory->first[i];
	return true;
}

void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t size)
{
	const struct memory_region *region = region_at(memory, gpa, size);

	return region ? (char *)region->hva + (gpa - region->gpa) : NULL;
}

uint64_t memory_end(const struct memory *memory)
{
	const struct memory_region *last = &memory->regions[memory->count - 1];

	return last->gpa + last->size;
}
