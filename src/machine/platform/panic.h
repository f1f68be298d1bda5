/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "pci/space.h"

/*
 * The port by which a guest's kernel says that it panics, as QEMU has it ("pvpanic", ACPI's QEMU0001): Linux and
 * Windows have drivers. The same as a PCI function would cost each start its configuration reads; a port costs
 * none until a driver looks at it.
 */

#define PANIC_PORT 0x505

#define PANIC_PANICKED     1 /* it is at its end */
#define PANIC_CRASH_LOADED 2 /* another kernel, which it had loaded for that, takes over */

struct panic {
	/* Called on a vCPU's thread. */
	void (*panicked)(void *opaque);
	void (*crash_loaded)(void *opaque);
	void *opaque;
};

int panic_init(struct panic *panic, struct space *pio);
