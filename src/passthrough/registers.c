/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/container.h"
#include "base/log.h"
#include "base/size.h"
#include "passthrough/passthrough.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <sys/mman.h>

/*
 * Registers. A memory BAR is mapped straight into the guest, but for the pages of the MSI-X table and
 * its pending bits: they hold host addresses in truth and the guest's in its view. What is left
 * trapped goes through registers_read() and registers_write() on the vCPU's thread. So does all at a VGA card's
 * fixed addresses, for before each access there the kernel has to see that no other card answers it.
 */

#define PAGE (4 * KIB)

/* [start, end) of the pages that hold the MSI-X table (which = 0) or the pending bits, if any. */
static struct vfio_area msix_pages(const struct msix *msix, unsigned bar, unsigned which)
{
	uint64_t offset = which ? msix->pba_offset : msix->table_offset;
	uint64_t size = which ? msix_pba_size(msix) : msix_table_size(msix);
	uint64_t start = align_down(offset, PAGE);

	if (!msix->cap || bar != (which ? msix->pba_bar : msix->table_bar))
		return (struct vfio_area){ 0 };
	return (struct vfio_area){ start, align_up(offset + size, PAGE) - start };
}

static void add_window(struct passthrough_bar *bar, uint64_t start, uint64_t end)
{
	if (start < end && bar->count < PASSTHROUGH_WINDOWS_MAX)
		bar->windows[bar->count++] = (struct passthrough_window){
			.offset = start, .size = end - start, .slot = -1
		};
}

/* Add [start, end) without the pages from hole on. */
static void add_around(struct passthrough_bar *bar, uint64_t start, uint64_t end,
	const struct vfio_area *holes, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t hole_end = holes[i].offset + holes[i].size;

		if (!holes[i].size || holes[i].offset >= end || hole_end <= start)
			continue;
		add_around(bar, start, holes[i].offset, holes + i + 1, count - i - 1);
		start = min_u64(hole_end, end);
	}
	add_window(bar, start, end);
}

/* A BAR smaller than a page has its page for itself at the host, or VFIO would not offer to map it. */
static void plan_windows(struct passthrough *device, unsigned i)
{
	const struct vfio_region *region = &device->vfio.regions[i];
	struct vfio_area holes[2] = { msix_pages(&device->msix, i, 0),
		msix_pages(&device->msix, i, 1) };

	for (unsigned j = 0; j < region->area_count; j++) {
		uint64_t start = align_up(region->areas[j].offset, PAGE);
		uint64_t end = region->areas[j].offset + region->areas[j].size;

		end = region->size < PAGE ? PAGE : align_down(end, PAGE);
		if (end <= max_u64(region->size, PAGE))
			add_around(&device->bars[i], start, end, holes, 2);
	}
}

int passthrough_registers_init(struct passthrough *device, struct error *err)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct passthrough_bar *bar = &device->bars[i];
		enum pci_bar_kind kind = device->pci.bars[i].kind;

		if (kind == PCI_BAR_NONE || kind == PCI_BAR_IO)
			continue;
		plan_windows(device, i);
		for (unsigned j = 0; j < bar->count; j++) {
			struct passthrough_window *window = &bar->windows[j];

			window->hva =
				vfio_region_map(&device->vfio, i, window->offset, window->size);
			if (!window->hva)
				return error_sys(
					err, -errno, device->vfio.name, "cannot map BAR %u", i);
		}
	}
	return 0;
}

void passthrough_registers_destroy(struct passthrough *device)
{
	for (unsigned i = 0; i < PCI_BARS; i++)
		for (unsigned j = 0; j < device->bars[i].count; j++) {
			struct passthrough_window *window = &device->bars[i].windows[j];

			passthrough_unreach_window(device, i, window);
			if (window->hva)
				munmap(window->hva, window->size);
		}
}

static void map_windows(struct passthrough *device, unsigned i)
{
	struct passthrough_bar *bar = &device->bars[i];
	uint64_t address = device->pci.bars[i].address;

	for (unsigned j = 0; j < bar->count; j++) {
		struct passthrough_window *window = &bar->windows[j];

		/* On failure the accesses are trapped: slower, but right. */
		window->slot = kvm_slot_map(
			device->vm, address + window->offset, window->size, window->hva, 0);
		if (window->slot < 0)
			log_warning("%s: BAR %u is trapped, not mapped (error %d)",
				device->vfio.name, i, window->slot);
		passthrough_reach_window(device, i, window);
	}
}

static void unmap_windows(struct passthrough *device, unsigned i)
{
	struct passthrough_bar *bar = &device->bars[i];

	for (unsigned j = 0; j < bar->count; j++) {
		passthrough_unreach_window(device, i, &bar->windows[j]);
		if (bar->windows[j].slot >= 0)
			kvm_slot_unmap(device->vm, bar->windows[j].slot);
		bar->windows[j].slot = -1;
	}
}

static void bar_mapped(struct pci_device *pci, unsigned i)
{
	struct passthrough *device = container_of(pci, struct passthrough, pci);

	if (i == PCI_ROM)
		passthrough_rom_show(device);
	else if (i < PCI_BARS)
		map_windows(device, i);
}

static void bar_unmapped(struct pci_device *pci, unsigned i)
{
	struct passthrough *device = container_of(pci, struct passthrough, pci);

	if (i == PCI_ROM)
		passthrough_rom_hide(device);
	else if (i < PCI_BARS)
		unmap_windows(device, i);
}

/* Whether the access is whole in the MSI-X table, or in the pending bits. */
static bool in_table(const struct passthrough *device, unsigned bar, uint64_t offset, unsigned size)
{
	const struct msix *msix = &device->msix;

	return msix->cap && bar == msix->table_bar &&
	       is_within(offset, size, msix->table_offset, msix_table_size(msix));
}

static bool in_pba(const struct passthrough *device, unsigned bar, uint64_t offset, unsigned size)
{
	const struct msix *msix = &device->msix;

	return msix->cap && bar == msix->pba_bar &&
	       is_within(offset, size, msix->pba_offset, msix_pba_size(msix));
}

static uint64_t vga_read(struct passthrough *device, uint64_t address, unsigned size)
{
	if (device->at_3c3 && address == 0x3c3 && size == 1)
		return pci_device_bar_register(&device->pci, QUIRK_PORTS_BAR) >> 8 & 0xff;
	return vfio_region_read(&device->vfio, VFIO_PCI_VGA_REGION_INDEX, address, size);
}

static uint64_t registers_read(struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size)
{
	struct passthrough *device = container_of(pci, struct passthrough, pci);
	uint64_t start;

	if (bar == PCI_ROM)
		return passthrough_rom_read(device, offset, size);
	if (bar >= PCI_VGA)
		return vga_read(device, pci->bars[bar].address + offset, size);
	if (in_table(device, bar, offset, size))
		return msix_table_read(&device->msix, offset - device->msix.table_offset, size);
	if (in_pba(device, bar, offset, size)) {
		start = offset - device->msix.pba_offset;
		if (start % 8 + size > 8)
			return 0;
		return passthrough_pending(device, start / 8 * 64) >> 8 * (start % 8);
	}
	return vfio_region_read(&device->vfio, bar, offset, size);
}

static void registers_write(
	struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
	struct passthrough *device = container_of(pci, struct passthrough, pci);
	uint32_t start;

	if (bar >= PCI_VGA) {
		vfio_region_write(&device->vfio, VFIO_PCI_VGA_REGION_INDEX,
			pci->bars[bar].address + offset, size, value);
	} else if (in_table(device, bar, offset, size)) {
		start = offset - device->msix.table_offset;
		msix_table_write(&device->msix, start, size, value);
		passthrough_vectors_update(
			device, start / MSIX_ENTRY_SIZE, (start + size - 1) / MSIX_ENTRY_SIZE);
	} else if (bar != PCI_ROM && !in_pba(device, bar, offset, size)) {
		vfio_region_write(&device->vfio, bar, offset, size, value);
	}
}

const struct pci_device_ops passthrough_pci_ops = {
	.config_read = passthrough_config_read,
	.config_write = passthrough_config_write,
	.bar_read = registers_read,
	.bar_write = registers_write,
	.bar_mapped = bar_mapped,
	.bar_unmapped = bar_unmapped,
};
