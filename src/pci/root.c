/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pci/root.h"

#include "base/size.h"
#include "pci/bridge.h"

#include <errno.h>
#include <linux/pci_regs.h>

#define CONFIG_ADDRESS 0xcf8
#define RESET_CONTROL  0xcf9
#define RESET_CPU      4
#define CONFIG_ENABLE  (1U << 31)

/* The bus of this number that is reached through the bridges; NULL: none. */
static struct pci_bus *find_bus(struct pci_root *root, uint8_t number)
{
	struct pci_bus *bus = &root->bus;
	struct pci_bridge *bridge;

	if (number == 0)
		return bus;
	pthread_mutex_lock(&root->lock);
	for (bridge = bus->bridges; bridge;) {
		if (number < bridge->first_bus || number > bridge->last_bus) {
			bridge = bridge->next;
			continue;
		}
		bus = &bridge->secondary;
		if (number == bridge->first_bus)
			break;
		bridge = bus->bridges;
	}
	pthread_mutex_unlock(&root->lock);
	return bridge ? bus : NULL;
}

static struct pci_device *find_device(struct pci_root *root, unsigned bdf)
{
	struct pci_bus *bus = find_bus(root, bdf >> 8 & 0xff);

	return bus ? bus->devices[bdf & 0xff] : NULL;
}

/* bdf: bus 15:8, device 7:3, function 2:0, as in a configuration address. */
static uint32_t config_read(struct pci_root *root, unsigned bdf, unsigned offset, unsigned size)
{
	struct pci_device *device = find_device(root, bdf);
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

static void config_write(
	struct pci_root *root, unsigned bdf, unsigned offset, unsigned size, uint32_t value)
{
	struct pci_device *device = find_device(root, bdf);
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
		pci_bus_settle(&root->bus);
}

/* ECAM: bus 27:20, device 19:15, function 14:12, register 11:0 (PCI Express Base, 7.2.2). */
static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
	unsigned bdf = offset >> 12, at = offset & 0xfff;

	if (size < 8)
		return config_read(opaque, bdf, at, size);
	return config_read(opaque, bdf, at, 4) | (uint64_t)config_read(opaque, bdf, at + 4, 4)
							 << 32;
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	unsigned bdf = offset >> 12, at = offset & 0xfff;

	config_write(opaque, bdf, at, size == 8 ? 4 : size, value);
	if (size == 8)
		config_write(opaque, bdf, at + 4, 4, value >> 32);
}

static const struct space_ops ecam_ops = { ecam_read, ecam_write };

/* Both ports in one range of eight: CF8 to CFB the address, CFC to CFF the data. */
static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_root *root = opaque;
	uint32_t address = __atomic_load_n(&root->config_address, __ATOMIC_RELAXED);

	if (!root->has_ports)
		return UINT64_MAX;
	if (offset < 4)
		return address >> 8 * offset;
	if (!(address & CONFIG_ENABLE))
		return UINT64_MAX;
	return config_read(root, address >> 8 & 0xffff, (address & 0xfc) + (offset - 4), size);
}

static void ports_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_root *root = opaque;
	uint32_t address = __atomic_load_n(&root->config_address, __ATOMIC_RELAXED);

	if (offset == RESET_CONTROL - CONFIG_ADDRESS && size == 1 && value & RESET_CPU &&
		root->ops->reset)
		root->ops->reset(root->opaque);
	if (!root->has_ports)
		return;
	/* The address port takes whole double words only (PCI Local Bus 3.0, 3.2.2.3.2). */
	if (offset == 0 && size == 4)
		__atomic_store_n(&root->config_address, value & 0x80fffffc, __ATOMIC_RELAXED);
	if (offset < 4 || !(address & CONFIG_ENABLE))
		return;
	config_write(root, address >> 8 & 0xffff, (address & 0xfc) + (offset - 4), size, value);
}

static const struct space_ops ports_ops = { ports_read, ports_write };

bool pci_root_place_ecam(struct pci_root *root, uint64_t ecam, unsigned buses)
{
	if (root->ecam_size)
		space_remove(root->mmio, root->ecam);
	root->ecam_size = buses * PCI_ECAM_BUS_SIZE;
	__atomic_store_n(&root->ecam, ecam, __ATOMIC_RELAXED);
	if (buses && space_add(root->mmio, ecam, root->ecam_size, &ecam_ops, root))
		root->ecam_size = 0;
	return root->ecam_size || !buses;
}

/* The registers, not what gets through: an empty port has a number, too. */
uint8_t pci_root_last_bus(struct pci_root *root)
{
	uint8_t last = 0;

	for (struct pci_bridge *bridge = root->bus.bridges; bridge; bridge = bridge->next) {
		pthread_mutex_lock(&bridge->device.lock);
		last = max_u64(last, bridge->device.config[PCI_SUBORDINATE_BUS]);
		pthread_mutex_unlock(&bridge->device.lock);
	}
	return last;
}

int pci_root_init(struct pci_root *root, struct space *mmio, struct space *pio, uint64_t ecam,
	unsigned buses, const struct pci_windows *windows, struct error *err)
{
	int code;

	*root = (struct pci_root){ .mmio = mmio, .pio = pio, .buses = buses };
	pthread_mutex_init(&root->lock, NULL);
	root->bus.root = root;
	root->bus.windows = *windows;
	code = pci_root_place_ecam(root, ecam, buses) ? 0 : -EEXIST;
	if (!code)
		code = space_add(pio, CONFIG_ADDRESS, 8, &ports_ops, root);
	return code ? error_sys(err, code, NULL, "cannot place the PCI configuration space") : 0;
}

void pci_root_destroy(struct pci_root *root)
{
	pthread_mutex_destroy(&root->lock);
}
