/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI and MSI-X on their own, against a model: a hostile capability list entry, then accesses of a
 * guest to the capabilities, of every size and alignment, and to the table. What the code says of a
 * vector must be what the bytes that the guest wrote say.
 */
#include "base/size.h"
#include "fuzz.h"
#include "pci/msi.h"

#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

enum { MSI, MSIX, TABLE, CONFIG };

struct fuzz_goal fuzz_goals[] = {
	[MSI] = { "MSI capabilities", 10, 0 },
	[MSIX] = { "MSI-X capabilities", 20, 0 },
	[TABLE] = { "accesses to the table", 4, 0 },
	[CONFIG] = { "accesses to configuration space", 2, 0 },
	{ 0 },
};

struct target {
	struct pci_device device;
	struct msi msi;
	struct msix msix;
	uint8_t *table; /* the model: what a plain array would hold, but for the reserved bits */
};

static void make_bars(struct target *target, struct fuzz_input *input)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint8_t byte = fuzz_byte(input);

		target->device.bars[i].kind = byte & 3;
		target->device.bars[i].size = 1ULL << (byte >> 2) % 40;
	}
}

/* What was accepted lies where it says, and starts out silent. */
static void check_start(const struct target *target)
{
	const struct msix *msix = &target->msix;

	fuzz_check(!msi_enabled(&target->msi, &target->device));
	fuzz_check(!target->msi.cap || (target->msi.vectors >= 1 && target->msi.vectors <= 32));
	fuzz_check(!msix_enabled(msix, &target->device));
	if (!msix->cap)
		return;
	fuzz_check(msix->vectors >= 1 && msix->vectors <= MSIX_VECTORS_MAX);
	fuzz_check(msix->table_bar < PCI_BARS && msix->pba_bar < PCI_BARS);
	fuzz_check(msix->table_offset + (uint64_t)msix_table_size(msix) <=
		   target->device.bars[msix->table_bar].size);
	fuzz_check(msix->pba_offset + (uint64_t)msix_pba_size(msix) <=
		   target->device.bars[msix->pba_bar].size);
	for (unsigned i = 0; i < msix->vectors; i++)
		fuzz_check(msix_masked(msix, &target->device, i));
}

static void make(struct target *target, struct fuzz_input *input)
{
	unsigned msi, msix;

	pci_device_init(&target->device, NULL);
	make_bars(target, input);
	fuzz_bytes(input, &target->device.config[PCI_STD_HEADER_SIZEOF], 192);
	/* Where a capability may be: a multiple of 4 behind the header. The two do not overlap. */
	msi = PCI_STD_HEADER_SIZEOF + fuzz_byte(input) % 24 * 4;
	msix = PCI_STD_HEADER_SIZEOF + (24 + fuzz_byte(input) % 22) * 4;
	if (fuzz_byte(input) & 1) /* likely to be accepted */
		target->device.config[msix + PCI_MSIX_FLAGS + 1] &= 1;
	msi_init(&target->msi, &target->device, msi);
	if (target->msi.cap && msi + 24 > msix) /* longer than what is left before the other */
		target->msi = (struct msi){ 0 };
	msix_init(&target->msix, &target->device, msix);
	check_start(target);
	if (!target->msix.cap)
		return;
	target->table = calloc(target->msix.vectors, MSIX_ENTRY_SIZE);
	fuzz_check(target->table);
	for (unsigned i = 0; i < target->msix.vectors; i++)
		target->table[i * MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL] = 1;
}

static uint32_t get32(const uint8_t *bytes)
{
	return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void check_vector(const struct target *target, unsigned i)
{
	const uint8_t *entry = &target->table[i * MSIX_ENTRY_SIZE];
	struct msi_message message = msix_message(&target->msix, i);
	uint16_t flags = pci_get16(&target->device, target->msix.cap + PCI_MSIX_FLAGS);

	fuzz_check(message.address == ((uint64_t)get32(entry + 4) << 32 | (get32(entry) & ~3U)));
	fuzz_check(message.data == get32(entry + 8));
	fuzz_check(msix_masked(&target->msix, &target->device, i) ==
		   (flags & PCI_MSIX_FLAGS_MASKALL || entry[12] & 1));
}

static void access_table(struct target *target, struct fuzz_input *input)
{
	unsigned size = 1U << fuzz_byte(input) % 4;
	unsigned at = fuzz_number(input, 2) % (msix_table_size(&target->msix) - size + 1);
	uint64_t value = fuzz_number(input, size), seen;

	msix_table_write(&target->msix, at, size, value);
	memcpy(&target->table[at], &value, size);
	check_vector(target, at / MSIX_ENTRY_SIZE);
	check_vector(target, (at + size - 1) / MSIX_ENTRY_SIZE);
	at = fuzz_number(input, 2) % (msix_table_size(&target->msix) - size + 1);
	seen = msix_table_read(&target->msix, at, size);
	/* It may lack reserved bits, and has no bit that nobody wrote. */
	value = 0;
	memcpy(&value, &target->table[at], size);
	fuzz_check(!(seen & ~value));
}

static void check_msi(const struct target *target)
{
	const struct msi *msi = &target->msi;
	unsigned count = msi_enabled_vectors(msi, &target->device);
	uint32_t first;

	fuzz_check(count >= 1 && count <= msi->vectors);
	first = msi_message(msi, &target->device, 0).data;
	fuzz_check(first % count == 0);
	for (unsigned i = 0; i < count; i++) {
		fuzz_check(msi_message(msi, &target->device, i).data == first + i);
		msi_masked(msi, &target->device, i);
	}
}

/* The guest must not change what the device says of itself, nor anything out of its reach. */
static void access_config(struct target *target, struct fuzz_input *input)
{
	unsigned size = 1U << fuzz_byte(input) % 3;
	unsigned at = fuzz_number(input, 2) % (PCI_CONFIG_SIZE + 8);
	uint8_t before[PCI_CFG_SPACE_SIZE];
	struct pci_device *device = &target->device;

	memcpy(before, device->config, sizeof(before));
	if (fuzz_byte(input) & 3) /* mostly near a capability */
		at = at % 32 + (at & 32 ? target->msi.cap : target->msix.cap);
	if (at >= PCI_BASE_ADDRESS_0 && at < PCI_STD_HEADER_SIZEOF)
		return; /* there is no bus to decode BARs on */
	if (at + size > PCI_COMMAND && at < PCI_STD_HEADER_SIZEOF)
		return;
	pci_device_config_write(device, at, size, fuzz_number(input, size));
	for (unsigned i = 0; i < sizeof(before); i++) {
		if (i < at || i >= at + size)
			fuzz_check(device->config[i] == before[i]);
		fuzz_check(!((device->config[i] ^ before[i]) & ~device->writable[i]));
	}
	pci_device_config_read(device, at, size);
	if (target->msi.cap)
		check_msi(target);
}

void fuzz_one(struct fuzz_input *input)
{
	struct target *target = calloc(1, sizeof(*target));

	fuzz_check(target);
	make(target, input);
	fuzz_goals[MSI].count += target->msi.cap != 0;
	fuzz_goals[MSIX].count += target->msix.cap != 0;
	for (unsigned i = 0; i < 300 && input->size; i++) {
		bool in_table = target->msix.cap && fuzz_byte(input) & 1;

		(in_table ? access_table : access_config)(target, input);
		fuzz_goals[in_table ? TABLE : CONFIG].count++;
	}
	free(target->table);
	msix_destroy(&target->msix);
	pci_device_destroy(&target->device);
	free(target);
}
