/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/log.h"
#include "passthrough/passthrough.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/*
 * The option ROM: bytes in memory, which the guest sees in a read-only slot while it decodes the ROM's BAR. The
 * device's own are read when it does so for the first time: a kernel that is started directly only asks
 * for the size.
 */

static bool is_own_rom(const struct passthrough *device)
{
	return !device->rom.bytes;
}

int passthrough_rom_init(struct passthrough *device, struct error *err)
{
	uint64_t size = device->pci.bars[PCI_ROM].size;

	device->rom_bytes = (void *)device->rom.bytes;
	if (!size || !is_own_rom(device))
		return 0;
	device->rom_bytes =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (device->rom_bytes != MAP_FAILED)
		return 0;
	device->rom_bytes = NULL;
	return error_sys(err, -errno, device->vfio.name, "no memory for its option ROM");
}

void passthrough_rom_destroy(struct passthrough *device)
{
	if (device->rom_bytes && is_own_rom(device))
		munmap(device->rom_bytes, device->pci.bars[PCI_ROM].size);
	device->rom_bytes = NULL;
}

/* What the kernel gives for a ROM may be the place where one was: it can be the card's first reader's alone. */
static void read_own_rom(struct passthrough *device)
{
	const char *name = device->vfio.name;
	uint8_t *bytes = device->rom_bytes;
	int code;

	device->rom_known = true;
	memset(bytes, 0xff, device->pci.bars[PCI_ROM].size);
	code = vfio_region_copy(&device->vfio, VFIO_PCI_ROM_REGION_INDEX, bytes,
		device->vfio.regions[VFIO_PCI_ROM_REGION_INDEX].size);
	if (code)
		log_warning("%s: its option ROM cannot be read (%s), and the guest finds none; "
			    "next: --device %s,rom=FILE shows it one that is in a file",
			name, strerror(-code), name);
	else if (bytes[0] != 0x55 || bytes[1] != 0xaa)
		log_warning(
			"%s: its option ROM does not begin with 55 aa, but with %02x %02x, and the "
			"guest finds none; next: --device %s,rom=FILE shows it one that is in a file",
			name, bytes[0], bytes[1], name);
}

void passthrough_rom_show(struct passthrough *device)
{
	const struct pci_bar *bar = &device->pci.bars[PCI_ROM];

	if (is_own_rom(device) && !device->rom_known)
		read_own_rom(device);
	/* On failure reads are trapped: slower, but right. */
	device->rom_slot = kvm_slot_map(
		device->vm, bar->address, bar->size, device->rom_bytes, KVM_MEM_READONLY);
}

void passthrough_rom_hide(struct passthrough *device)
{
	if (device->rom_slot >= 0)
		kvm_slot_unmap(device->vm, device->rom_slot);
	device->rom_slot = -1;
}

uint64_t passthrough_rom_read(const struct passthrough *device, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, (const uint8_t *)device->rom_bytes + offset, size);
	return value;
}
