/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pci/bus.h"

#include "base/size.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>

#define CONFIG_ADDRESS 0xcf8
#define RESET_CONTROL  0xcf9
#define RESET_CPU      4
#define CONFIG_ENABLE  (1U << 31)

static uint32_t config_read(struct pci_bus *bus, unsigned devfn, unsigned offset, unsigned size)
{
	struct pci_device *device = bus->devices[devfn];
	uint32_t value;

	if (!device)
		return UINT32_MAX;
	pthread_mutex_lock(&device->lock);
	if (device->ops->config_read)
		value = device->ops->config_read(device, offset, size);
	else
		value = pci_device_config_read(device, offset, size);
	pthread_mutex_unlock(&device->lock);
	return value;
}

/* What one BAR has left may be what others wait for, of whichever device. */
static void decode_waiting(struct pci_bus *bus)
{
	for (unsigned i = 0; i < ARRAY_SIZE(bus->devices); i++) {
		struct pci_device *device = bus->devices[i];

		if (!device)
			continue;
		pthread_mutex_lock(&device->lock);
		pci_device_decode(device);
		pthread_mutex_unlock(&device->lock);
	}
}

static void config_write(
	struct pci_bus *bus, unsigned devfn, unsigned offset, unsigned size, uint32_t value)
{
	struct pci_device *device = bus->devices[devfn];
	bool gave_way;

	if (!device)
		return;
	pthread_mutex_lock(&device->lock);
	if (device->ops->config_write)
		device->ops->config_write(device, offset, size, value);
	else
		pci_device_config_write(device, offset, size, value);
	gave_way = device->gave_way;
	device->gave_way = false;
	pthread_mutex_unlock(&device->lock);
	if (gave_way)
		decode_waiting(bus);
}

/* ECAM: bus 27:20, device 19:15, function 14:12, register 11:0 (PCI Express Base, 7.2.2). */
static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
	unsigned devfn = offset >> 12 & 0xff, at = offset & 0xfff;
	uint64_t value;

	if (size == 8)
		value = config_read(opaque, devfn, at, 4) |
			(uint64_t)config_read(opaque, devfn, at + 4, 4) << 32;
	else
		value = config_read(opaque, devfn, at, size);
	return value;
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	unsigned devfn = offset >> 12 & 0xff, at = offset & 0xfff;

	config_write(opaque, devfn, at, size == 8 ? 4 : size, value);
	if (size == 8)
		config_write(opaque, devfn, at + 4, 4, value >> 32);
}

static const struct space_ops ecam_ops = { ecam_read, ecam_write };

/* Both ports in one range of eight: CF8 to CFB the address, CFC to CFF the data. */
static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_bus *bus = opaque;
	uint32_t address = __atomic_load_n(&bus->config_address, __ATOMIC_RELAXED);

	if (offset < 4)
		return address >> 8 * offset;
	if (!(address & CONFIG_ENABLE) || address >> 16 & 0xff)
		return UINT64_MAX;
	return config_read(bus, address >> 8 & 0xff, (address & 0xfc) + (offset - 4), size);
}

static void ports_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_bus *bus = opaque;
	uint32_t address = __atomic_load_n(&bus->config_address, __ATOMIC_RELAXED);

	/* The address port takes whole double words only (PCI Local Bus 3.0, 3.2.2.3.2). */
	if (offset == 0 && size == 4)
		__atomic_store_n(&bus->config_address, value & 0x80fffffc, __ATOMIC_RELAXED);
	if (offset == RESET_CONTROL - CONFIG_ADDRESS && size == 1 && value & RESET_CPU &&
		bus->reset)
		bus->reset(bus->reset_opaque);
	if (offset < 4 || !(address & CONFIG_ENABLE) || address >> 16 & 0xff)
		return;
	config_write(bus, address >> 8 & 0xff, (address & 0xfc) + (offset - 4), size, value);
}

static const struct space_ops ports_ops = { ports_read, ports_write };

int pci_bus_init(struct pci_bus *bus, struct space *mmio, struct space *pio, uint64_t ecam,
	const struct pci_windows *windows, struct error *err)
{
	int code;

	*bus = (struct pci_bus){ .mmio = mmio, .pio = pio, .windows = *windows, .ecam = ecam };
	code = space_add(mmio, ecam, PCI_ECAM_SIZE, &ecam_ops, bus);
	if (!code)
		code = space_add(pio, CONFIG_ADDRESS, 8, &ports_ops, bus);
	return code ? error_sys(err, code, NULL, "cannot place the PCI configuration space") : 0;
}

static struct pci_window *window_for(struct pci_bus *bus, enum pci_bar_kind kind)
{
	switch (kind) {
	case PCI_BAR_IO:
		return &bus->windows.io;
	case PCI_BAR_MEM32:
		return &bus->windows.mem32;
	default:
		return &bus->windows.mem64;
	}
}

static bool inside(const struct pci_window *window, uint64_t address, uint64_t size)
{
	return address >= window->base && size <= window->size &&
	       address - window->base <= window->size - size;
}

static int place_bar(struct pci_bus *bus, struct pci_device *device, unsigned i, struct error *err)
{
	struct pci_bar *bar = &device->bars[i];
	struct pci_window *window = window_for(bus, bar->kind);
	uint64_t address = align_up(window->next, bar->size);
	char size[24];

	if (!inside(window, address, bar->size))
		return error_set(err, -ENOSPC, NULL, "no room in the guest for BAR %u of %s", i,
			size_format(bar->size, size));
	window->next = address + bar->size;
	pci_device_set_bar_register(device, i, address);
	return 0;
}

int pci_bus_add(struct pci_bus *bus, struct pci_device *device, uint8_t devfn, struct error *err)
{
	if (bus->devices[devfn])
		return error_set(err, -EEXIST, NULL, "the guest's PCI slot %02x.%x is taken",
			devfn >> 3, devfn & 7);
	device->bus = bus;
	device->devfn = devfn;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		int code;

		device->handles[i] = (struct pci_bar_handle){ device, i };
		if (device->bars[i].kind == PCI_BAR_NONE)
			continue;
		code = place_bar(bus, device, i, err);
		if (code)
			return code;
	}
	bus->devices[devfn] = device;
	return 0;
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
	struct space *space = bar->kind == PCI_BAR_IO ? bus->pio : bus->mmio;
	bool fits;

	/* A 64-bit BAR may be put in either memory window. */
	fits = inside(window_for(bus, bar->kind), bar->address, bar->size) ||
	       (bar->kind == PCI_BAR_MEM64 && inside(&bus->windows.mem32, bar->address, bar->size));
	return fits && space_add(space, bar->address, bar->size, &bar_ops, handle) == 0;
}

void pci_bus_undecode(struct pci_bus *bus, const struct pci_bar *bar)
{
	space_remove(bar->kind == PCI_BAR_IO ? bus->pio : bus->mmio, bar->address);
}
