/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * What single devices need beyond what their registers say. An entry is there because somebody has seen it to be
 * needed, and says where that is told; --device ADDRESS,quirks=off goes without.
 */

enum quirk {
	QUIRK_NO_ROM,       /* its own option ROM is not shown */
	QUIRK_PORTS_AT_3C3, /* VGA port 3C3 reads as the upper byte of BAR 4's address in the guest */
};

#define QUIRK_PORTS_BAR 4 /* where 3C3 has them */

#define QUIRK_ANY 0xffff

struct quirk_entry {
	uint16_t vendor, device, class; /* class without the interface; each may be QUIRK_ANY */
	enum quirk what;
	const char *devices, *reason, *source;
};

/* The one that names a device with these for this quirk, or NULL. */
const struct quirk_entry *quirk_find(
	enum quirk what, uint16_t vendor, uint16_t device, uint16_t class);
