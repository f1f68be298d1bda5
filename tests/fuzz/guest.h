/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "fuzz.h"
#include "passthrough/passthrough.h"
#include "pci/root.h"

/* A guest with a PCI bus, two passed devices on it, and accesses as the input has them. */

#define GUEST_DEVICES 2

struct guest {
	struct kvm_vm *vm;
	struct space mmio, pio;
	struct pci_root root;
	struct passthrough devices[GUEST_DEVICES];
	unsigned count; /* devices that were tried, to be detached */
	unsigned attached;
	unsigned long accesses, decoded, vectors; /* for the goals */
};

/* False where the kernel fails. */
bool guest_open(struct guest *guest);
/* Attach the next device, whose vfio is filled in. */
void guest_attach(struct guest *guest);
void guest_close(struct guest *guest);

/* One access to configuration space, memory or a port; afterwards what must hold does. */
void guest_access(struct guest *guest, struct fuzz_input *input);

/* Whether each vector that the guest has unmasked reaches it, by the message that it has set. */
void guest_check_vectors(struct guest *guest);
