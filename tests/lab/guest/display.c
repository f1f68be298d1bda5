// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * display: sets a mode of the Bochs-compatible card by its registers, as its drivers do, draws a picture that tells each
 * pixel's place, says DISPLAY-READY, and waits for the keys of `keyboard` on the PC's own.
 */
#include "lab.h"

#include <linux/input.h>
#include <stdio.h>

#define WIDTH  304
#define HEIGHT 64

enum { ID, XRES, YRES, BPP, ENABLE, BANK, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET, MEMORY };

static const uint16_t mode[][2] = { { ENABLE, 0 }, { BPP, 32 }, { XRES, WIDTH }, { YRES, HEIGHT },
	{ BANK, 0 }, { VIRT_WIDTH, WIDTH }, { VIRT_HEIGHT, HEIGHT }, { X_OFFSET, 0 },
	{ Y_OFFSET, 0 }, { ENABLE, 0x41 } };

int display_main(int argc, char **argv)
{
	volatile uint16_t *dispi;
	volatile uint32_t *pixels;
	struct pci pci;
	size_t size;

	(void)argc;
	(void)argv;
	if (!pci_find(&pci, 0x1234, 0x1111))
		fail("no display");
	pci_attribute(&pci, "enable", "1");
	pci_enable(&pci);
	pixels = pci_map(&pci, 0, &size);
	dispi = (volatile uint16_t *)pci_map(&pci, 2, NULL) + 0x500 / 2;
	if ((dispi[ID] & 0xfff0) != 0xb0c0 || dispi[MEMORY] != size >> 16)
		fail("it has ID %#x, and %u times 64 KiB", dispi[ID], dispi[MEMORY]);
	for (size_t i = 0; i < sizeof(mode) / sizeof(mode[0]); i++)
		dispi[mode[i][0]] = mode[i][1];
	for (uint32_t y = 0; y < HEIGHT; y++)
		for (uint32_t x = 0; x < WIDTH; x++)
			pixels[y * WIDTH + x] =
				(x & 0xff) << 16 | (y & 0xff) << 8 | (x >> 8 << 4 | y >> 8);
	printf("DISPLAY-READY\n");
	await_keys(BUS_I8042);
	return 0;
}
