/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/pci.h"

#include "base/container.h"
#include "base/size.h"
#include "machine/layout.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_HOST_BRIDGE 0x0600

/* Bits 2:1 are the length: 256 MiB, 128 or 64. */
#define PCIEXBAR        0x60
#define PCIEXBAR_ENABLE 1
#define PCIEXBAR_BASE   0xffc000000ULL /* bits 35:26 */

static void on_reset_port(void *opaque)
{
	struct machine_pci *pci = opaque;

	pci->reset(pci->opaque);
}

static unsigned find_line(void *opaque, unsigned slot, unsigned pin)
{
	(void)opaque;
	return layout_pci_gsi(slot, pin);
}

static void send_msi(void *opaque, struct msi_message message)
{
	struct machine_pci *pci = opaque;

	kvm_signal_msi(pci->vm, message.address, message.data);
}

static const struct pci_root_ops root_ops = { on_reset_port, find_line, send_msi };

static uint64_t config_gpa(const struct machine_pci *pci, const struct pci_device *device)
{
	return pci->root.ecam + ((uint64_t)device->devfn << 12);
}

static struct pci_device *own_device(struct machine_pci *pci, unsigned i)
{
	return i ? &pci->ports[i - 1].bridge.device : &pci->host_bridge;
}

/*
 * What the guest reads of host bridge and ports is only a copy: let it read that without an exit. Writes
 * still come to us, as do all accesses where the slot cannot be had.
 */
static void show_configs(struct machine_pci *pci)
{
	for (unsigned i = 0; i <= pci->port_count; i++) {
		struct pci_device *device = own_device(pci, i);

		memset(device->config + device->config_size, 0xff,
			PCI_CONFIG_SIZE - device->config_size);
		pci->slots[i] = pci->root.ecam_size
					? kvm_slot_map(pci->vm, config_gpa(pci, device),
						  PCI_CONFIG_SIZE, device->config, KVM_MEM_READONLY)
					: -1;
	}
}

static void hide_configs(struct machine_pci *pci)
{
	for (unsigned i = 0; i <= pci->port_count; i++)
		if (pci->slots[i] >= 0)
			kvm_slot_unmap(pci->vm, pci->slots[i]);
}

/* PCIEXBAR: its length and, above that, its base; anything else is no ECAM. */
static void place_ecam(struct machine_pci *pci)
{
	const struct pci_device *bridge = &pci->host_bridge;
	uint64_t bar = pci_get32(bridge, PCIEXBAR) | (uint64_t)pci_get32(bridge, PCIEXBAR + 4)
							     << 32;
	unsigned length = bar >> 1 & 3;
	unsigned buses = bar & PCIEXBAR_ENABLE && length < 3 ? 256U >> length : 0;
	uint64_t base = buses ? align_down(bar & PCIEXBAR_BASE, buses * PCI_ECAM_BUS_SIZE) : 0;

	if (base == pci->root.ecam && buses * PCI_ECAM_BUS_SIZE == pci->root.ecam_size)
		return;
	hide_configs(pci);
	pci_root_place_ecam(&pci->root, base, buses);
	show_configs(pci);
}

static void host_bridge_write(
	struct pci_device *device, unsigned offset, unsigned size, uint32_t value)
{
	struct machine_pci *pci = container_of(device, struct machine_pci, host_bridge);

	pci_device_config_write(device, offset, size, value);
	if (pci->root.has_ports && offset < PCIEXBAR + 8 && offset + size > PCIEXBAR)
		place_ecam(pci);
}

static const struct pci_device_ops host_bridge_ops = { .config_write = host_bridge_write };

/* The Q35's, which stock firmware knows. */
static int make_host_bridge(struct machine_pci *pci, struct error *err)
{
	struct pci_device *bridge = &pci->host_bridge;
	int code = pci_device_init(bridge, &host_bridge_ops);

	if (code)
		return error_sys(err, code, NULL, "cannot make the guest's host bridge");
	pci_set16(bridge, PCI_VENDOR_ID, 0x8086);
	pci_set16(bridge, PCI_DEVICE_ID, 0x29c0);
	pci_set16(bridge, PCI_CLASS_DEVICE, CLASS_HOST_BRIDGE);
	if (pci->root.has_ports) {
		pci_set_writable(bridge, PCIEXBAR, 4, (uint32_t)PCIEXBAR_BASE | 7);
		pci_set_writable(bridge, PCIEXBAR + 4, 4, PCIEXBAR_BASE >> 32);
	}
	return pci_bus_add(&pci->root.bus, bridge, 0, err);
}

static int make_port(
	struct machine_pci *pci, unsigned i, const struct topology_port *place, struct error *err)
{
	struct pci_port *port = &pci->ports[i];
	unsigned slot = topology_slot(i);
	int code = pci_port_init(port, slot, slot, &place->windows);

	if (code)
		return error_sys(err, code, NULL, "cannot make the guest's root port %u", slot);
	pci->port_count = i + 1;
	return pci_bridge_add(&pci->root.bus, &port->bridge, place->devfn, err);
}

int machine_pci_init(struct machine_pci *pci, struct kvm_vm *vm, struct space *mmio,
	struct space *pio, const struct topology *topology, bool firmware, struct error *err)
{
	pci->vm = vm;
	if (pci_root_init(&pci->root, mmio, pio, LAYOUT_ECAM,
		    firmware ? 0 : 1 + topology->port_count, &topology->windows, err))
		return err->code;
	pci->root.ops = &root_ops;
	pci->root.opaque = pci;
	pci->root.has_ports = firmware;
	pci->ports = calloc(topology->port_count, sizeof(*pci->ports));
	if (topology->port_count && !pci->ports)
		return error_sys(err, -ENOMEM, NULL, "cannot make the guest's root ports");
	if (make_host_bridge(pci, err))
		return err->code;
	for (unsigned i = 0; i < topology->port_count; i++)
		if (make_port(pci, i, &topology->ports[i], err))
			return err->code;
	show_configs(pci);
	return 0;
}

bool machine_pci_next_page(struct machine_pci *pci, struct memory_range *range)
{
	unsigned i;

	if (pci->root.has_ports ||
		__atomic_load_n(&pci->pages_given, __ATOMIC_RELAXED) > pci->port_count)
		return false;
	i = __atomic_fetch_add(&pci->pages_given, 1, __ATOMIC_RELAXED);
	if (i > pci->port_count)
		return false;
	*range = (struct memory_range){ config_gpa(pci, own_device(pci, i)), PCI_CONFIG_SIZE };
	return true;
}

void machine_pci_destroy(struct machine_pci *pci)
{
	for (unsigned i = 0; i < pci->port_count; i++)
		pci_port_destroy(&pci->ports[i]);
	free(pci->ports);
	pci_device_destroy(&pci->host_bridge);
	if (pci->root.ops)
		pci_root_destroy(&pci->root);
}
