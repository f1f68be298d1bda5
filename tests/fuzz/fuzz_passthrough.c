/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile device and a hostile guest. The device is a file: its configuration space, BARs and ROM are
 * the input's, and so are the guest's accesses to configuration space (ECAM, CF8 and CFC), to memory
 * and to ports, of every size and alignment. The kernel does as it is told: fuzz_vfio.c has one that
 * does not.
 */
#include "guest.h"

#include "base/fd.h"
#include "base/size.h"
#include "kernel.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <sys/mman.h>

#define ACCESSES_MAX 300
#define BAR_ROOM     (64 * KIB) /* what the file holds of each BAR */

enum { ATTACHED, ACCESSES, DECODED, SLOTS, VECTORS, REACHED, ROMS };

struct fuzz_goal fuzz_goals[] = {
	[ATTACHED] = { "devices attached", 10, 0 },
	[ACCESSES] = { "guest accesses", 2, 0 },
	[DECODED] = { "accesses while a BAR was decoded", 10, 0 },
	[SLOTS] = { "mappings into the guest", 100, 0 },
	[VECTORS] = { "vectors that reach the guest", 200, 0 },
	[REACHED] = { "mappings for other devices", 100, 0 },
	[ROMS] = { "ROMs that were read", 5000, 0 },
	{ 0 },
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

static void make_regions(struct vfio_device *vfio, struct fuzz_input *input)
{
	uint8_t kinds = fuzz_byte(input);

	vfio->regions[VFIO_PCI_CONFIG_REGION_INDEX] = (struct vfio_region){
		.size = kinds & 1 ? PCI_CONFIG_SIZE : PCI_CFG_SPACE_SIZE,
	};
	if (kinds & 2)
		vfio->regions[VFIO_PCI_VGA_REGION_INDEX] = (struct vfio_region){ .size = 0xc0000 };
	for (unsigned i = 0; i < PCI_RANGES; i++) {
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
}

static void remove_device(struct vfio_iommu *iommu, struct vfio_device *device)
{
	(void)iommu;
	close(device->fd);
}

/* What devices reach of each other; as with the kernel nothing overlaps. */
static struct {
	uint64_t iova, size;
} parts[GUEST_DEVICES * PCI_BARS * PASSTHROUGH_WINDOWS_MAX];
static unsigned part_count;

static int map_part(
	struct vfio_iommu *iommu, uint64_t iova, const struct vfio_part *part, struct error *err)
{
	uint64_t region = part->device->regions[part->region].size;

	(void)iommu;
	fuzz_check(part->hva && part->size && iova % (4 * KIB) == 0);
	fuzz_check(part->offset <= region && part->size <= region - part->offset);
	for (unsigned i = 0; i < part_count; i++)
		if (iova < parts[i].iova + parts[i].size && parts[i].iova < iova + part->size)
			return error_set(err, -EEXIST, part->device->name, "overlaps another");
	fuzz_check(part_count < ARRAY_SIZE(parts));
	parts[part_count].iova = iova;
	parts[part_count++].size = part->size;
	fuzz_goals[REACHED].count++;
	return 0;
}

static int unmap_part(struct vfio_iommu *iommu, uint64_t iova, uint64_t size)
{
	unsigned i = 0;

	(void)iommu;
	while (i < part_count && (parts[i].iova != iova || parts[i].size != size))
		i++;
	fuzz_check(i < part_count);
	parts[i] = parts[--part_count];
	return 0;
}

static void make_vfio(struct vfio_device *vfio, struct fuzz_input *input, unsigned number)
{
	static const struct vfio_iommu_ops ops = {
		.remove_device = remove_device,
		.map_part = map_part,
		.unmap = unmap_part,
	};
	static struct vfio_iommu iommu = { .ops = &ops };
	uint8_t config[PCI_CONFIG_SIZE] = { 0 };

	snprintf(vfio->name, sizeof(vfio->name), "device %u", number);
	vfio->iommu = &iommu;
	iommu.devices = GUEST_DEVICES;
	vfio->fd = memfd_create("device", MFD_CLOEXEC);
	fuzz_bytes(input, config, fuzz_byte(input) & 1 ? 512 : 256);
	config[PCI_HEADER_TYPE] &= 0x80;
	if (fuzz_byte(input) & 1)
		plant_capabilities(config);
	fuzz_check(fd_write_all(vfio->fd, config, sizeof(config)) == 0);
	make_regions(vfio, input);
	for (unsigned i = 0; i <= VFIO_PCI_MSIX_IRQ_INDEX; i++)
		vfio->irqs[i] = (struct vfio_irq){ .count = fuzz_byte(input),
			.can_grow = fuzz_byte(input) & 1 };
	fuzz_check(ftruncate(vfio->fd, PCI_CONFIG_SIZE + PCI_RANGES * BAR_ROOM) == 0);
}

void fuzz_one(struct fuzz_input *input)
{
	unsigned before = fuzz_descriptors();
	struct guest guest;

	kernel_reset(NULL);
	kernel.vectors = fuzz_byte(input) * 2;
	fuzz_check(guest_open(&guest));
	for (unsigned i = 0; i < GUEST_DEVICES; i++) {
		make_vfio(&guest.devices[i].vfio, input, i);
		guest.devices[i].vga = true;
		guest_attach(&guest);
	}
	for (unsigned i = 0; i < ACCESSES_MAX && input->size; i++) {
		guest_access(&guest, input);
		if (i % 16 == 15)
			guest_check_vectors(&guest);
	}
	guest_check_vectors(&guest);
	for (unsigned i = 0; i < GUEST_DEVICES; i++)
		fuzz_goals[ROMS].count += guest.devices[i].rom_known;
	guest_close(&guest);
	kernel_check_idle();
	fuzz_check(!part_count);
	fuzz_check(fuzz_descriptors() == before);
	fuzz_goals[ATTACHED].count += guest.attached;
	fuzz_goals[ACCESSES].count += guest.accesses;
	fuzz_goals[DECODED].count += guest.decoded;
	fuzz_goals[VECTORS].count += guest.vectors;
	fuzz_goals[SLOTS].count += kernel.slots;
}
