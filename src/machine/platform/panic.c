/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/panic.h"

/* What it may be told. */
static uint64_t panic_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque, (void)offset, (void)size;
	return PANIC_PANICKED | PANIC_CRASH_LOADED;
}

static void panic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct panic *panic = opaque;

	(void)offset, (void)size;
	if (value & PANIC_PANICKED)
		panic->panicked(panic->opaque);
	else if (value & PANIC_CRASH_LOADED)
		panic->crash_loaded(panic->opaque);
}

static const struct space_ops panic_ops = { panic_read, panic_write };

int panic_init(struct panic *panic, struct space *pio)
{
	return space_add(pio, PANIC_PORT, 1, &panic_ops, panic);
}
