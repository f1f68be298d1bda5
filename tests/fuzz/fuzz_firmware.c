/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What of a PC firmware looks at: flash, fw_cfg, ISA bridge, PCIEXBAR, and a BIOS's PAM. The input is a guest's
 * accesses to them and to configuration space, which of both it is, and which call into the kernel fails.
 */
#include "fuzz.h"

#include "base/fd.h"
#include "base/size.h"
#include "kernel.h"
#include "machine/boot/firmware.h"
#include "machine/layout.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define STEPS_MAX 1000
#define RAM       (2 * MIB)
#define CODE      (8 * KIB)
#define VARIABLES (8 * KIB)
#define FLASH     (LAYOUT_4G - CODE - VARIABLES)
#define PORTS     2
#define PAM       0x90
#define BIOS      0x80   /* in the first byte of an input: it is one */
#define COMMAND   0x1000 /* where in RAM transfers by DMA are put */

enum { ACCESSES, WRITTEN, MODES, DMA, TABLES, MOVED, ENDS, FIXED };

struct fuzz_goal fuzz_goals[] = {
	[ACCESSES] = { "accesses", 2, 0 },
	[WRITTEN] = { "steps that wrote variables", 200, 0 },
	[MODES] = { "steps with the flash in a command", 50, 0 },
	[DMA] = { "transfers by DMA", 50, 0 },
	[TABLES] = { "ACPI tables written anew", 200, 0 },
	[MOVED] = { "steps with ECAM where it was put", 100, 0 },
	[ENDS] = { "requests to power off or reset", 2000, 0 },
	[FIXED] = { "a BIOS's tables with the ports of power management", 2000, 0 },
	{ 0 },
};

struct pc {
	struct kvm_vm *vm;
	struct space mmio, pio;
	struct memory memory;
	struct topology topology;
	struct kvm_cpus cpus;
	struct machine_pci pci;
	struct boot_machine machine;
	struct boot_files files;
	struct firmware firmware;
	uint8_t before[VARIABLES];
};

static void on_end(void *opaque)
{
	(void)opaque;
	fuzz_goals[ENDS].count++;
}

static int make_file(uint64_t size)
{
	int fd = memfd_create("flash", MFD_CLOEXEC);

	fuzz_check(fd >= 0 && ftruncate(fd, size) == 0);
	return fd;
}

static void check_flash(struct pc *pc)
{
	const struct flash *flash = &pc->firmware.flash;
	uint8_t kept[VARIABLES];

	if (pc->files.bios)
		return;
	fuzz_check(pread(pc->files.nvram_fd, kept, sizeof(kept), 0) == sizeof(kept));
	fuzz_check(memcmp(kept, flash->bytes, sizeof(kept)) == 0);
	fuzz_goals[WRITTEN].count += memcmp(kept, pc->before, sizeof(kept)) != 0;
	memcpy(pc->before, kept, sizeof(kept));
	/* Reads are trapped in the midst of a command. */
	fuzz_check(flash->slot < 0 || flash->mode == FLASH_ARRAY);
	fuzz_goals[MODES].count += flash->mode != FLASH_ARRAY;
}

static uint32_t number_at(const uint8_t *bytes)
{
	uint32_t number;

	memcpy(&number, bytes, sizeof(number));
	return le32toh(number);
}

/* A file of the loader's, by the name in a command. */
static uint8_t *file_of(struct firmware *firmware, const uint8_t *name, size_t *size)
{
	bool rsdp = strcmp((const char *)name, ACPI_LOADER_RSDP) == 0;

	fuzz_check(rsdp || strcmp((const char *)name, ACPI_LOADER_TABLES) == 0);
	*size = rsdp ? sizeof(firmware->rsdp) : sizeof(firmware->tables);
	return rsdp ? firmware->rsdp : firmware->tables;
}

/* Whatever the guest has done to PCI, the script and the tables fit together. */
static void check_tables(struct firmware *firmware)
{
	uint16_t pm_base = firmware->is_bios ? lpc_pm_base(&firmware->lpc) : 0;

	for (unsigned i = 0; i < ACPI_LOADER_COMMANDS; i++) {
		const uint8_t *command = firmware->loader[i].bytes;
		uint32_t kind = number_at(command), offset, length;
		uint64_t pointer = 0;
		uint8_t *file;
		size_t size;

		if (!kind)
			continue;
		file = file_of(firmware, command + 4, &size);
		if (kind == 2) {
			offset = number_at(command + 4 + 2 * FW_CFG_NAME);
			length = command[4 + 2 * FW_CFG_NAME + 4];
			fuzz_check((length == 4 || length == 8) && offset + length <= size);
			memcpy(&pointer, file + offset, length);
			fuzz_check(pointer + 36 <= sizeof(firmware->tables));
		} else if (kind == 3) {
			offset = number_at(command + 4 + FW_CFG_NAME + 4);
			length = number_at(command + 4 + FW_CFG_NAME + 8);
			fuzz_check(offset + length <= size && length);
		}
	}
	fuzz_goals[TABLES].count++;
	fuzz_goals[FIXED].count += pm_base != 0;
}

static void dma(struct pc *pc, struct fuzz_input *input)
{
	uint32_t command[4];
	uint8_t how = fuzz_byte(input);

	command[0] =
		htobe32(fuzz_number(input, 1) | (how & 1 ? fuzz_number(input, 2) : how & 63) << 16);
	command[1] = htobe32(fuzz_number(input, how & 2 ? 4 : 1));
	command[2] = how & 4 ? fuzz_number(input, 4) : 0;
	command[3] = htobe32(how & 8 ? fuzz_number(input, 4) : fuzz_number(input, 2) * 32);
	memcpy(memory_at(&pc->memory, COMMAND, sizeof(command)), command, sizeof(command));
	space_write(&pc->pio, FW_CFG_PORT + 8, 4, htobe32(COMMAND));
	fuzz_goals[DMA].count++;
}

static uint64_t port_of(uint8_t which)
{
	static const uint16_t ports[] = { FW_CFG_PORT, FW_CFG_PORT + 1, FW_CFG_PORT + 4,
		FW_CFG_PORT + 8, 0xcf8, 0xcfc, 0xcfe, 0xcff, 0xcf9, 0x92, 0x600, 0x604, 0x608,
		0x609, 0xcf8, 0xcfc };
	static const uint16_t fixed[] = { 0x600, 0x602, 0x604, 0x630 };

	if (which >= 0xf0)
		return fixed[which % ARRAY_SIZE(fixed)];
	return ports[which % ARRAY_SIZE(ports)];
}

/* What CF8 may hold: the few devices that there are, mostly. */
static void config(struct pc *pc, struct fuzz_input *input, uint8_t how)
{
	static const uint8_t devices[] = { 0, 1, 2, LAYOUT_ISA_SLOT };
	static const uint8_t registers[] = { 0x60, 0x64, 0x40, 0x44, 0x04, 0x18, 0x1c, 0x20, 0x24,
		0x3c, 0xf0 };
	unsigned slot = devices[how & 3];
	uint8_t which = fuzz_byte(input);
	unsigned offset =
		which >= 0xf0 ? PAM + (which & 4) : registers[which % ARRAY_SIZE(registers)];

	space_write(&pc->pio, 0xcf8, 4, 1U << 31 | slot << 11 | offset);
	space_write(&pc->pio, 0xcfc, 4, fuzz_number(input, 4));
}

static void access_any(struct pc *pc, struct fuzz_input *input, uint8_t how)
{
	unsigned size = 1U << (how >> 4 & 3);
	uint8_t which = fuzz_byte(input);
	bool is_port = how & 1;
	struct space *space = is_port ? &pc->pio : &pc->mmio;
	uint64_t address = is_port     ? port_of(which)
			   : how & 2   ? FLASH + fuzz_number(input, 2) % (VARIABLES + 16)
			   : which & 1 ? pc->pci.root.ecam + fuzz_number(input, 3)
				       : fuzz_number(input, 5);

	if (is_port)
		size = min_u64(size, 4);
	if (how & 4)
		space_write(space, address, size, fuzz_number(input, size));
	else
		space_read(space, address, size);
}

static void step(struct pc *pc, struct fuzz_input *input)
{
	uint8_t how = fuzz_byte(input);

	fuzz_goals[ACCESSES].count++;
	if (how < 0xc0)
		access_any(pc, input, how);
	else if (how < 0xd8)
		config(pc, input, how);
	else if (how < 0xf0)
		dma(pc, input);
	else if (how < 0xf8) /* a byte of the flash is programmed */
		for (unsigned i = 0; i < 3; i++)
			space_write(&pc->mmio, FLASH + how, 1, i == 0 ? 0x10 : fuzz_byte(input));
	else
		space_write(&pc->pio, FW_CFG_PORT, 2, fuzz_byte(input) % 0x30);
	if (pc->firmware.fw_cfg.selected &&
		pc->firmware.fw_cfg.selected->bytes == (const uint8_t *)pc->firmware.loader)
		check_tables(&pc->firmware);
	fuzz_goals[MOVED].count += pc->pci.root.ecam_size != 0;
	check_flash(pc);
}

static const struct smbios_config nothing_said;

/* False where the kernel fails. */
static bool open_pc(struct pc *pc, bool bios, struct error *err)
{
	pc->vm = kvm_vm_new(3, err);
	if (!pc->vm)
		return false;
	pc->cpus = KVM_CPUS(2); /* for as long as the firmware */
	pc->topology.firmware = true;
	if (topology_windows(40, RAM, true, &pc->topology.windows, err) ||
		topology_plan(&pc->topology, PORTS, err) ||
		machine_pci_init(&pc->pci, pc->vm, &pc->mmio, &pc->pio, &pc->topology, true, err))
		return false;
	pc->files = (struct boot_files){
		.firmware_fd = make_file(CODE),
		.firmware_name = "code",
		.bios = bios,
		.nvram_fd = bios ? -1 : make_file(VARIABLES),
		.nvram_name = "variables",
		.kernel_fd = -1,
		.initrd_fd = -1,
	};
	pc->machine = (struct boot_machine){
		.name = "fuzz",
		.smbios = &nothing_said,
		.vm = pc->vm,
		.memory = &pc->memory,
		.mmio = &pc->mmio,
		.pio = &pc->pio,
		.pci = &pc->pci,
		.cpus = &pc->cpus,
		.off = on_end,
		.reset = on_end,
	};
	return firmware_load(&pc->firmware, &pc->files, &pc->machine, err) == 0;
}

static void close_pc(struct pc *pc)
{
	firmware_destroy(&pc->firmware);
	machine_pci_destroy(&pc->pci);
	kvm_vm_free(pc->vm);
	if (pc->files.firmware_name)
		close(pc->files.firmware_fd);
	if (pc->files.firmware_name && !pc->files.bios)
		close(pc->files.nvram_fd);
	space_destroy(&pc->pio);
	space_destroy(&pc->mmio);
}

void fuzz_one(struct fuzz_input *input)
{
	static uint8_t ram[RAM] __attribute__((aligned(RAM)));
	static struct pc pc;
	unsigned before = fuzz_descriptors();
	struct error err = { 0 };
	uint8_t first;

	kernel_reset(input);
	first = fuzz_byte(input);
	kernel.fail_in = first & ~BIOS;
	kernel.fail_code = ENOMEM;
	memset(&pc, 0, sizeof(pc));
	pc.memory = (struct memory){ .regions = { { 0, RAM, ram } }, .count = 1, .size = RAM };
	pc.pci.reset = on_end;
	space_init(&pc.mmio);
	space_init(&pc.pio);
	if (open_pc(&pc, first & BIOS, &err))
		for (unsigned i = 0; i < STEPS_MAX && input->size; i++)
			step(&pc, input);
	else
		fuzz_check(err.code && err.what[0]);
	close_pc(&pc);
	kernel_check_idle();
	fuzz_check(fuzz_descriptors() == before);
}
