/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/boot/boot.h"

#include "machine/boot/firmware.h"
#include "machine/boot/linux.h"
#include "machine/layout.h"
#include "machine/platform/acpi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct boot {
	struct boot_machine machine;
	struct firmware *firmware; /* NULL: the kernel runs first */
	struct linux_entry entry;
};

/* Where a BIOS leaves them: a kernel looks for the anchor on each 16th byte of F0000 to FFFFF (5.2.2). */
static void write_smbios(const struct boot_machine *machine)
{
	struct smbios *smbios = memory_at(machine->memory, LAYOUT_SMBIOS, sizeof(*smbios));

	smbios_write(smbios, machine->smbios, machine->name, machine->memory, machine->cpus);
	smbios_place(smbios, LAYOUT_SMBIOS + offsetof(struct smbios, tables));
}

_Static_assert(sizeof(struct smbios) <= LAYOUT_RESET_VECTOR - LAYOUT_SMBIOS, "it fits in between");

static int load_linux(struct boot *boot, const struct boot_files *files, struct error *err)
{
	const struct boot_machine *machine = &boot->machine;
	struct memory_map map;
	const struct acpi_machine described = {
		.memory = machine->memory,
		.pci = &machine->pci->root,
		.cpus = machine->cpus,
		.tpm = machine->tpm,
		.keyboard = machine->keyboard,
	};
	uint64_t rsdp;

	memory_map_for_kernel(&map, machine->memory, machine->pci->root.ecam_size);
	/* The first one to write there. */
	if (memory_need(machine->memory, LAYOUT_ACPI, LAYOUT_1M - LAYOUT_ACPI, err) ||
		acpi_write(&described, &rsdp, err))
		return err->code;
	write_smbios(machine);
	return linux_load(machine->memory, files, &map, rsdp, &boot->entry, err);
}

static int load_firmware(struct boot *boot, const struct boot_files *files, struct error *err)
{
	boot->firmware = calloc(1, sizeof(*boot->firmware));
	if (!boot->firmware)
		return error_sys(err, -ENOMEM, NULL, "cannot make what firmware needs");
	return firmware_load(boot->firmware, files, &boot->machine, err);
}

struct boot *boot_load(
	const struct boot_files *files, const struct boot_machine *machine, struct error *err)
{
	struct boot *boot = calloc(1, sizeof(*boot));

	if (!boot) {
		error_sys(err, -ENOMEM, NULL, "cannot make ready what runs first");
		return NULL;
	}
	boot->machine = *machine;
	if (files->firmware_fd < 0 ? load_linux(boot, files, err)
				   : load_firmware(boot, files, err)) {
		boot_free(boot);
		return NULL;
	}
	return boot;
}

int boot_enter(const struct boot *boot, struct kvm_vcpu *vcpu, struct error *err)
{
	const struct linux_entry *entry = &boot->entry;

	/* Where a CPU starts after power-on there is firmware: nothing to be done. */
	if (boot->firmware)
		return 0;
	return kvm_vcpu_enter_long_mode(vcpu, entry->cr3, entry->gdt, entry->rip, entry->rsi, err);
}

void boot_free(struct boot *boot)
{
	if (!boot)
		return;
	if (boot->firmware)
		firmware_destroy(boot->firmware);
	free(boot->firmware);
	free(boot);
}
