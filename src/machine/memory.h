/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "base/size.h"
#include "vfio/iommu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Guest RAM: where it lies in the guest (GPA), where in this process (HVA), and the file behind it. A
 * file, so that back ends in other processes and in the kernel can map it, too. Its pages are of 2 MiB,
 * which spares a second-level fault for each 4 KiB, or of 1 GiB; GPA, HVA and the offset in the file agree
 * in their low bits, as many as a page has.
 */

#define MEMORY_PAGE (2 * MIB)

enum memory_kind {
	MEMORY_HUGE,     /* a file that has huge pages wherever one is free */
	MEMORY_COLLAPSE, /* a file of small pages, which are put together as they are made present */
	MEMORY_HUGETLB,  /* a file of the host's pool of huge pages */
};

/* Addresses in the guest. */
struct memory_range {
	uint64_t gpa;
	uint64_t size;
};

struct memory_region {
	uint64_t gpa;
	uint64_t size;
	void *hva;
};

#define MEMORY_REGIONS_MAX 16
#define MEMORY_FIRST_MAX   4

struct memory {
	struct memory_region regions[MEMORY_REGIONS_MAX]; /* sorted by gpa */
	unsigned count;
	uint64_t size; /* of all regions */
	uint64_t page;
	int fd; /* -1: not mapped */
	enum memory_kind kind;
	struct memory_range first[MEMORY_FIRST_MAX]; /* memory_need(), memory_add_first() */
	unsigned first_count;
	unsigned first_given; /* of them: memory_next_first() */
};

/*
 * Place size bytes of RAM, in pages of MEMORY_PAGE or 1 GiB: from 0 to 2 GiB and from 4 GiB on, inside the
 * IOVAs that a device can reach (ranges, NULL: everywhere).
 */
int memory_place(struct memory *memory, uint64_t size, uint64_t page,
	const struct iova_range *ranges, unsigned count, struct error *err);

/* A file of so many bytes for guest RAM, with flags of memfd_create(2): descriptor or negative errno. */
int memory_file(uint64_t size, unsigned flags);

/* Map the placed regions, one behind the other in the file, which is the memory's from here on. */
int memory_map(struct memory *memory, int fd, enum memory_kind kind, struct error *err);
void memory_free(struct memory *memory);

/*
 * Make pages present, in whole huge pages: an error where the host has none left, and not a signal or
 * a vCPU that cannot go on later. gpa and size may be anything within one region. Threads may do this
 * for different ranges at once.
 */
int memory_populate(struct memory *memory, uint64_t gpa, uint64_t size, struct error *err);

/* The same for what the guest needs to start; this process writes nowhere else in it. */
int memory_need(struct memory *memory, uint64_t gpa, uint64_t size, struct error *err);

/* What else is mapped for the guest before it starts, and is no RAM: it would fault at each of its small pages. */
void memory_add_first(struct memory *memory, uint64_t gpa, uint64_t size);

/* One range after the other of what these two were told of; any thread may ask. False: no more. */
bool memory_next_first(struct memory *memory, struct memory_range *range);

/* The HVA of [gpa, gpa + size), or NULL where that is not whole within one region. */
void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t size);

/* The first address above all RAM. */
uint64_t memory_end(const struct memory *memory);
