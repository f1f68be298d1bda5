/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/pci.h"

#include "machine/layout.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_HOST_BRIDGE 0x0600

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

/*
 * What the guest reads of this device is only a copy: let it read that without an exit. Writes still come
 * to us, as do all accesses where the slot cannot be had.
 */
static void show_config(struct machine_pci *pci, struct pci_device *device)
{
	memset(device->config + device->config_size, 0xff, PCI_CONFIG_SIZE - device->config_size);
	kvm_slot_map(pci->vm, config_gpa(pci, device), PCI_CONFIG_SIZE, device->config,
		KVM_MEM_READONLY);
}

static const struct pci_device_ops host_bridge_ops;

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
	if (pci_bus_add(&pci->root.bus, bridge, 0, err))
		return err->code;
	show_config(pci, bridge);
	return 0;
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
	if (pci_bridge_add(&pci->root.bus, &port->bridge, place->devfn, err))
		return err->code;
	show_config(pci, &port->bridge.device);
	return 0;
}

int machine_pci_init(struct machine_pci *pci, struct kvm_vm *vm, struct space *mmio,
	struct space *pio, const struct topology *topology, struct error *err)
{
	pci->vm = vm;
	if (pci_root_init(&pci->root, mmio, pio, LAYOUT_ECAM, 1 + topology->port_count,
		    &topology->windows, err))
		return err->code;
	pci->root.ops = &root_ops;
	pci->root.opaque = pci;
	pci->ports = calloc(topology->port_count, sizeof(*pci->ports));
	if (topology->port_count && !pci->ports)
		return error_sys(err, -ENOMEM, NULL, "cannot make the guest's root ports");
	if (make_host_bridge(pci, err))
		return err->code;
	for (unsigned i = 0; i < topology->port_count; i++)
		if (make_port(pci, i, &topology->ports[i], err))
			return err->code;
	return 0;
}

bool machine_pci_next_page(struct machine_pci *pci, struct memory_range *range)
{
	const struct pci_device *device = &pci->host_bridge;
	unsigned i;

	if (__atomic_load_n(&pci->pages_given, __ATOMIC_RELAXED) > pci->port_count)
		return false;
	i = __atomic_fetch_add(&pci->pages_given, 1, __ATOMIC_RELAXED);
	if (i > pci->port_count)
		return false;
	if (i)
		device = &pci->ports[i - 1].bridge.device;
	*range = (struct memory_range){ config_gpa(pci, device), PCI_CONFIG_SIZE };
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
