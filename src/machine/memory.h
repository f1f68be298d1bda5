/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "vfio/iommu.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Guest RAM: where it lies in the guest (GPA), where in this process (HVA), and what backs it.
 * Anonymous memory gets transparent huge pages, which spares a second-level fault for each 4 KiB; the
 * two kinds of shared memory are for back ends in other processes, and for hosts with hugetlb pages.
 */

enum memory_backing {
	MEMORY_ANONYMOUS,
	MEMORY_SHARED,  /* a memfd */
	MEMORY_HUGETLB, /* a memfd of hugetlb pages, from the host's pool */
};

struct memory_region {
	uint64_t gpa;
	uint64_t size;
	void *hva;
};

#define MEMORY_REGIONS_MAX 16

struct memory {
	struct memory_region regions[MEMORY_REGIONS_MAX]; /* sorted by gpa */
	unsigned count;
	uint64_t size; /* of all regions */
	int fd;        /* of the shared kinds; -1 */
};

/*
 * Place size bytes of RAM: from 0 to 2 GiB and from 4 GiB on, inside the IOVAs that a device can
 * reach (ranges, NULL: everywhere).
 */
int memory_place(struct memory *memory, uint64_t size, const struct iova_range *ranges,
	unsigned count, struct error *err);

/* Back the placed regions by memory of this process. */
int memory_allocate(struct memory *memory, enum memory_backing backing, struct error *err);
void memory_free(struct memory *memory);

/*
 * Touch all of it in parallel, so that pinning it finds the pages there. Without this the kernel
 * zeroes page after page inside the mapping call, on one CPU.
 */
int memory_populate(struct memory *memory, struct error *err);

/* The HVA of [gpa, gpa + size), or NULL where that is not whole within one region. */
void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t size);

/* The first address above all RAM. */
uint64_t memory_end(const struct memory *memory);
