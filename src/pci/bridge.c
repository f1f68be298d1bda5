/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pci/bridge.h"

#include "base/container.h"
#include "base/size.h"
#include "pci/root.h"

#include <linux/pci_regs.h>

#define MEMORY_GRAIN MIB
#define IO_GRAIN     (4 * KIB)

#define CLASS_PCI_BRIDGE 0x0604

#define COMMAND_WRITABLE                                                                 \
	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | \
		PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE)
#define CONTROL_WRITABLE (PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR | PCI_BRIDGE_CTL_ISA)

static const struct pci_range nothing = { 1, 0 };

static void set_memory(struct pci_device *device, const struct pci_window *window)
{
	uint64_t last = window->base + window->size - MEMORY_GRAIN;

	pci_set16(device, PCI_MEMORY_BASE, window->size ? window->base >> 16 : 0xfff0);
	pci_set16(device, PCI_MEMORY_LIMIT, window->size ? last >> 16 : 0);
	pci_set_writable(device, PCI_MEMORY_BASE, 4, 0xfff0fff0);
}

static void set_prefetchable(struct pci_device *device, const struct pci_window *window)
{
	uint64_t base = window->size ? window->base : 0xfff00000;
	uint64_t last = window->size ? window->base + window->size - MEMORY_GRAIN : 0;

	pci_set16(device, PCI_PREF_MEMORY_BASE, base >> 16 | PCI_PREF_RANGE_TYPE_64);
	pci_set16(device, PCI_PREF_MEMORY_LIMIT, last >> 16 | PCI_PREF_RANGE_TYPE_64);
	pci_set32(device, PCI_PREF_BASE_UPPER32, base >> 32);
	pci_set32(device, PCI_PREF_LIMIT_UPPER32, last >> 32);
	pci_set_writable(device, PCI_PREF_MEMORY_BASE, 4, 0xfff0fff0);
	pci_set_writable(device, PCI_PREF_BASE_UPPER32, 4, UINT32_MAX);
	pci_set_writable(device, PCI_PREF_LIMIT_UPPER32, 4, UINT32_MAX);
}

/* Registers that cannot be written say that there is no such window, and spare a guest its size. */
static void set_io(struct pci_device *device, const struct pci_window *window)
{
	if (!window->size)
		return;
	device->config[PCI_IO_BASE] = window->base >> 8;
	device->config[PCI_IO_LIMIT] = (window->base + window->size - IO_GRAIN) >> 8;
	pci_set_writable(device, PCI_IO_BASE, 2, 0xf0f0);
	pci_set_writable(device, PCI_COMMAND, 1, COMMAND_WRITABLE);
}

int pci_bridge_init(struct pci_bridge *bridge, const struct pci_device_ops *ops, uint8_t number,
	const struct pci_windows *windows)
{
	struct pci_device *device = &bridge->device;
	int code;

	*bridge = (struct pci_bridge){ 0 };
	code = pci_device_init(device, ops);
	if (code)
		return code;
	bridge->io = bridge->mem = bridge->prefetchable = nothing;
	bridge->secondary.windows = *windows;
	pci_set16(device, PCI_CLASS_DEVICE, CLASS_PCI_BRIDGE);
	device->config[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	device->config[PCI_SECONDARY_BUS] = device->config[PCI_SUBORDINATE_BUS] = number;
	pci_set_writable(device, PCI_PRIMARY_BUS, 3, 0xffffff);
	pci_set_writable(device, PCI_COMMAND, 2, COMMAND_WRITABLE & ~PCI_COMMAND_IO);
	/* As firmware leaves it: what is behind the bridge may report errors. */
	pci_set16(device, PCI_BRIDGE_CONTROL, PCI_BRIDGE_CTL_SERR);
	pci_set_writable(device, PCI_BRIDGE_CONTROL, 2, CONTROL_WRITABLE);
	set_io(device, &windows->io);
	set_memory(device, &windows->mem32);
	set_prefetchable(device, &windows->mem64);
	return 0;
}

void pci_bridge_destroy(struct pci_bridge *bridge)
{
	pci_device_destroy(&bridge->device);
}

void pci_bridge_set_vga(struct pci_bridge *bridge)
{
	struct pci_device *device = &bridge->device;

	device->writable[PCI_BRIDGE_CONTROL] |= PCI_BRIDGE_CTL_VGA;
	device->writable[PCI_COMMAND] |= PCI_COMMAND_IO;
}

int pci_bridge_add(struct pci_bus *bus, struct pci_bridge *bridge, uint8_t devfn, struct error *err)
{
	if (pci_bus_add(bus, &bridge->device, devfn, err))
		return err->code;
	bridge->secondary.root = bus->root;
	bridge->secondary.parent = bridge;
	bridge->next = bus->bridges;
	bus->bridges = bridge;
	pci_bridge_update(bridge);
	return 0;
}

static struct pci_range read_io(const struct pci_device *device)
{
	const uint8_t *config = device->config;

	if (!(device->writable[PCI_IO_BASE]) || !(pci_get16(device, PCI_COMMAND) & PCI_COMMAND_IO))
		return nothing;
	return (struct pci_range){ (config[PCI_IO_BASE] & 0xf0) << 8,
		(config[PCI_IO_LIMIT] & 0xf0) << 8 | (IO_GRAIN - 1) };
}

static struct pci_range read_memory(const struct pci_device *device)
{
	if (!(pci_get16(device, PCI_COMMAND) & PCI_COMMAND_MEMORY))
		return nothing;
	return (struct pci_range){
		(uint64_t)(pci_get16(device, PCI_MEMORY_BASE) & 0xfff0) << 16,
		(uint64_t)(pci_get16(device, PCI_MEMORY_LIMIT) & 0xfff0) << 16 | (MEMORY_GRAIN - 1),
	};
}

static struct pci_range read_prefetchable(const struct pci_device *device)
{
	struct pci_range range = {
		(uint64_t)(pci_get16(device, PCI_PREF_MEMORY_BASE) & 0xfff0) << 16,
		(uint64_t)(pci_get16(device, PCI_PREF_MEMORY_LIMIT) & 0xfff0) << 16 |
			(MEMORY_GRAIN - 1),
	};

	if (!(pci_get16(device, PCI_COMMAND) & PCI_COMMAND_MEMORY))
		return nothing;
	range.first |= (uint64_t)pci_get32(device, PCI_PREF_BASE_UPPER32) << 32;
	range.last |= (uint64_t)pci_get32(device, PCI_PREF_LIMIT_UPPER32) << 32;
	return range;
}

/* What is so of the bits of the command register that let VGA Enable have an effect (3.2.5.18). */
static bool forwards_vga(const struct pci_bridge *bridge, uint16_t command)
{
	const struct pci_device *device = &bridge->device;

	return !bridge->down && device->config[PCI_BRIDGE_CONTROL] & PCI_BRIDGE_CTL_VGA &&
	       pci_get16(device, PCI_COMMAND) & command;
}

void pci_bridge_update(struct pci_bridge *bridge)
{
	const struct pci_device *device = &bridge->device;
	struct pci_root *root = device->bus->root;

	pthread_mutex_lock(&root->lock);
	bridge->first_bus = bridge->down ? 1 : device->config[PCI_SECONDARY_BUS];
	bridge->last_bus = bridge->down ? 0 : device->config[PCI_SUBORDINATE_BUS];
	bridge->io = bridge->down ? nothing : read_io(device);
	bridge->mem = bridge->down ? nothing : read_memory(device);
	bridge->prefetchable = bridge->down ? nothing : read_prefetchable(device);
	bridge->vga_io = forwards_vga(bridge, PCI_COMMAND_IO);
	bridge->vga_mem = forwards_vga(bridge, PCI_COMMAND_MEMORY);
	pthread_mutex_unlock(&root->lock);
	bridge->device.gave_way = true;
}

static bool touches(unsigned offset, unsigned size, unsigned first, unsigned last)
{
	return offset <= last && offset + size > first;
}

void pci_bridge_config_write(
	struct pci_device *device, unsigned offset, unsigned size, uint32_t value)
{
	pci_device_config_write(device, offset, size, value);
	if (touches(offset, size, PCI_COMMAND, PCI_COMMAND + 1) ||
		touches(offset, size, PCI_PRIMARY_BUS, PCI_PREF_LIMIT_UPPER32 + 3) ||
		touches(offset, size, PCI_BRIDGE_CONTROL, PCI_BRIDGE_CONTROL + 1))
		pci_bridge_update(container_of(device, struct pci_bridge, device));
}

static bool within(const struct pci_range *range, uint64_t address, uint64_t size)
{
	return address >= range->first && address <= range->last &&
	       size - 1 <= range->last - address;
}

bool pci_bridge_forwards(
	const struct pci_bridge *bridge, const struct pci_bar *bar, uint64_t address)
{
	if (bar->fixed)
		return bar->kind == PCI_BAR_IO ? bridge->vga_io : bridge->vga_mem;
	if (bar->kind == PCI_BAR_IO)
		return within(&bridge->io, address, bar->size);
	return within(&bridge->mem, address, bar->size) ||
	       within(&bridge->prefetchable, address, bar->size);
}
