/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PASSTHROUGH_ROM_MAX (16u << 20) /* PCI Local Bus 3.0, 6.2.5.2 */

/* What the guest finds as the device's option ROM. */
struct passthrough_rom {
	bool hidden;       /* none */
	const void *bytes; /* in place of the device's own, and the caller's; NULL */
	uint64_t size;     /* of bytes: what the ROM's BAR can have, 4 KiB or more */
};
