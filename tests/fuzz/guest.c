/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest.h"

#include "base/size.h"
#include "kernel.h"

#include <linux/pci_regs.h>

#define MEM32 0x80000000ULL
#define MEM64 (1ULL << 38)
#define ECAM  0xe0000000ULL
#define IO    0x6000
#define PAGE  (4 * KIB)

static const struct pci_windows windows = {
	.io = { IO, 0xa000, IO },
	.mem32 = { MEM32, 0x60000000, MEM32 },
	.mem64 = { MEM64, MEM64, MEM64 },
};

static unsigned find_line(void *opaque, unsigned slot, unsigned pin)
{
	(void)opaque;
	return 16 + (slot + pin) % 8;
}

static const struct pci_root_ops root_ops = { .line = find_line };

bool guest_open(struct guest *guest)
{
	struct error err = { 0 };

	*guest = (struct guest){ 0 };
	guest->vm = kvm_vm_new(-1, &err);
	if (!guest->vm)
		return false;
	space_init(&guest->mmio);
	space_init(&guest->pio);
	fuzz_check(pci_root_init(
			   &guest->root, &guest->mmio, &guest->pio, ECAM, 1, &windows, &err) == 0);
	guest->root.ops = &root_ops;
	guest->root.has_ports = true;
	return true;
}

void guest_attach(struct guest *guest)
{
	struct passthrough_place place = {
		.bus = &guest->root.bus,
		.devfn = (guest->count + 1) << 3,
	};
	struct error err = { 0 };
	struct passthrough *device = &guest->devices[guest->count++];
	int code = passthrough_attach(device, guest->vm, &place, &err);

	if (!code)
		code = pci_bus_place(&device->pci, &err);

	fuzz_check(code == err.code);
	guest->attached += code == 0;
}

void guest_close(struct guest *guest)
{
	for (unsigned i = 0; i < guest->count; i++)
		passthrough_detach(&guest->devices[i]);
	pci_root_destroy(&guest->root);
	space_destroy(&guest->mmio);
	space_destroy(&guest->pio);
	kvm_vm_free(guest->vm);
}

/* What is decoded lies whole in a window and overlaps nothing. */

static bool inside(const struct pci_window *window, const struct pci_bar *bar)
{
	return bar->address >= window->base &&
	       bar->address + bar->size <= window->base + window->size;
}

static bool in_window(const struct pci_windows *windows, const struct pci_bar *bar)
{
	return bar->kind == PCI_BAR_IO
		       ? inside(&windows->io, bar)
		       : inside(&windows->mem32, bar) || inside(&windows->mem64, bar);
}

static bool overlap(const struct pci_bar *a, const struct pci_bar *b)
{
	return (a->kind == PCI_BAR_IO) == (b->kind == PCI_BAR_IO) &&
	       a->address < b->address + b->size && b->address < a->address + a->size;
}

/* The guest must not reach the host's MSI-X table nor its pending bits. */
static void check_hole(
	const struct passthrough *device, unsigned bar, uint64_t offset, uint64_t size)
{
	const struct passthrough_bar *windows = &device->bars[bar];
	uint64_t start = align_down(offset, PAGE), end = align_up(offset + size, PAGE);

	for (unsigned i = 0; i < windows->count; i++)
		fuzz_check(windows->windows[i].offset >= end ||
			   windows->windows[i].offset + windows->windows[i].size <= start);
}

static void check_windows(const struct passthrough *device, unsigned bar)
{
	const struct passthrough_bar *windows = &device->bars[bar];
	const struct msix *msix = &device->msix;

	for (unsigned i = 0; i < windows->count; i++) {
		uint64_t size = max_u64(device->vfio.regions[bar].size, PAGE);

		fuzz_check(windows->windows[i].size && windows->windows[i].offset < size &&
			   windows->windows[i].size <= size - windows->windows[i].offset);
		fuzz_check(windows->windows[i].slot < 0 || device->pci.bars[bar].decoded);
	}
	if (msix->cap && msix->table_bar == bar)
		check_hole(device, bar, msix->table_offset, msix_table_size(msix));
	if (msix->cap && msix->pba_bar == bar)
		check_hole(device, bar, msix->pba_offset, msix_pba_size(msix));
}

static void check_bars(struct guest *guest)
{
	const struct pci_bar *decoded[GUEST_DEVICES * PCI_DECODES];
	unsigned count = 0;

	for (unsigned i = 0; i < guest->count; i++)
		for (unsigned j = 0; j < PCI_DECODES; j++) {
			const struct passthrough *device = &guest->devices[i];

			if (j < PCI_BARS)
				check_windows(device, j);
			else if (j == PCI_ROM)
				fuzz_check(device->rom_slot < 0 || device->pci.bars[j].decoded);
			if (device->pci.bars[j].decoded)
				decoded[count++] = &device->pci.bars[j];
		}
	for (unsigned i = 0; i < count; i++) {
		fuzz_check(decoded[i]->fixed || in_window(&guest->root.bus.windows, decoded[i]));
		for (unsigned j = 0; j < i; j++)
			fuzz_check(!overlap(decoded[i], decoded[j]));
	}
	guest->decoded += count > 0;
}

static void check_vector(struct guest *guest, const struct passthrough *device, unsigned i)
{
	const struct passthrough_vector *vector = &device->interrupts.vectors[i];
	bool wanted = !msix_masked(&device->msix, &device->pci, i);
	struct msi_message message = msix_message(&device->msix, i);
	uint64_t address;
	uint32_t data;
	bool delivers =
		vector->irq.eventfd >= 0 && kernel_delivers(vector->irq.eventfd, &address, &data);

	fuzz_check(delivers == wanted || device->told);
	if (!delivers || device->told)
		return;
	fuzz_check(address == message.address && data == message.data);
	guest->vectors++;
}

void guest_check_vectors(struct guest *guest)
{
	for (unsigned i = 0; i < guest->count; i++)
		if (guest->devices[i].interrupts.mode == MODE_MSIX)
			for (unsigned j = 0; j < guest->devices[i].interrupts.count; j++)
				check_vector(guest, &guest->devices[i], j);
}

/* Mostly near something: configuration space, or a BAR where it is now. */
static uint64_t choose_address(struct guest *guest, struct fuzz_input *input, bool *port)
{
	uint8_t kind = fuzz_byte(input);
	uint64_t offset = fuzz_number(input, 2);
	const struct pci_bar *bar;

	*port = kind & 1;
	if (kind & 2)
		return *port ? 0xcf8 + offset % 8 : ECAM + offset;
	if (kind & 4 || !guest->count)
		return fuzz_number(input, 8);
	bar = &guest->devices[(kind >> 3) % guest->count].pci.bars[(kind >> 4) % PCI_DECODES];
	*port = bar->kind == PCI_BAR_IO;
	return bar->address + offset % (bar->size + 16);
}

void guest_access(struct guest *guest, struct fuzz_input *input)
{
	uint8_t how = fuzz_byte(input);
	unsigned size = 1U << how % 4;
	bool port;
	uint64_t address = choose_address(guest, input, &port);
	struct space *space = port ? &guest->pio : &guest->mmio;

	if (port && size == 8)
		size = 4;
	if (how & 4)
		space_write(space, address, size, fuzz_number(input, size));
	else
		space_read(space, address, size);
	guest->accesses++;
	check_bars(guest);
}
