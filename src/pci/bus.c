/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pci/bus.h"

#include "base/size.h"
#include "pci/bridge.h"
#include "pci/root.h"

#include <errno.h>
#include <stdio.h>

int pci_bus_add(struct pci_bus *bus, struct pci_device *device, uint8_t devfn, struct error *err)
{
	if (bus->devices[devfn])
		return error_set(err, -EEXIST, NULL, "the guest's PCI slot %02x.%x is taken",
			devfn >> 3, devfn & 7);
	device->bus = bus;
	device->devfn = devfn;
	for (unsigned i = 0; i < PCI_DECODES; i++)
		device->handles[i] = (struct pci_bar_handle){ device, i };
	bus->devices[devfn] = device;
	return 0;
}

void pci_bus_remove(struct pci_device *device)
{
	struct pci_bus *bus = device->bus;

	if (!bus || bus->devices[device->devfn] != device)
		return;
	pthread_mutex_lock(&device->lock);
	pci_device_undecode(device);
	pthread_mutex_unlock(&device->lock);
	bus->devices[device->devfn] = NULL;
	pci_bus_settle(&bus->root->bus);
}

static struct pci_window *window_for(struct pci_bus *bus, const struct pci_bar *bar)
{
	switch (bar->kind) {
	case PCI_BAR_IO:
		return &bus->windows.io;
	case PCI_BAR_MEM32:
		return &bus->windows.mem32;
	default:
		return bus->parent && !bar->prefetchable ? &bus->windows.mem32
							 : &bus->windows.mem64;
	}
}

static bool inside(const struct pci_window *window, uint64_t address, uint64_t size)
{
	return address >= window->base && size <= window->size &&
	       address - window->base <= window->size - size;
}

static int place_bar(struct pci_device *device, unsigned i, struct error *err)
{
	struct pci_bar *bar = &device->bars[i];
	struct pci_window *window = window_for(device->bus, bar);
	uint64_t address = align_up(window->next, bar->size);
	char size[24];

	if (!inside(window, address, bar->size))
		return error_set(err, -ENOSPC, NULL, "no room in the guest for BAR %u of %s", i,
			size_format(bar->size, size));
	window->next = address + bar->size;
	pci_device_set_bar_register(device, i, address);
	return 0;
}

/* The largest one that has not been placed; PCI_RANGES: none. */
static unsigned largest(const struct pci_device *device, unsigned placed)
{
	unsigned found = PCI_RANGES;

	for (unsigned i = 0; i < PCI_RANGES; i++)
		if (device->bars[i].kind != PCI_BAR_NONE && !(placed >> i & 1) &&
			(found == PCI_RANGES || device->bars[i].size > device->bars[found].size))
			found = i;
	return found;
}

int pci_bus_place(struct pci_device *device, struct error *err)
{
	unsigned placed = 0, i;

	while ((i = largest(device, placed)) < PCI_RANGES) {
		if (place_bar(device, i, err))
			return err->code;
		placed |= 1U << i;
	}
	return 0;
}

unsigned pci_bus_line(const struct pci_bus *bus, unsigned slot, unsigned pin)
{
	for (; bus->parent; bus = bus->parent->device.bus) {
		pin = (pin - 1 + slot) % 4 + 1;
		slot = bus->parent->device.devfn >> 3;
	}
	return bus->root->ops->line(bus->root->opaque, slot, pin);
}

/* A 64-bit BAR may be put in either memory window. */
static bool reaches_root(
	const struct pci_windows *windows, const struct pci_bar *bar, uint64_t address)
{
	if (bar->kind == PCI_BAR_IO)
		return inside(&windows->io, address, bar->size);
	return inside(&windows->mem32, address, bar->size) ||
	       (bar->kind == PCI_BAR_MEM64 && inside(&windows->mem64, address, bar->size));
}

bool pci_bus_forwards(const struct pci_bus *bus, const struct pci_bar *bar, uint64_t address)
{
	struct pci_root *root = bus->root;
	bool forwards = bar->fixed || reaches_root(&root->bus.windows, bar, address);

	pthread_mutex_lock(&root->lock);
	for (; forwards && bus->parent; bus = bus->parent->device.bus)
		forwards = pci_bridge_forwards(bus->parent, bar, address);
	pthread_mutex_unlock(&root->lock);
	return forwards;
}

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_bar_handle *handle = opaque;
	struct pci_device *device = handle->device;
	uint64_t value = UINT64_MAX;

	pthread_mutex_lock(&device->lock);
	if (device->ops->bar_read && !device->asleep)
		value = device->ops->bar_read(device, handle->bar, offset, size);
	pthread_mutex_unlock(&device->lock);
	return value;
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_bar_handle *handle = opaque;
	struct pci_device *device = handle->device;

	pthread_mutex_lock(&device->lock);
	if (device->ops->bar_write && !device->asleep)
		device->ops->bar_write(device, handle->bar, offset, size, value);
	pthread_mutex_unlock(&device->lock);
}

static const struct space_ops bar_ops = { bar_read, bar_write };

bool pci_bus_decode(struct pci_bus *bus, const struct pci_bar *bar, struct pci_bar_handle *handle)
{
	struct space *space = bar->kind == PCI_BAR_IO ? bus->root->pio : bus->root->mmio;

	return pci_bus_forwards(bus, bar, bar->address) &&
	       space_add(space, bar->address, bar->size, &bar_ops, handle) == 0;
}

void pci_bus_undecode(struct pci_bus *bus, const struct pci_bar *bar)
{
	space_remove(bar->kind == PCI_BAR_IO ? bus->root->pio : bus->root->mmio, bar->address);
}

/* True: some BAR has given way, so that others may be waiting again. */
static bool update_devices(struct pci_bus *bus)
{
	bool gave_way = false;

	for (unsigned i = 0; i < ARRAY_SIZE(bus->devices); i++) {
		struct pci_device *device = bus->devices[i];

		if (!device)
			continue;
		pthread_mutex_lock(&device->lock);
		pci_device_update(device);
		gave_way |= device->gave_way;
		device->gave_way = false;
		pthread_mutex_unlock(&device->lock);
	}
	for (struct pci_bridge *bridge = bus->bridges; bridge; bridge = bridge->next)
		gave_way |= update_devices(&bridge->secondary);
	return gave_way;
}

void pci_bus_settle(struct pci_bus *bus)
{
	while (update_devices(bus))
		;
}
