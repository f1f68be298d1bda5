/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/memory.h"

#include "base/fd.h"
#include "machine/layout.h"

#include <errno.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HUGE_PAGE           (2 * MIB)
#define POPULATE_THREADS    16
#define POPULATE_PER_THREAD (64 * MIB) /* less is not worth a thread */

/* RAM below this must not have a hole: the kernel, its command line and the ACPI tables lie there. */
#define CONTIGUOUS_END (16 * MIB)

/* Take as much of [first, end) as is still wanted, on huge-page borders but for the last end. */
static int take(struct memory *memory, uint64_t first, uint64_t end, uint64_t *wanted)
{
	uint64_t gpa = align_up(first, HUGE_PAGE);
	uint64_t size;

	end = align_down(end, HUGE_PAGE);
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

int memory_place(struct memory *memory, uint64_t size, const struct iova_range *ranges,
	unsigned count, struct error *err)
{
	static const struct iova_range everywhere = { 0, UINT64_MAX };
	uint64_t wanted = size;
	char text[24];

	if (!ranges) {
		ranges = &everywhere;
		count = 1;
	}
	*memory = (struct memory){ .size = size, .fd = -1 };
	for (unsigned i = 0; i < ARRAY_SIZE(allowed); i++)
		for (unsigned j = 0; j < count; j++) {
			uint64_t first = max_u64(max_u64(allowed[i].first, ranges[j].first),
				memory->count ? memory_end(memory) : 0);
			uint64_t last = min_u64(allowed[i].last, ranges[j].last);

			if (first < last && take(memory, first, last + 1, &wanted))
				return error_set(err, -ENOSPC, NULL,
					"the host's IOMMU reserves too many regions");
		}
	if (wanted)
		return error_set(err, -ENOSPC, NULL,
			"guest RAM of %s does not fit into the addresses that the devices reach",
			size_format(size, text));
	if (!memory->count || memory->regions[0].gpa ||
		memory->regions[0].size < min_u64(size, CONTIGUOUS_END))
		return error_set(err, -ENOSPC, NULL,
			"the host's IOMMU reserves addresses below 16 MiB, where a guest needs RAM");
	return 0;
}

static int back(struct memory *memory, struct memory_region *region, enum memory_backing backing,
	uint64_t offset)
{
	/* Huge pages are reserved here, so that a pool that is too small is an error and no SIGBUS. */
	int flags = backing == MEMORY_HUGETLB  ? MAP_SHARED
		    : backing == MEMORY_SHARED ? MAP_SHARED | MAP_NORESERVE
					       : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint64_t reserved = region->size + HUGE_PAGE;
	char *at =
		mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *aligned;

	if (at == MAP_FAILED)
		return -errno;
	/* GPA and HVA must agree in their low 21 bits for one huge page to serve both. */
	aligned = (char *)align_up((uintptr_t)at, HUGE_PAGE);
	region->hva = mmap(aligned, region->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
		memory->fd, offset);
	if (region->hva == MAP_FAILED) {
		region->hva = NULL;
		return -errno;
	}
	if (backing != MEMORY_HUGETLB)
		madvise(region->hva, region->size, MADV_HUGEPAGE);
	madvise(region->hva, region->size, MADV_DONTDUMP);
	return 0;
}

int memory_allocate(struct memory *memory, enum memory_backing backing, struct error *err)
{
	uint64_t offset = 0;
	char text[24];
	int code = 0;

	if (backing != MEMORY_ANONYMOUS) {
		unsigned huge = backing == MEMORY_HUGETLB ? MFD_HUGETLB | MFD_HUGE_2MB : 0;

		memory->fd = memfd_create("guest-ram", MFD_CLOEXEC | huge);
		if (memory->fd < 0 || ftruncate(memory->fd, memory->size) < 0)
			code = -errno;
	}
	for (unsigned i = 0; i < memory->count && !code; i++) {
		code = back(memory, &memory->regions[i], backing, offset);
		offset += memory->regions[i].size;
	}
	if (!code)
		return 0;
	error_sys(err, code, NULL, "cannot get %s of memory for the guest",
		size_format(memory->size, text));
	if (backing == MEMORY_HUGETLB)
		error_hint(err,
			"others have taken huge pages just now; see HugePages_Free in /proc/meminfo");
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

struct populate {
	pthread_t thread;
	const struct memory *memory;
	unsigned index, count; /* this thread's share: piece index of count of every region */
	int code;
};

static void *populate_share(void *opaque)
{
	struct populate *work = opaque;

	for (unsigned i = 0; i < work->memory->count && !work->code; i++) {
		const struct memory_region *region = &work->memory->regions[i];
		uint64_t piece = align_up(region->size / work->count + 1, HUGE_PAGE);
		uint64_t start = work->index * piece;

		if (start >= region->size)
			continue;
		if (madvise((char *)region->hva + start, min_u64(piece, region->size - start),
			    MADV_POPULATE_WRITE) < 0)
			work->code = -errno;
	}
	return NULL;
}

/* Not sysconf(3): it opens files, which the sandbox forbids. */
static unsigned cpus_of_process(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

int memory_populate(struct memory *memory, struct error *err)
{
	struct populate works[POPULATE_THREADS];
	unsigned count = min_u64(cpus_of_process(), POPULATE_THREADS);
	int code = 0;

	count = max_u64(min_u64(count, memory->size / POPULATE_PER_THREAD), 1);
	for (unsigned i = 0; i < count; i++)
		works[i] = (struct populate){ .memory = memory, .index = i, .count = count };
	for (unsigned i = 1; i < count; i++)
		if (pthread_create(&works[i].thread, NULL, populate_share, &works[i]))
			works[i].thread = 0;
	for (unsigned i = 0; i < count; i++) {
		if (works[i].thread)
			pthread_join(works[i].thread, NULL);
		else
			populate_share(&works[i]); /* the first share, and any that got no thread */
		if (works[i].code)
			code = works[i].code;
	}
	/* Kernels before 5.14 do not know the advice; pinning then does the work, only slower. */
	if (code == -EINVAL)
		code = 0;
	return code ? error_sys(err, code, NULL, "cannot populate the guest's RAM") : 0;
}

void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t size)
{
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];

		if (gpa >= region->gpa && size <= region->size &&
			gpa - region->gpa <= region->size - size)
			return (char *)region->hva + (gpa - region->gpa);
	}
	return NULL;
}

uint64_t memory_end(const struct memory *memory)
{
	const struct memory_region *last = &memory->regions[memory->count - 1];

	return last->gpa + last->size;
}
