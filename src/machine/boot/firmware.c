/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/boot/firmware.h"

#include "machine/boot/linux.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Firmware asks for the tables when it has set up PCI, and asks for the loader's script first: from here on they
 * say where ECAM is and how many buses there are.
 */
static void write_tables(struct firmware *firmware)
{
	const struct boot_machine *machine = firmware->machine;
	bool fixed_hardware = firmware->is_bios || kvm_cpus_lack_clock(machine->cpus);
	struct machine_pci *pci = machine->pci;
	const struct acpi_machine described = {
		.memory = machine->memory,
		.pci = &pci->root,
		.cpus = machine->cpus,
		.tpm = machine->tpm,
		.keyboard = machine->keyboard,
		.tpm_log = firmware->is_bios, /* UEFI has its own */
		.pm_base = fixed_hardware ? lpc_pm_base(&firmware->lpc) : 0,
	};
	struct acpi_links links;

	pci->root.buses = pci_root_last_bus(&pci->root) + 1U;
	pthread_mutex_lock(&pci->host_bridge.lock);
	/* The same tables have had the room before; whatever the buses' numbers are. */
	memset(firmware->tables, 0, sizeof(firmware->tables));
	if (acpi_write_unplaced(firmware->tables, sizeof(firmware->tables), &described, &links)) {
		memcpy(firmware->rsdp, firmware->tables + links.rsdp, sizeof(firmware->rsdp));
		acpi_loader_write(firmware->loader, &links);
	}
	pthread_mutex_unlock(&pci->host_bridge.lock);
}

/* By then firmware has unpacked itself, and reads next to nothing from the flash. */
static void give_tables(void *opaque)
{
	struct firmware *firmware = opaque;

	write_tables(firmware);
	flash_forget_code(&firmware->flash);
}

static void add_machine(struct firmware *firmware)
{
	const struct boot_machine *machine = firmware->machine;
	struct fw_cfg *fw_cfg = &firmware->fw_cfg;

	fw_cfg_add_number(fw_cfg, FW_CFG_CPUS, machine->cpus->count, 2);
	fw_cfg_add_number(fw_cfg, FW_CFG_CPUS_MAX, machine->cpus->count, 2);
	memory_map_for_firmware(&firmware->map, machine->memory);
	fw_cfg_add_file(fw_cfg, "etc/e820", firmware->map.ranges,
		firmware->map.count * sizeof(firmware->map.ranges[0]), NULL, NULL);
	write_tables(firmware);
	fw_cfg_add_file(fw_cfg, ACPI_LOADER_FILE, firmware->loader, sizeof(firmware->loader),
		give_tables, firmware);
	fw_cfg_add_file(
		fw_cfg, ACPI_LOADER_TABLES, firmware->tables, sizeof(firmware->tables), NULL, NULL);
	fw_cfg_add_file(
		fw_cfg, ACPI_LOADER_RSDP, firmware->rsdp, sizeof(firmware->rsdp), NULL, NULL);
	smbios_write(
		&firmware->smbios, machine->smbios, machine->name, machine->memory, machine->cpus);
	fw_cfg_add_file(fw_cfg, SMBIOS_ANCHOR_FILE, firmware->smbios.anchor,
		sizeof(firmware->smbios.anchor), NULL, NULL);
	fw_cfg_add_file(fw_cfg, SMBIOS_TABLES_FILE, firmware->smbios.tables, firmware->smbios.size,
		NULL, NULL);
}

/* The kernel in two parts, as QEMU has it: its real-mode sectors, and the rest. */
static int add_kernel(struct firmware *firmware, const struct boot_files *files, struct error *err)
{
	struct fw_cfg *fw_cfg = &firmware->fw_cfg;
	uint64_t setup, size, initrd;

	if (files->kernel_fd < 0)
		return 0;
	if (linux_measure(files, &setup, &size, &initrd, err))
		return err->code;
	fw_cfg_add_number(fw_cfg, FW_CFG_SETUP_SIZE, setup, 4);
	fw_cfg_add_fd(fw_cfg, FW_CFG_SETUP, files->kernel_fd, 0, setup);
	fw_cfg_add_number(fw_cfg, FW_CFG_KERNEL_SIZE, size - setup, 4);
	fw_cfg_add_fd(fw_cfg, FW_CFG_KERNEL, files->kernel_fd, setup, size - setup);
	fw_cfg_add_number(fw_cfg, FW_CFG_INITRD_SIZE, initrd, 4);
	fw_cfg_add_fd(fw_cfg, FW_CFG_INITRD, files->initrd_fd, 0, initrd);
	fw_cfg_add_number(fw_cfg, FW_CFG_CMDLINE_SIZE, strlen(files->cmdline) + 1, 4);
	fw_cfg_add(fw_cfg, FW_CFG_CMDLINE, files->cmdline, strlen(files->cmdline) + 1);
	return 0;
}

int firmware_load(struct firmware *firmware, const struct boot_files *files,
	const struct boot_machine *machine, struct error *err)
{
	int code;

	firmware->machine = machine;
	firmware->is_bios = files->bios;
	firmware->lpc.off = machine->off;
	firmware->lpc.reset = machine->reset;
	firmware->lpc.opaque = machine->opaque;
	if (flash_init(&firmware->flash, machine->vm, machine->mmio, files->firmware_fd,
		    files->firmware_name, files->nvram_fd, files->nvram_name, err) ||
		lpc_init(&firmware->lpc, &machine->pci->root.bus, machine->pio, err))
		return err->code;
	memory_add_first(
		machine->memory, LAYOUT_4G - firmware->flash.code_size, firmware->flash.code_size);
	code = fw_cfg_init(&firmware->fw_cfg, machine->pio, machine->memory);
	if (code)
		return error_sys(err, code, NULL, "cannot make fw_cfg");
	add_machine(firmware);
	if (files->bios)
		return bios_load(
			&firmware->bios, &firmware->flash, machine, &firmware->fw_cfg, err);
	return add_kernel(firmware, files, err);
}

void firmware_destroy(struct firmware *firmware)
{
	bios_destroy(&firmware->bios);
	lpc_destroy(&firmware->lpc);
	flash_destroy(&firmware->flash);
}
