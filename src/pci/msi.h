/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "pci/device.h"

/*
 * The guest's MSI capability (PCI Local Bus 3.0, 6.8.1) and MSI-X capability and table (6.8.2). They
 * hold what the guest has written and say what it means; to deliver interrupts is the owner's part.
 */

struct msi_message {
	uint64_t address;
	uint32_t data;
};

#define MSI_VECTORS_MAX  32
#define MSIX_VECTORS_MAX 2048
#define MSIX_ENTRY_SIZE  16

struct msi {
	unsigned cap; /* offset in configuration space; 0: the device has none */
	bool is_64;
	bool has_mask;
	unsigned vectors; /* that the device can use: 1 to 32 */
};

/*
 * Read the capability at cap of config[], make its guest-owned bits writable and reset them. 0, or
 * -EINVAL where it runs over the end.
 */
int msi_init(struct msi *msi, struct pci_device *device, unsigned cap);

bool msi_enabled(const struct msi *msi, const struct pci_device *device);
/* How many vectors the guest has enabled. */
unsigned msi_enabled_vectors(const struct msi *msi, const struct pci_device *device);
bool msi_masked(const struct msi *msi, const struct pci_device *device, unsigned vector);
struct msi_message msi_message(
	const struct msi *msi, const struct pci_device *device, unsigned vector);
/* Whether [offset, offset + size) touches the capability. */
bool msi_touched(const struct msi *msi, unsigned offset, unsigned size);

struct msix {
	unsigned cap; /* 0: the device has none */
	unsigned vectors;
	unsigned table_bar;
	uint32_t table_offset;
	unsigned pba_bar;
	uint32_t pba_offset;
	uint8_t *table; /* vectors * MSIX_ENTRY_SIZE bytes, as the guest sees it */
};

/* As msi_init(); also -EINVAL where table or PBA do not lie within their BARs. */
int msix_init(struct msix *msix, struct pci_device *device, unsigned cap);
void msix_destroy(struct msix *msix);

bool msix_enabled(const struct msix *msix, const struct pci_device *device);
/* By the function's mask bit or the vector's own. */
bool msix_masked(const struct msix *msix, const struct pci_device *device, unsigned vector);
struct msi_message msix_message(const struct msix *msix, unsigned vector);
bool msix_touched(const struct msix *msix, unsigned offset, unsigned size);

/* Bytes of the table and of the pending-bit array. */
uint32_t msix_table_size(const struct msix *msix);
uint32_t msix_pba_size(const struct msix *msix);

/* The guest's access at a byte offset into the table; offset + size is within it. */
uint64_t msix_table_read(const struct msix *msix, uint32_t offset, unsigned size);
void msix_table_write(struct msix *msix, uint32_t offset, unsigned size, uint64_t value);
