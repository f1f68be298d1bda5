/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pci/device.h"

#include "pci/bus.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_DECODE (PCI_COMMAND_IO | PCI_COMMAND_MEMORY)

int pci_device_init(struct pci_device *device, const struct pci_device_ops *ops)
{
	memset(device, 0, sizeof(*device));
	device->config = aligned_alloc(PCI_CONFIG_SIZE, PCI_CONFIG_SIZE);
	if (!device->config)
		return -ENOMEM;
	memset(device->config, 0, PCI_CONFIG_SIZE);
	device->ops = ops;
	device->config_size = PCI_CFG_SPACE_SIZE;
	pthread_mutex_init(&device->lock, NULL);
	device->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	device->writable[PCI_INTERRUPT_LINE] = 0xff;
	return 0;
}

void pci_device_destroy(struct pci_device *device)
{
	if (!device->config)
		return;
	pthread_mutex_destroy(&device->lock);
	free(device->config);
	device->config = NULL;
}

uint16_t pci_get16(const struct pci_device *device, unsigned offset)
{
	return device->config[offset] | device->config[offset + 1] << 8;
}

uint32_t pci_get32(const struct pci_device *device, unsigned offset)
{
	return pci_get16(device, offset) | (uint32_t)pci_get16(device, offset + 2) << 16;
}

void pci_set16(struct pci_device *device, unsigned offset, uint16_t value)
{
	device->config[offset] = value;
	device->config[offset + 1] = value >> 8;
}

void pci_set32(struct pci_device *device, unsigned offset, uint32_t value)
{
	pci_set16(device, offset, value);
	pci_set16(device, offset + 2, value >> 16);
}

void pci_set_writable(struct pci_device *device, unsigned offset, unsigned size, uint32_t mask)
{
	for (unsigned i = 0; i < size; i++)
		device->writable[offset + i] = mask >> 8 * i;
}

static unsigned bar_offset(unsigned bar)
{
	return bar == PCI_ROM ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * bar;
}

/* Bits of a BAR's register that are no part of its address. */
static uint32_t flag_bits(const struct pci_device *device, unsigned bar)
{
	if (bar == PCI_ROM)
		return ~PCI_ROM_ADDRESS_MASK;
	return device->bars[bar].kind == PCI_BAR_IO ? ~PCI_BASE_ADDRESS_IO_MASK
						    : ~PCI_BASE_ADDRESS_MEM_MASK;
}

void pci_device_set_bar(struct pci_device *device, unsigned bar, enum pci_bar_kind kind,
	bool prefetchable, uint64_t size)
{
	uint64_t mask = ~(size - 1);
	uint32_t type = 0;

	device->bars[bar] = (struct pci_bar){
		.kind = kind,
		.prefetchable = prefetchable,
		.size = size,
	};
	if (kind == PCI_BAR_IO)
		type = PCI_BASE_ADDRESS_SPACE_IO;
	if (kind == PCI_BAR_MEM64)
		type = PCI_BASE_ADDRESS_MEM_TYPE_64;
	if (prefetchable)
		type |= PCI_BASE_ADDRESS_MEM_PREFETCH;
	pci_set32(device, bar_offset(bar), type);
	pci_set_writable(device, bar_offset(bar), 4,
		(mask & ~flag_bits(device, bar)) | (bar == PCI_ROM ? PCI_ROM_ADDRESS_ENABLE : 0));
	if (kind == PCI_BAR_MEM64)
		pci_set_writable(device, bar_offset(bar + 1), 4, mask >> 32);
	/* A device decodes only the kinds of address that it has BARs for. */
	device->writable[PCI_COMMAND] |= kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
}

void pci_device_set_vga(struct pci_device *device)
{
	static const struct pci_bar ranges[PCI_DECODES - PCI_VGA] = {
		{ .kind = PCI_BAR_MEM32, .fixed = true, .address = 0xa0000, .size = 0x20000 },
		{ .kind = PCI_BAR_IO, .fixed = true, .address = 0x3b0, .size = 12 },
		{ .kind = PCI_BAR_IO, .fixed = true, .address = 0x3c0, .size = 32 },
	};

	memcpy(&device->bars[PCI_VGA], ranges, sizeof(ranges));
	device->writable[PCI_COMMAND] |= COMMAND_DECODE;
}

uint64_t pci_device_bar_register(const struct pci_device *device, unsigned bar)
{
	uint32_t low = pci_get32(device, bar_offset(bar)) & ~flag_bits(device, bar);

	if (device->bars[bar].kind == PCI_BAR_MEM64)
		return low | (uint64_t)pci_get32(device, bar_offset(bar + 1)) << 32;
	return low;
}

void pci_device_set_bar_register(struct pci_device *device, unsigned bar, uint64_t address)
{
	uint32_t type = pci_get32(device, bar_offset(bar)) & flag_bits(device, bar);

	pci_set32(device, bar_offset(bar), (uint32_t)address | type);
	if (device->bars[bar].kind == PCI_BAR_MEM64)
		pci_set32(device, bar_offset(bar + 1), address >> 32);
}

/* Let the owner show the BAR to the guest directly, or not any more. */
static void tell_owner(struct pci_device *device, unsigned bar, bool direct)
{
	const struct pci_device_ops *ops = device->ops;

	if (direct && ops->bar_mapped)
		ops->bar_mapped(device, bar);
	if (!direct && ops->bar_unmapped)
		ops->bar_unmapped(device, bar);
}

static void unmap_bar(struct pci_device *device, unsigned bar)
{
	if (!device->asleep)
		tell_owner(device, bar, false);
	pci_bus_undecode(device->bus, &device->bars[bar]);
	device->bars[bar].decoded = false;
	device->gave_way = true;
}

static uint64_t wanted_address(const struct pci_device *device, unsigned bar)
{
	return device->bars[bar].fixed ? device->bars[bar].address
				       : pci_device_bar_register(device, bar);
}

static void map_bar(struct pci_device *device, unsigned bar)
{
	device->bars[bar].address = wanted_address(device, bar);
	if (!pci_bus_decode(device->bus, &device->bars[bar], &device->handles[bar]))
		return;
	device->bars[bar].decoded = true;
	if (!device->asleep)
		tell_owner(device, bar, true);
}

static bool wants_decoding(const struct pci_device *device, unsigned i)
{
	uint16_t command = pci_get16(device, PCI_COMMAND);

	if (i == PCI_ROM && !(device->config[PCI_ROM_ADDRESS] & PCI_ROM_ADDRESS_ENABLE))
		return false;
	switch (device->bars[i].kind) {
	case PCI_BAR_NONE:
		return false;
	case PCI_BAR_IO:
		return command & PCI_COMMAND_IO;
	default:
		return command & PCI_COMMAND_MEMORY;
	}
}

static bool may_stay(const struct pci_device *device, unsigned i)
{
	const struct pci_bar *bar = &device->bars[i];

	return wants_decoding(device, i) && wanted_address(device, i) == bar->address &&
	       pci_bus_forwards(device->bus, bar, bar->address);
}

/* First away with what moves, for one BAR may take the place that another leaves. */
void pci_device_update(struct pci_device *device)
{
	for (unsigned i = 0; i < PCI_DECODES; i++)
		if (device->bars[i].decoded && !may_stay(device, i))
			unmap_bar(device, i);
	for (unsigned i = 0; i < PCI_DECODES; i++)
		if (!device->bars[i].decoded && wants_decoding(device, i))
			map_bar(device, i);
}

void pci_device_undecode(struct pci_device *device)
{
	for (unsigned i = 0; i < PCI_DECODES; i++)
		if (device->bars[i].decoded)
			unmap_bar(device, i);
}

void pci_device_set_asleep(struct pci_device *device, bool asleep)
{
	if (device->asleep == asleep)
		return;
	device->asleep = asleep;
	for (unsigned i = 0; i < PCI_DECODES; i++)
		if (device->bars[i].decoded)
			tell_owner(device, i, !asleep);
}

uint32_t pci_device_config_read(const struct pci_device *device, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (offset + i < device->config_size ? device->config[offset + i] : 0xffU)
			 << 8 * i;
	return value;
}

void pci_device_config_write(
	struct pci_device *device, unsigned offset, unsigned size, uint32_t value)
{
	for (unsigned i = 0; i < size && offset + i < device->config_size; i++) {
		uint8_t mask = device->writable[offset + i];
		uint8_t *byte = &device->config[offset + i];

		*byte = (*byte & ~mask) | (value >> 8 * i & mask);
	}
	pci_device_update(device);
}
