/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/message.h"
#include "pci/root.h"

/*
 * Describe every function in the guest's PCI tree, those of a bus together, with number -1. Takes the lock
 * of each in turn.
 */
void query_pci(struct pci_root *root,
	void (*tell)(void *opaque, const struct pci_device *device,
		const struct message_function *function),
	void *opaque);
