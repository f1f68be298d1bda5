/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/boot/bios.h"

#include "base/size.h"
#include "machine/layout.h"
#include "machine/platform/acpi_loader.h"
#include "machine/platform/serial.h"
#include "pci/bridge.h"

#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * PAM0 to PAM6 of the host bridge (Intel 3 Series MCH, 319966, 5.1.18): whether C0000 to FFFFF are RAM or ROM, to
 * read and to write, two bits for 16 KiB; the lower two of PAM0 are reserved.
 */
#define PAM           0x90
#define PAM_COUNT     7
#define PAM_WRITABLE  0x33
#define PAM0_WRITABLE 0x30

#define CLASS_SATA 0x0106
#define SATA_PORTS 8 /* of a controller's, those that its disks are looked for at */

/*
 * It starts below 1 MiB, and then makes RAM of that by PAM. Here it is RAM from the start, with the end of the image in
 * it, and stays writable: a BIOS looks at nothing but what the registers hold, and on every PC a system
 * can switch the protection off.
 */
static int show_shadow(
	const struct flash *flash, const struct boot_machine *machine, struct error *err)
{
	struct pci_device *bridge = &machine->pci->host_bridge;
	uint64_t size = min_u64(flash->code_size, BIOS_SHADOW);

	if (memory_need(machine->memory, LAYOUT_1M - size, size, err))
		return err->code;
	memcpy(memory_at(machine->memory, LAYOUT_1M - size, size),
		flash->code + flash->code_size - size, size);
	for (unsigned i = 0; i < PAM_COUNT; i++)
		pci_set_writable(bridge, PAM + i, 1, i ? PAM_WRITABLE : PAM0_WRITABLE);
	return 0;
}

static void print_function(FILE *out, const char *bus, const struct pci_device *device)
{
	unsigned slot = device->devfn >> 3, function = device->devfn & 7;
	char path[80], suffix[8] = "";

	if (function)
		snprintf(suffix, sizeof(suffix), ",%x", function);
	snprintf(path, sizeof(path), "%s/device@%x%s", bus, slot, suffix);
	fprintf(out, "%s\n", path);
	/* A controller's disks have names of their own; an NVMe disk, and what a ROM offers, has the function's. */
	if (pci_get16(device, PCI_CLASS_DEVICE) == CLASS_SATA)
		for (unsigned i = 0; i < SATA_PORTS; i++)
			fprintf(out, "%s/drive@%x/disk@0\n", path, i);
}

/* By slots, for those are in the order of the devices (machine/topology.h). */
static void print_order(FILE *out, const struct machine_pci *pci)
{
	const struct pci_bus *root = &pci->root.bus;

	for (unsigned slot = 1; slot < LAYOUT_ISA_SLOT; slot++) {
		const struct pci_bridge *port = root->bridges;
		const struct pci_bus *bus = root;
		unsigned first = slot << 3;
		char name[48] = "/pci@i0cf8";

		while (port && port->device.devfn != first)
			port = port->next;
		if (port) {
			snprintf(name, sizeof(name), "/pci@i0cf8/pci-bridge@%x", slot);
			bus = &port->secondary;
			first = 0;
		}
		for (unsigned i = first; i < first + 8; i++)
			if (bus->devices[i])
				print_function(out, name, bus->devices[i]);
	}
}

static int write_order(struct bios *bios, const struct machine_pci *pci, struct fw_cfg *fw_cfg)
{
	size_t size;
	FILE *out = open_memstream(&bios->order, &size);

	if (!out)
		return -ENOMEM;
	print_order(out, pci);
	if (fclose(out))
		return -ENOMEM;
	/* Its last line has no end. */
	if (size)
		fw_cfg_add_file(fw_cfg, "bootorder", bios->order, size - 1, NULL, NULL);
	return 0;
}

int bios_load(struct bios *bios, const struct flash *flash, const struct boot_machine *machine,
	struct fw_cfg *fw_cfg, struct error *err)
{
	if (show_shadow(flash, machine, err))
		return err->code;
	bios->console = htole64(SERIAL_PORT);
	fw_cfg_add_file(
		fw_cfg, "etc/sercon-port", &bios->console, sizeof(bios->console), NULL, NULL);
	if (machine->tpm)
		fw_cfg_add_file(
			fw_cfg, ACPI_LOADER_LOG, bios->tpm_log, sizeof(bios->tpm_log), NULL, NULL);
	if (write_order(bios, machine->pci, fw_cfg))
		return error_sys(err, -ENOMEM, NULL, "cannot tell the BIOS in which order to boot");
	return 0;
}

void bios_destroy(struct bios *bios)
{
	free(bios->order);
}
