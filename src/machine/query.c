/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/query.h"

#include "base/container.h"
#include "base/size.h"
#include "pci/bridge.h"

#include <linux/pci_regs.h>

#define HEADER_TYPE(device) ((device)->config[PCI_HEADER_TYPE] & 0x7f)

static void describe_pci_bars(const struct pci_device *device, struct message_function *function)
{
	for (unsigned i = 0; i < PCI_RANGES; i++) {
		const struct pci_bar *bar = &device->bars[i];

		if (bar->kind == PCI_BAR_NONE)
			continue;
		function->bars[i].address = pci_device_bar_register(device, i);
		function->bars[i].size = bar->size;
		function->bars[i].is_io = bar->kind == PCI_BAR_IO;
		function->bars[i].is_64 = bar->kind == PCI_BAR_MEM64;
		function->bars[i].prefetchable = bar->prefetchable;
	}
}

static struct message_range range_of(const struct pci_range *range)
{
	return (struct message_range){ range->first, range->last };
}

static void describe_pci_bridge(
	struct pci_root *root, const struct pci_device *device, struct message_function *function)
{
	const struct pci_bridge *bridge = container_of(device, const struct pci_bridge, device);

	function->bridge.is = true;
	function->bridge.secondary = device->config[PCI_SECONDARY_BUS];
	function->bridge.subordinate = device->config[PCI_SUBORDINATE_BUS];
	pthread_mutex_lock(&root->lock);
	function->bridge.io = range_of(&bridge->io);
	function->bridge.memory = range_of(&bridge->mem);
	function->bridge.prefetchable = range_of(&bridge->prefetchable);
	pthread_mutex_unlock(&root->lock);
}

static void describe(struct pci_root *root, const struct pci_device *device, uint8_t bus,
	struct message_function *function)
{
	*function = (struct message_function){
		.bus = bus,
		.devfn = device->devfn,
		.interrupt_pin = device->config[PCI_INTERRUPT_PIN],
		.interrupt_line = device->config[PCI_INTERRUPT_LINE],
		.vendor = pci_get16(device, PCI_VENDOR_ID),
		.device = pci_get16(device, PCI_DEVICE_ID),
		.class = pci_get16(device, PCI_CLASS_DEVICE),
		.number = -1,
	};
	if (HEADER_TYPE(device) == PCI_HEADER_TYPE_NORMAL) {
		function->subsystem_vendor = pci_get16(device, PCI_SUBSYSTEM_VENDOR_ID);
		function->subsystem = pci_get16(device, PCI_SUBSYSTEM_ID);
	}
	if (HEADER_TYPE(device) == PCI_HEADER_TYPE_BRIDGE)
		describe_pci_bridge(root, device, function);
	describe_pci_bars(device, function);
}

/* What the guest has written, also while the slot has no power and nothing is forwarded. */
static uint8_t bus_number(const struct pci_bus *bus)
{
	struct pci_device *bridge = bus->parent ? &bus->parent->device : NULL;
	uint8_t number;

	if (!bridge)
		return 0;
	pthread_mutex_lock(&bridge->lock);
	number = bridge->config[PCI_SECONDARY_BUS];
	pthread_mutex_unlock(&bridge->lock);
	return number;
}

struct query {
	struct pci_root *root;
	void (*tell)(void *opaque, const struct pci_device *device,
		const struct message_function *function);
	void *opaque;
};

static void query_bus(const struct query *query, const struct pci_bus *bus)
{
	uint8_t number = bus_number(bus);

	for (unsigned i = 0; i < ARRAY_SIZE(bus->devices); i++) {
		struct pci_device *device = bus->devices[i];
		struct message_function function;

		if (!device)
			continue;
		pthread_mutex_lock(&device->lock);
		describe(query->root, device, number, &function);
		pthread_mutex_unlock(&device->lock);
		query->tell(query->opaque, device, &function);
	}
	for (const struct pci_bridge *bridge = bus->bridges; bridge; bridge = bridge->next)
		query_bus(query, &bridge->secondary);
}

void query_pci(struct pci_root *root,
	void (*tell)(void *opaque, const struct pci_device *device,
		const struct message_function *function),
	void *opaque)
{
	query_bus(&(struct query){ root, tell, opaque }, &root->bus);
}
