/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "passthrough/quirks.h"

#include "base/size.h"

#include <stddef.h>

#define CLASS_VGA 0x0300

static const struct quirk_entry quirks[] = {
	{
		0x14e4,
		0x168e,
		QUIRK_ANY,
		QUIRK_NO_ROM,
		"Broadcom BCM57810",
		"its option ROM never ends in a guest",
		"QEMU, hw/vfio/pci-quirks.c (rom_denylist); https://bugs.launchpad.net/qemu/+bug/1284874",
	},
	{
		0x1002,
		QUIRK_ANY,
		CLASS_VGA,
		QUIRK_PORTS_AT_3C3,
		"AMD's and ATI's graphics cards",
		"their VGA BIOS finds the card's ports by VGA port 3C3, which has the host's address",
		"QEMU, hw/vfio/pci-quirks.c (vfio_ati_3c3_quirk_read)",
	},
};

static bool fits(uint16_t wanted, uint16_t is)
{
	return wanted == QUIRK_ANY || wanted == is;
}

const struct quirk_entry *quirk_find(
	enum quirk what, uint16_t vendor, uint16_t device, uint16_t class)
{
	for (size_t i = 0; i < ARRAY_SIZE(quirks); i++)
		if (quirks[i].what == what && fits(quirks[i].vendor, vendor) &&
			fits(quirks[i].device, device) && fits(quirks[i].class, class))
			return &quirks[i];
	return NULL;
}
