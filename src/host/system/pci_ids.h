/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <stdint.h>

/*
 * What vendors, devices and classes are called: pci.ids, as Debian and others install it. libpci knows
 * it too, but brings four more libraries into every process of ours and ends it on an error.
 */

#define PCI_IDS_TEXT 128

struct host_pci_ids {
	char *text; /* the whole file */
	size_t size;
};

/* Empty where the host has no such file, or none of a sane size. */
void host_pci_ids_open(struct host_pci_ids *names, const struct host *host);
void host_pci_ids_close(struct host_pci_ids *names);

/* "Vendor Name"; "" where it is not known. */
void host_pci_ids_vendor(
	const struct host_pci_ids *names, uint16_t vendor, char name[static PCI_IDS_TEXT]);
void host_pci_ids_device(const struct host_pci_ids *names, uint16_t vendor, uint16_t device,
	char name[static PCI_IDS_TEXT]);

/* Of the subclass, or of the class where the subclass has none. */
void host_pci_ids_class(
	const struct host_pci_ids *names, uint32_t class_code, char name[static PCI_IDS_TEXT]);
