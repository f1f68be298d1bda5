/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/bochs.h"

#include "base/container.h"

#include <linux/pci_regs.h>

#define VENDOR        0x1234
#define DEVICE        0x1111
#define SUBSYSTEM     0x1af4 /* QEMU's, with 1100: Linux looks for these */
#define SUBSYSTEM_ID  0x1100
#define CLASS         0x0380 /* a display, and no VGA */
#define MEMORY_BAR    0
#define REGISTERS_BAR 2
#define DISPI         0x500  /* in BAR 2, two bytes each */
#define ID            0xb0c5 /* DISPI's version 5 */
#define ENABLED       0x01
#define TELL_MOST     0x02 /* size and depth read as the largest that there are */
#define BITS          32
#define BYTES_A_PIXEL 4

/* DISPI registers. */
enum {
	DISPI_ID = 0,
	WIDTH = 1,
	HEIGHT = 2,
	DEPTH = 3,
	ENABLE = 4,
	BANK = 5,
	VIRTUAL_WIDTH = 6,
	VIRTUAL_HEIGHT = 7,
	FIRST_COLUMN = 8,
	FIRST_ROW = 9,
	MEMORY_64K = 10, /* read only: how much there is */
};

static struct bochs *bochs_of(struct pci_device *pci)
{
	return container_of(pci, struct bochs, pci);
}

/* Only with 32 bits a pixel, which both drivers want. */
static struct display_mode find_mode(const struct bochs *bochs)
{
	const uint16_t *dispi = bochs->dispi;
	uint32_t across = max_u64(dispi[VIRTUAL_WIDTH], dispi[WIDTH]);
	struct display_mode mode = {
		.width = dispi[WIDTH],
		.height = dispi[HEIGHT],
		.stride = across * BYTES_A_PIXEL,
	};
	uint64_t offset =
		(uint64_t)dispi[FIRST_ROW] * mode.stride + dispi[FIRST_COLUMN] * BYTES_A_PIXEL;

	mode.offset = min_u64(offset, DISPLAY_MEMORY);
	if (!(dispi[ENABLE] & ENABLED) || dispi[DEPTH] != BITS || !display_mode_is_sound(&mode))
		return (struct display_mode){ 0 };
	return mode;
}

static void tell_mode(const struct bochs *bochs)
{
	struct display_mode mode = find_mode(bochs);

	display_mode_tell((struct display_shared *)((char *)bochs->memory + DISPLAY_MEMORY), &mode);
}

static uint16_t read_dispi(const struct bochs *bochs, unsigned i)
{
	bool most = bochs->dispi[ENABLE] & TELL_MOST;

	if (i == DISPI_ID)
		return ID;
	if (i == MEMORY_64K)
		return DISPLAY_MEMORY / (64 * KIB);
	if (most && (i == WIDTH || i == HEIGHT))
		return DISPLAY_SIDE_MAX;
	if (most && i == DEPTH)
		return BITS;
	return i < BOCHS_DISPI_WRITABLE ? bochs->dispi[i] : 0;
}

/* All but DISPI reads as 0: no EDID, and no VGA. Of 32 bits the lower half is the register. */
static uint64_t bochs_read(struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size)
{
	uint64_t at = offset - DISPI;

	if (bar != REGISTERS_BAR || offset < DISPI || at > 2 * MEMORY_64K || at % 2)
		return 0;
	return read_dispi(bochs_of(pci), at / 2) & (size == 1 ? 0xff : 0xffff);
}

static void bochs_write(
	struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
	struct bochs *bochs = bochs_of(pci);
	uint64_t at = offset - DISPI;

	if (bar != REGISTERS_BAR || offset < DISPI || at >= 2 * BOCHS_DISPI_WRITABLE || at % 2 ||
		size != 2)
		return;
	bochs->dispi[at / 2] = value;
	tell_mode(bochs);
}

/* Where it fails, the guest's drawing is trapped and lost: nothing is read or written then. */
static void bochs_mapped(struct pci_device *pci, unsigned bar)
{
	struct bochs *bochs = bochs_of(pci);

	if (bar == PCI_ROM)
		bochs->rom_slot = kvm_slot_map(bochs->vm, pci->bars[bar].address, DISPLAY_ROM,
			(void *)bochs->rom, KVM_MEM_READONLY);
	if (bar == MEMORY_BAR)
		bochs->slot = kvm_slot_map(
			bochs->vm, pci->bars[bar].address, DISPLAY_MEMORY, bochs->memory, 0);
}

static void bochs_unmapped(struct pci_device *pci, unsigned bar)
{
	struct bochs *bochs = bochs_of(pci);

	int *slot = bar == MEMORY_BAR ? &bochs->slot : bar == PCI_ROM ? &bochs->rom_slot : NULL;

	if (!slot || *slot < 0)
		return;
	kvm_slot_unmap(bochs->vm, *slot);
	*slot = -1;
}

static const struct pci_device_ops bochs_ops = {
	.bar_read = bochs_read,
	.bar_write = bochs_write,
	.bar_mapped = bochs_mapped,
	.bar_unmapped = bochs_unmapped,
};

int bochs_init(struct bochs *bochs, struct pci_bus *bus, uint8_t devfn, struct error *err)
{
	struct pci_device *pci = &bochs->pci;
	int code = pci_device_init(pci, &bochs_ops);

	if (code)
		return error_sys(err, code, NULL, "cannot make the guest's display");
	bochs->slot = bochs->rom_slot = -1;
	pci_set16(pci, PCI_VENDOR_ID, VENDOR);
	pci_set16(pci, PCI_DEVICE_ID, DEVICE);
	pci_set16(pci, PCI_CLASS_DEVICE, CLASS);
	pci_set16(pci, PCI_SUBSYSTEM_VENDOR_ID, SUBSYSTEM);
	pci_set16(pci, PCI_SUBSYSTEM_ID, SUBSYSTEM_ID);
	pci_device_set_bar(pci, MEMORY_BAR, PCI_BAR_MEM32, true, DISPLAY_MEMORY);
	pci_device_set_bar(pci, REGISTERS_BAR, PCI_BAR_MEM32, false, BOCHS_REGISTERS_SIZE);
	if (bochs->rom)
		pci_device_set_bar(pci, PCI_ROM, PCI_BAR_MEM32, false, DISPLAY_ROM);
	tell_mode(bochs);
	if (pci_bus_add(bus, pci, devfn, err))
		return err->code;
	return pci_bus_place(pci, err);
}

void bochs_destroy(struct bochs *bochs)
{
	if (!bochs->pci.config)
		return;
	if (bochs->pci.bus)
		pci_bus_remove(&bochs->pci);
	pci_device_destroy(&bochs->pci);
}
