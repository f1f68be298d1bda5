/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/boot/linux.h"

#include "base/fd.h"
#include "base/size.h"
#include "kvm/vcpu.h"
#include "machine/layout.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* Where the loader's own pieces lie, below 640 KiB. */
#define GDT_AT      0x00500ULL
#define ZERO_PAGE   0x07000ULL
#define PAGE_TABLE  0x09000ULL /* one top table, one of 512 GiB, four of 1 GiB each */
#define CMDLINE     0x20000ULL
#define CMDLINE_MAX (LAYOUT_EBDA - CMDLINE)

#define IDENTITY_MAPPED (4 * GIB) /* what the page tables below cover */
#define SECTOR          512
#define HEADER_OFFSET   0x1f1
#define JUMP_END        0x202
#define ENTRY_64        0x200
#define SETUP_MAGIC     0x53726448 /* "HdrS" */
#define PROTOCOL_2_12   0x020c     /* the first with xloadflags */
#define BOOT_FLAG       0xaa55
#define LOADER_UNKNOWN  0xff

#define PTE_PRESENT 1
#define PTE_WRITE   2
#define PTE_LARGE   (1 << 7)

static int not_a_kernel(const struct boot_files *boot, struct error *err, const char *why)
{
	error_set(err, -ENOEXEC, boot->kernel_name, "is no 64-bit Linux bzImage: %s", why);
	error_hint(err, "--kernel takes the file that distributions install as /boot/vmlinuz-*");
	return -ENOEXEC;
}

static int read_header(const struct boot_files *boot, struct setup_header *header, uint64_t *size,
	struct error *err)
{
	struct stat stat;
	size_t length;

	if (fstat(boot->kernel_fd, &stat) < 0)
		return error_sys(err, -errno, boot->kernel_name, "cannot be read");
	if (!S_ISREG(stat.st_mode))
		return not_a_kernel(boot, err, "it is not a regular file");
	*size = stat.st_size;
	if (fd_pread_all(boot->kernel_fd, header, sizeof(*header), HEADER_OFFSET))
		return not_a_kernel(boot, err, "it is too short to have a boot header");
	if (header->boot_flag != BOOT_FLAG || header->header != SETUP_MAGIC)
		return not_a_kernel(boot, err, "the boot header's signature is missing");
	/* The header's length is in the jump over it; what lies behind is code. */
	length = JUMP_END - HEADER_OFFSET + (header->jump >> 8);
	if (length < sizeof(*header))
		memset((char *)header + length, 0, sizeof(*header) - length);
	if (header->version < PROTOCOL_2_12 || !(header->xloadflags & XLF_KERNEL_64))
		return not_a_kernel(boot, err, "it has no 64-bit entry point");
	if (!(header->loadflags & LOADED_HIGH))
		return not_a_kernel(boot, err, "it is a zImage");
	return 0;
}

/* The protected-mode part of the file: from offset on, size bytes. */
static int find_image(const struct boot_files *boot, const struct setup_header *header,
	uint64_t file_size, uint64_t *offset, uint64_t *size, struct error *err)
{
	uint64_t stated = (uint64_t)header->syssize * 16;

	*offset = ((header->setup_sects ? header->setup_sects : 4) + 1ULL) * SECTOR;
	if (*offset >= file_size)
		return not_a_kernel(boot, err, "the file is truncated");
	*size = file_size - *offset;
	/* The size is counted in paragraphs; the file may end a little before the last one does. */
	if (stated > *size + 15 || stated < ENTRY_64 + 16) {
		error_set(err, -ENOEXEC, boot->kernel_name,
			"is truncated: its header states %llu bytes, %llu are there",
			(unsigned long long)(*offset + stated), (unsigned long long)file_size);
		error_hint(err, "copy the kernel again");
		return -ENOEXEC;
	}
	*size = min_u64(*size, stated);
	return 0;
}

/* Where to load: the preferred address, so that the kernel need not move itself. */
static int load_kernel(struct memory *memory, const struct boot_files *boot,
	const struct setup_header *header, uint64_t file_size, uint64_t *start, uint64_t *end,
	struct error *err)
{
	uint64_t offset, size, needed;
	char text[24];
	void *at;

	if (find_image(boot, header, file_size, &offset, &size, err))
		return err->code;
	*start = header->pref_address;
	needed = max_u64(size, header->init_size);
	if (*start < LAYOUT_1M || *start >= IDENTITY_MAPPED)
		return not_a_kernel(boot, err, "its preferred address is out of range");
	*end = *start + needed;
	at = memory_at(memory, *start, needed);
	if (!at) {
		error_set(err, -ENOSPC, boot->kernel_name,
			"needs %s of contiguous guest RAM to unpack itself",
			size_format(*end, text));
		error_hint(err, "give the guest more with --memory");
		return -ENOSPC;
	}
	if (memory_need(memory, *start, needed, err))
		return err->code;
	if (fd_pread_all(boot->kernel_fd, at, size, offset))
		return not_a_kernel(boot, err, "it cannot be read to its end");
	return 0;
}

/* 0: there is none. */
static int measure_initrd(const struct boot_files *boot, uint64_t *size, struct error *err)
{
	struct stat stat;

	*size = 0;
	if (boot->initrd_fd < 0)
		return 0;
	if (fstat(boot->initrd_fd, &stat) < 0)
		return error_sys(err, -errno, boot->initrd_name, "cannot be read");
	if (!S_ISREG(stat.st_mode) || stat.st_size == 0)
		return error_set(err, -EINVAL, boot->initrd_name,
			"is no initrd: it is empty or not a regular file");
	*size = stat.st_size;
	return 0;
}

/* As high as the kernel takes it, so that it is out of the way of what the kernel unpacks. */
static int load_initrd(struct memory *memory, const struct boot_files *boot,
	struct setup_header *header, uint64_t kernel_end, struct error *err)
{
	uint64_t limit = min_u64(memory->regions[0].size, (uint64_t)header->initrd_addr_max + 1);
	uint64_t size, gpa;
	char needed[24], there[24];

	if (measure_initrd(boot, &size, err) || !size)
		return err->code;
	gpa = size <= limit ? align_down(limit - size, 4 * KIB) : 0;
	if (gpa < kernel_end) {
		error_set(err, -ENOSPC, boot->initrd_name,
			"does not fit into the guest's memory: it has %s, and %s are free above the kernel",
			size_format(size, needed),
			size_format(limit > kernel_end ? limit - kernel_end : 0, there));
		error_hint(err, "give the guest more with --memory");
		return -ENOSPC;
	}
	if (memory_need(memory, gpa, size, err))
		return err->code;
	if (fd_pread_all(boot->initrd_fd, memory_at(memory, gpa, size), size, 0))
		return error_set(err, -EIO, boot->initrd_name, "cannot be read to its end");
	header->ramdisk_image = gpa;
	header->ramdisk_size = size;
	return 0;
}

static int write_cmdline(const struct memory *memory, const struct boot_files *boot,
	struct setup_header *header, struct error *err)
{
	size_t size = strlen(boot->cmdline) + 1;

	if (size - 1 > header->cmdline_size || size > CMDLINE_MAX)
		return error_set(err, -E2BIG, NULL,
			"the guest's command line has %zu bytes; its kernel takes %u", size - 1,
			header->cmdline_size);
	memcpy(memory_at(memory, CMDLINE, size), boot->cmdline, size);
	header->cmd_line_ptr = CMDLINE;
	return 0;
}

static void fill_e820(struct boot_params *params, const struct memory_map *map)
{
	params->e820_entries = map->count;
	for (unsigned i = 0; i < map->count; i++)
		params->e820_table[i] = (struct boot_e820_entry){
			map->ranges[i].base,
			map->ranges[i].size,
			map->ranges[i].type,
		};
}

/* Identity-map the first 4 GiB by 2 MiB pages; the kernel makes its own tables at once. */
static void write_page_tables(const struct memory *memory)
{
	uint64_t *table = memory_at(memory, PAGE_TABLE, 6 * 4096);

	memset(table, 0, 6 * 4096);
	table[0] = (PAGE_TABLE + 4096) | PTE_PRESENT | PTE_WRITE;
	for (unsigned i = 0; i < 4; i++)
		table[512 + i] = (PAGE_TABLE + (2 + i) * 4096) | PTE_PRESENT | PTE_WRITE;
	for (unsigned i = 0; i < 4 * 512; i++)
		table[1024 + i] = i * 2 * MIB | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
}

/*
 * Where a PC starts, and so where a system jumps that knows no better way to restart (Linux does on a
 * hardware-reduced platform without UEFI): mov dx, 0xcf9; mov al, 6; out dx, al; hlt.
 */
static void write_reset_vector(const struct memory *memory)
{
	static const uint8_t code[] = { 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4 };

	memcpy(memory_at(memory, LAYOUT_RESET_VECTOR, sizeof(code)), code, sizeof(code));
}

int linux_load(struct memory *memory, const struct boot_files *boot, const struct memory_map *map,
	uint64_t rsdp, struct linux_entry *entry, struct error *err)
{
	struct boot_params *params = memory_at(memory, ZERO_PAGE, sizeof(*params));
	struct setup_header header;
	uint64_t file_size = 0, start = 0, end = 0;

	if (!memory_at(memory, 0, LAYOUT_1M))
		return error_set(err, -ENOSPC, NULL, "a guest needs at least 2 MiB of memory");
	if (memory_need(memory, 0, LAYOUT_1M, err) || read_header(boot, &header, &file_size, err) ||
		load_kernel(memory, boot, &header, file_size, &start, &end, err) ||
		load_initrd(memory, boot, &header, end, err) ||
		write_cmdline(memory, boot, &header, err))
		return err->code;
	header.type_of_loader = LOADER_UNKNOWN;
	memset(params, 0, sizeof(*params));
	params->hdr = header;
	params->acpi_rsdp_addr = rsdp;
	fill_e820(params, map);
	write_page_tables(memory);
	write_reset_vector(memory);
	memcpy(memory_at(memory, GDT_AT, sizeof(kvm_vcpu_gdt)), kvm_vcpu_gdt, sizeof(kvm_vcpu_gdt));
	*entry = (struct linux_entry){
		.cr3 = PAGE_TABLE,
		.gdt = GDT_AT,
		.rip = start + ENTRY_64,
		.rsi = ZERO_PAGE,
	};
	return 0;
}

int linux_measure(const struct boot_files *boot, uint64_t *setup, uint64_t *size, uint64_t *initrd,
	struct error *err)
{
	struct setup_header header;
	uint64_t image;

	if (read_header(boot, &header, size, err) ||
		find_image(boot, &header, *size, setup, &image, err) ||
		measure_initrd(boot, initrd, err))
		return err->code;
	/* Firmware is told sizes of 32 bits. */
	if (*size > UINT32_MAX || *initrd > UINT32_MAX)
		return error_set(err, -EFBIG,
			*size > UINT32_MAX ? boot->kernel_name : boot->initrd_name,
			"is too large for firmware: 4 GiB or more");
	return 0;
}
