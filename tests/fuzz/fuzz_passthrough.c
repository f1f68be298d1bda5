/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile device and a hostile guest. The device is a file: its configuration space and BARs are
 * the input's, and so are the guest's accesses to configuration space (ECAM, CF8 and CFC), to memory
 * and to ports, of every size and alignment. The kernel's ioctls succeed and do nothing.
 *
 * After each access the BARs that are decoded lie whole in a window and overlap no other.
 */
#include "base/fd.h"
#include "base/size.h"
#include "fuzz.h"
#include "passthrough/passthrough.h"

#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define DEVICES  2
#define MEM32    0x80000000ULL
#define MEM64    (1ULL << 38)
#define ECAM     0xe0000000ULL
#define IO       0x6000
#define BAR_ROOM (64 * KIB) /* what the file holds of each BAR */

int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	(void)fd, (void)request;
	return 0;
}

struct host {
	struct kvm_vm vm;
	struct space mmio, pio;
	struct pci_bus bus;
	struct passthrough devices[DEVICES];
	unsigned count;
};

/* Sizes of up to 1 MiB, and some that no BAR can have. */
static uint64_t bar_size(uint8_t byte)
{
	if (byte == 0xff)
		return 12345;
	return byte & 0x80 ? 0 : 1ULL << (byte % 17 + 4);
}

/* A list that is sound as far as it goes: MSI-X, then MSI; the rest of each is the input's. */
static void plant_capabilities(uint8_t *config)
{
	config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	config[PCI_CAPABILITY_LIST] = 0x40;
	config[0x40] = PCI_CAP_ID_MSIX;
	config[0x41] = 0x50;
	config[0x43] &= 0xc0; /* up to 256 vectors */
	config[0x45] = config[0x46] = config[0x47] = 0;
	config[0x49] = config[0x4a] = config[0x4b] = 0;
	config[0x50] = PCI_CAP_ID_MSI;
}

static void make_vfio(struct vfio_device *vfio, struct fuzz_input *input, unsigned number)
{
	uint8_t config[PCI_CONFIG_SIZE] = { 0 };

	snprintf(vfio->name, sizeof(vfio->name), "device %u", number);
	vfio->fd = memfd_create("device", MFD_CLOEXEC);
	fuzz_bytes(input, config, fuzz_byte(input) & 1 ? 512 : 256);
	config[PCI_HEADER_TYPE] &= 0x80;
	if (fuzz_byte(input) & 1)
		plant_capabilities(config);
	vfio->regions[VFIO_PCI_CONFIG_REGION_INDEX] = (struct vfio_region){
		.size = fuzz_byte(input) & 1 ? PCI_CONFIG_SIZE : PCI_CFG_SPACE_SIZE,
	};
	if (fd_write_all(vfio->fd, config, sizeof(config)))
		abort();
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct vfio_region *region = &vfio->regions[i];

		region->size = bar_size(fuzz_byte(input));
		region->fd_offset = PCI_CONFIG_SIZE + i * BAR_ROOM;
		region->readable = region->writable = true;
		region->area_count = fuzz_byte(input) % 3;
		for (unsigned j = 0; j < region->area_count; j++) {
			region->areas[j].offset = fuzz_byte(input) * 1024ULL;
			region->areas[j].size = fuzz_byte(input) * 1024ULL;
		}
	}
	for (unsigned i = 0; i <= VFIO_PCI_MSIX_IRQ_INDEX; i++)
		vfio->irqs[i] = (struct vfio_irq){ .count = fuzz_byte(input),
			.can_grow = fuzz_byte(input) & 1 };
	if (ftruncate(vfio->fd, PCI_CONFIG_SIZE + PCI_BARS * BAR_ROOM))
		abort();
}

static bool inside(const struct pci_window *window, const struct pci_bar *bar)
{
	return bar->address >= window->base &&
	       bar->address + bar->size <= window->base + window->size;
}

static bool overlap(const struct pci_bar *a, const struct pci_bar *b)
{
	return (a->kind == PCI_BAR_IO) == (b->kind == PCI_BAR_IO) &&
	       a->address < b->address + b->size && b->address < a->address + a->size;
}

static void check_bars(const struct host *host)
{
	const struct pci_bar *decoded[DEVICES * PCI_BARS];
	unsigned count = 0;

	for (unsigned i = 0; i < host->count; i++)
		for (unsigned j = 0; j < PCI_BARS; j++)
			if (host->devices[i].pci.bars[j].decoded)
				decoded[count++] = &host->devices[i].pci.bars[j];
	for (unsigned i = 0; i < count; i++) {
		const struct pci_windows *windows = &host->bus.windows;

		if (decoded[i]->kind == PCI_BAR_IO ? !inside(&windows->io, decoded[i])
						   : !inside(&windows->mem32, decoded[i]) &&
							     !inside(&windows->mem64, decoded[i]))
			abort();
		for (unsigned j = 0; j < i; j++)
			if (overlap(decoded[i], decoded[j]))
				abort();
	}
}

/* Mostly near something: configuration space, or a BAR where it is now. */
static uint64_t choose_address(struct host *host, struct fuzz_input *input, bool *port)
{
	uint8_t kind = fuzz_byte(input);
	uint64_t offset = fuzz_number(input, 2);
	const struct pci_bar *bar;

	*port = kind & 1;
	if (kind & 2)
		return *port ? 0xcf8 + offset % 8 : ECAM + offset * 3;
	if (kind & 4 || !host->count)
		return fuzz_number(input, 8);
	bar = &host->devices[kind >> 3 & 1 % host->count].pci.bars[(kind >> 4) % PCI_BARS];
	*port = bar->kind == PCI_BAR_IO;
	return bar->address + offset % (bar->size + 16);
}

static void access_once(struct host *host, struct fuzz_input *input)
{
	unsigned size = 1U << fuzz_byte(input) % 4;
	bool is_write = fuzz_byte(input) & 1, port;
	uint64_t address = choose_address(host, input, &port);
	struct space *space = port ? &host->pio : &host->mmio;

	if (port && size == 8)
		size = 4;
	if (is_write)
		space_write(space, address, size, fuzz_number(input, size));
	else
		space_read(space, address, size);
	check_bars(host);
}

static void add_device(struct host *host, struct fuzz_input *input)
{
	struct passthrough *device = &host->devices[host->count];
	struct passthrough_place place = {
		.devfn = (host->count + 1) << 3,
		.gsi = { 16, 17, 18, 19 },
	};
	struct error err = { 0 };

	make_vfio(&device->vfio, input, host->count);
	host->count++;
	passthrough_attach(device, &host->vm, &host->bus, &place, &err);
}

static void host_close(struct host *host)
{
	for (unsigned i = 0; i < host->count; i++)
		passthrough_detach(&host->devices[i]);
	space_destroy(&host->mmio);
	space_destroy(&host->pio);
	free(host->vm.routing);
	free(host);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct pci_windows windows = {
		.io = { IO, 0xa000, IO },
		.mem32 = { MEM32, 0x60000000, MEM32 },
		.mem64 = { MEM64, MEM64, MEM64 },
	};
	struct fuzz_input input = { data, size };
	struct host *host = calloc(1, sizeof(*host));
	struct error err = { 0 };

	host->vm = (struct kvm_vm){ .fd = -1, .vfio_fd = -1 };
	host->vm.routing = calloc(
		1, sizeof(*host->vm.routing) + KVM_GSI_MAX * sizeof(struct kvm_irq_routing_entry));
	space_init(&host->mmio);
	space_init(&host->pio);
	if (pci_bus_init(&host->bus, &host->mmio, &host->pio, ECAM, &windows, &err))
		abort();
	for (unsigned i = 0; i < DEVICES; i++)
		add_device(host, &input);
	for (unsigned i = 0; i < 300 && input.size; i++)
		access_once(host, &input);
	host_close(host);
	return 0;
}
