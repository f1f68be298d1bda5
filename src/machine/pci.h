/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "kvm/vm.h"
#include "machine/memory.h"
#include "machine/topology.h"
#include "pci/root.h"

/*
 * A machine's PCI tree: the host bridge of a Q35, and the root ports that the topology asks for. Where firmware
 * runs first, there are CF8 and CFC, and ECAM is where PCIEXBAR says (Intel 3 Series MCH, 319966, 5.1.13): it
 * is off at the start.
 */

struct machine_pci {
	struct kvm_vm *vm;
	struct pci_root root;
	struct pci_device host_bridge;
	struct pci_port *ports; /* topology->port_count of them */
	unsigned port_count;
	int slots
		[TOPOLOGY_SLOTS]; /* memory slots that show the configuration of host bridge and ports */
	unsigned pages_given; /* of host bridge and ports, by machine_pci_next_page() */
	/* The guest asks for a reset by port CF9. */
	void (*reset)(void *opaque);
	void *opaque;
};

/* reset and opaque are filled in; the topology is planned; the spaces and the VM outlive it. */
int machine_pci_init(struct machine_pci *pci, struct kvm_vm *vm, struct space *mmio,
	struct space *pio, const struct topology *topology, bool firmware, struct error *err);
/*
 * The next page of configuration space that the guest may read without an exit, to be mapped ahead of its
 * first touch; each is given once. For any thread.
 */
bool machine_pci_next_page(struct machine_pci *pci, struct memory_range *range);
/* The guest does not run any more, and no device is left on a bus. */
void machine_pci_destroy(struct machine_pci *pci);
