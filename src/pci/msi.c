/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pci/msi.h"

#include "base/size.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

static void make_writable(struct pci_device *device, unsigned offset, unsigned size, uint32_t mask)
{
	for (unsigned i = 0; i < size; i++) {
		device->writable[offset + i] = mask >> 8 * i;
		device->config[offset + i] &= ~device->writable[offset + i];
	}
}

static unsigned msi_size(const struct msi *msi)
{
	return 10 + (msi->is_64 ? 4 : 0) + (msi->has_mask ? 10 : 0);
}

static unsigned data_offset(const struct msi *msi)
{
	return msi->cap + (msi->is_64 ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32);
}

static unsigned mask_offset(const struct msi *msi)
{
	return msi->cap + (msi->is_64 ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32);
}

int msi_init(struct msi *msi, struct pci_device *device, unsigned cap)
{
	uint16_t flags = pci_get16(device, cap + PCI_MSI_FLAGS);

	*msi = (struct msi){
		.cap = cap,
		.is_64 = flags & PCI_MSI_FLAGS_64BIT,
		.has_mask = flags & PCI_MSI_FLAGS_MASKBIT,
		.vectors = 1U << ((flags & PCI_MSI_FLAGS_QMASK) >> 1),
	};
	if (msi->vectors > MSI_VECTORS_MAX || cap + msi_size(msi) > 256) {
		*msi = (struct msi){ 0 };
		return -EINVAL;
	}
	make_writable(device, cap + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	make_writable(device, cap + PCI_MSI_ADDRESS_LO, 4, ~3U);
	if (msi->is_64)
		make_writable(device, cap + PCI_MSI_ADDRESS_HI, 4, UINT32_MAX);
	make_writable(device, data_offset(msi), 2, UINT16_MAX);
	if (msi->has_mask) {
		make_writable(device, mask_offset(msi), 4, (uint32_t)((1ULL << msi->vectors) - 1));
		memset(&device->config[mask_offset(msi) + 4], 0, 4); /* nothing is pending */
	}
	return 0;
}

bool msi_enabled(const struct msi *msi, const struct pci_device *device)
{
	return msi->cap && pci_get16(device, msi->cap + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE;
}

unsigned msi_enabled_vectors(const struct msi *msi, const struct pci_device *device)
{
	uint16_t flags = pci_get16(device, msi->cap + PCI_MSI_FLAGS);

	return min_u64(1U << ((flags & PCI_MSI_FLAGS_QSIZE) >> 4), msi->vectors);
}

bool msi_masked(const struct msi *msi, const struct pci_device *device, unsigned vector)
{
	return msi->has_mask && pci_get32(device, mask_offset(msi)) >> vector & 1;
}

struct msi_message msi_message(
	const struct msi *msi, const struct pci_device *device, unsigned vector)
{
	struct msi_message message = {
		.address = pci_get32(device, msi->cap + PCI_MSI_ADDRESS_LO),
		.data = pci_get16(device, data_offset(msi)),
	};

	if (msi->is_64)
		message.address |= (uint64_t)pci_get32(device, msi->cap + PCI_MSI_ADDRESS_HI) << 32;
	/* The device replaces the low bits of the data by the vector's number. */
	message.data &= ~(msi_enabled_vectors(msi, device) - 1);
	message.data |= vector;
	return message;
}

bool msi_touched(const struct msi *msi, unsigned offset, unsigned size)
{
	return msi->cap && offset < msi->cap + msi_size(msi) && offset + size > msi->cap;
}

uint32_t msix_table_size(const struct msix *msix)
{
	return msix->vectors * MSIX_ENTRY_SIZE;
}

uint32_t msix_pba_size(const struct msix *msix)
{
	return (msix->vectors + 63) / 64 * 8;
}

static bool in_bar(const struct pci_device *device, unsigned bar, uint64_t offset, uint64_t size)
{
	return bar < PCI_BARS && device->bars[bar].kind != PCI_BAR_NONE &&
	       device->bars[bar].kind != PCI_BAR_IO && offset + size <= device->bars[bar].size;
}

static void mask_all(struct msix *msix)
{
	for (unsigned i = 0; i < msix->vectors; i++)
		msix->table[i * MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL] =
			PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

int msix_init(struct msix *msix, struct pci_device *device, unsigned cap)
{
	uint32_t table = pci_get32(device, cap + PCI_MSIX_TABLE);
	uint32_t pba = pci_get32(device, cap + PCI_MSIX_PBA);

	*msix = (struct msix){
		.cap = cap,
		.vectors = (pci_get16(device, cap + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1,
		.table_bar = table & PCI_MSIX_TABLE_BIR,
		.table_offset = table & PCI_MSIX_TABLE_OFFSET,
		.pba_bar = pba & PCI_MSIX_PBA_BIR,
		.pba_offset = pba & PCI_MSIX_PBA_OFFSET,
	};
	if (!in_bar(device, msix->table_bar, msix->table_offset, msix_table_size(msix)) ||
		!in_bar(device, msix->pba_bar, msix->pba_offset, msix_pba_size(msix))) {
		*msix = (struct msix){ 0 };
		return -EINVAL;
	}
	msix->table = calloc(msix->vectors, MSIX_ENTRY_SIZE);
	if (!msix->table) {
		*msix = (struct msix){ 0 };
		return -ENOMEM;
	}
	mask_all(msix);
	make_writable(
		device, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	return 0;
}

void msix_destroy(struct msix *msix)
{
	free(msix->table);
}

bool msix_enabled(const struct msix *msix, const struct pci_device *device)
{
	return msix->cap && pci_get16(device, msix->cap + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_ENABLE;
}

bool msix_masked(const struct msix *msix, const struct pci_device *device, unsigned vector)
{
	return pci_get16(device, msix->cap + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_MASKALL ||
	       msix->table[vector * MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL] &
		       PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

struct msi_message msix_message(const struct msix *msix, unsigned vector)
{
	uint32_t at = vector * MSIX_ENTRY_SIZE;

	return (struct msi_message){
		.address = msix_table_read(msix, at + PCI_MSIX_ENTRY_LOWER_ADDR, 8),
		.data = msix_table_read(msix, at + PCI_MSIX_ENTRY_DATA, 4),
	};
}

bool msix_touched(const struct msix *msix, unsigned offset, unsigned size)
{
	return msix->cap && offset < msix->cap + PCI_CAP_MSIX_SIZEOF && offset + size > msix->cap;
}

uint64_t msix_table_read(const struct msix *msix, uint32_t offset, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)msix->table[offset + i] << 8 * i;
	return value;
}

void msix_table_write(struct msix *msix, uint32_t offset, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		msix->table[offset + i] = value >> 8 * i;
	/* Bits 1:0 of the address and 31:1 of the control are reserved and stay 0. */
	for (uint32_t at = align_down(offset, MSIX_ENTRY_SIZE); at < offset + size;
		at += MSIX_ENTRY_SIZE) {
		msix->table[at] &= ~3;
		msix->table[at + PCI_MSIX_ENTRY_VECTOR_CTRL] &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
		memset(&msix->table[at + PCI_MSIX_ENTRY_VECTOR_CTRL + 1], 0, 3);
	}
}
