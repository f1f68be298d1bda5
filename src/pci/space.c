/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pci/space.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void space_init(struct space *space)
{
	*space = (struct space){ 0 };
	pthread_rwlock_init(&space->lock, NULL);
}

void space_destroy(struct space *space)
{
	pthread_rwlock_destroy(&space->lock);
	free(space->ranges);
}

/* Index of the first range that ends above address. */
static unsigned search(const struct space *space, uint64_t address)
{
	unsigned low = 0, high = space->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct space_range *range = &space->ranges[middle];

		if (range->base + (range->size - 1) < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int add_locked(struct space *space, const struct space_range *new)
{
	unsigned at = search(space, new->base);

	if (at < space->count && space->ranges[at].base <= new->base + (new->size - 1))
		return -EEXIST;
	if (space->count == space->room) {
		unsigned room = space->room ? 2 * space->room : 16;
		void *ranges = realloc(space->ranges, room * sizeof(*space->ranges));

		if (!ranges)
			return -ENOMEM;
		space->ranges = ranges;
		space->room = room;
	}
	memmove(&space->ranges[at + 1], &space->ranges[at],
		(space->count - at) * sizeof(*space->ranges));
	space->ranges[at] = *new;
	space->count++;
	return 0;
}

int space_add(struct space *space, uint64_t base, uint64_t size, const struct space_ops *ops,
	void *opaque)
{
	struct space_range new = { base, size, ops, opaque };
	int code;

	if (!size || base + (size - 1) < base)
		return -EINVAL;
	pthread_rwlock_wrlock(&space->lock);
	code = add_locked(space, &new);
	pthread_rwlock_unlock(&space->lock);
	return code;
}

void space_remove(struct space *space, uint64_t base)
{
	unsigned at;

	pthread_rwlock_wrlock(&space->lock);
	at = search(space, base);
	if (at < space->count && space->ranges[at].base == base) {
		space->count--;
		memmove(&space->ranges[at], &space->ranges[at + 1],
			(space->count - at) * sizeof(*space->ranges));
	}
	pthread_rwlock_unlock(&space->lock);
}

static bool lookup(struct space *space, uint64_t address, unsigned size, struct space_range *range)
{
	bool found;
	unsigned at;

	pthread_rwlock_rdlock(&space->lock);
	at = search(space, address);
	found = at < space->count && space->ranges[at].base <= address;
	if (found)
		*range = space->ranges[at];
	pthread_rwlock_unlock(&space->lock);
	/* An access that runs over a range's end is nobody's. */
	return found && size <= range->size - (address - range->base);
}

uint64_t space_read(struct space *space, uint64_t address, unsigned size)
{
	struct space_range range;

	if (!lookup(space, address, size, &range))
		return UINT64_MAX;
	return range.ops->read(range.opaque, address - range.base, size);
}

void space_write(struct space *space, uint64_t address, unsigned size, uint64_t value)
{
	struct space_range range;

	if (lookup(space, address, size, &range))
		range.ops->write(range.opaque, address - range.base, size, value);
}
