/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <pthread.h>
#include <stdint.h>

/*
 * An address space of trapped registers: GPAs, or I/O ports. Ranges do not overlap. The lock covers
 * the table alone, so a handler may add and remove ranges, its own among them.
 */

/* size is 1, 2, 4 or 8; offset is from the range's start; offset + size is within the range. */
struct space_ops {
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
	void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
};

struct space_range {
	uint64_t base;
	uint64_t size;
	const struct space_ops *ops;
	void *opaque;
};

struct space {
	pthread_rwlock_t lock;
	struct space_range *ranges; /* sorted by base */
	unsigned count;
	unsigned room;
};

void space_init(struct space *space);
void space_destroy(struct space *space);

/* 0, -EEXIST where it would overlap another range, -ENOMEM. */
int space_add(struct space *space, uint64_t base, uint64_t size, const struct space_ops *ops,
	void *opaque);
void space_remove(struct space *space, uint64_t base);

/* What no range claims reads as all ones, and writes to it are dropped, as on a PC's buses. */
uint64_t space_read(struct space *space, uint64_t address, unsigned size);
void space_write(struct space *space, uint64_t address, unsigned size, uint64_t value);
