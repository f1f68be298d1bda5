/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile kernel file: a boot header, made good where the input says so, and the rest as the input
 * has it; with an initrd of any length. What is loaded must be where the guest will look for it.
 */
#include "base/fd.h"
#include "base/size.h"
#include "fuzz.h"
#include "machine/boot/linux.h"
#include "machine/layout.h"

#include <asm/bootparam.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEADER_AT 0x1f1
#define ZERO_PAGE 0x7000 /* where the entry's rsi points */

enum { LOADED, INITRDS, REFUSED };

struct fuzz_goal fuzz_goals[] = {
	[LOADED] = { "kernels loaded", 100, 0 },
	[INITRDS] = { "initrds loaded", 200, 0 },
	[REFUSED] = { "files refused", 50, 0 },
	{ 0 },
};

static uint8_t file[64 * KIB];

static struct setup_header *header_of(void)
{
	return (struct setup_header *)(file + HEADER_AT);
}

static void sign(void)
{
	struct setup_header *header = header_of();

	header->boot_flag = 0xaa55;
	header->header = 0x53726448;
	header->version |= 0x020f;
	header->loadflags |= LOADED_HIGH;
	header->xloadflags |= XLF_KERNEL_64;
}

/* Sizes that are those of the file, for a guest that is large enough. */
static void fit(size_t length)
{
	struct setup_header *header = header_of();

	header->setup_sects %= 32;
	header->syssize = (length - min_u64(length, (header->setup_sects + 1ULL) * 512)) / 16;
	header->pref_address = header->pref_address % 8 * 2 * MIB;
	header->init_size %= 8 * MIB;
	header->cmdline_size |= 255;
}

static int make_file(const char *name, const void *data, size_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	fuzz_check(fd >= 0 && fd_write_all(fd, data, size) == 0);
	return fd;
}

static void check_e820(const struct memory *memory, const struct boot_params *params)
{
	uint64_t end = 0;

	fuzz_check(params->e820_entries && params->e820_entries <= E820_MAX_ENTRIES_ZEROPAGE);
	for (unsigned i = 0; i < params->e820_entries; i++) {
		const struct boot_e820_entry *entry = &params->e820_table[i];

		fuzz_check(entry->size && entry->addr >= end);
		end = entry->addr + entry->size;
		if (entry->type == 1)
			fuzz_check(memory_at(memory, entry->addr, entry->size));
	}
}

static void check_loaded(const struct memory *memory, const struct linux_entry *entry,
	size_t length, size_t initrd_size)
{
	const struct boot_params *params = memory_at(memory, entry->rsi, sizeof(*params));
	const struct setup_header *header = &params->hdr;
	uint64_t offset = ((header->setup_sects ? header->setup_sects : 4) + 1ULL) * 512;
	uint64_t size = min_u64(header->syssize * 16ULL, length - offset);
	uint64_t start = header->pref_address;
	const char *image = memory_at(memory, start, max_u64(size, header->init_size));

	fuzz_check(entry->rsi == ZERO_PAGE && entry->rip == start + 0x200);
	fuzz_check(image && memcmp(image, file + offset, size) == 0);
	fuzz_check(strcmp(memory_at(memory, header->cmd_line_ptr, 64), "console=ttyS0") == 0);
	check_e820(memory, params);
	fuzz_goals[LOADED].count++;
	if (!initrd_size)
		return;
	fuzz_check(header->ramdisk_size == initrd_size);
	fuzz_check(memory_at(memory, header->ramdisk_image, initrd_size));
	fuzz_check(header->ramdisk_image >= start + max_u64(size, header->init_size));
	fuzz_check(header->ramdisk_image + initrd_size - 1 <= header->initrd_addr_max);
	fuzz_check(!memcmp(memory_at(memory, header->ramdisk_image, 1), "I", 1));
	fuzz_goals[INITRDS].count++;
}

static size_t make_initrd(struct fuzz_input *input, int *fd)
{
	uint8_t how = fuzz_byte(input);
	uint64_t size = fuzz_number(input, 3);

	*fd = -1;
	if (!(how & 1) || !size)
		return 0;
	/* A long one has nothing but its length. */
	*fd = make_file("initrd", "I", 1);
	fuzz_check(ftruncate(*fd, how & 2 ? size : size % (64 * KIB) + 1) == 0);
	return how & 2 ? size : size % (64 * KIB) + 1;
}

/* Nobody needs all that a kernel says that it needs; to clear it would take most of the time. */
int __wrap_madvise(void *at, size_t size, int advice);
int __wrap_madvise(void *at, size_t size, int advice)
{
	(void)at;
	(void)size;
	(void)advice;
	return 0;
}

void fuzz_one(struct fuzz_input *input)
{
	unsigned before = fuzz_descriptors();
	uint64_t ram = (fuzz_byte(input) + 1) * 2 * MIB;
	uint8_t how = fuzz_byte(input);
	struct boot_files boot = {
		.kernel_name = "kernel",
		.initrd_name = "initrd",
		.cmdline = "console=ttyS0",
	};
	size_t initrd_size = make_initrd(input, &boot.initrd_fd);
	size_t length = min_u64(fuzz_number(input, 2) + input->size, sizeof(file));
	struct linux_entry entry;
	struct memory memory;
	struct memory_map map;
	struct error err = { 0 };

	fuzz_bytes(input, file, sizeof(file));
	if (how % 4)
		sign();
	if (how & 4)
		fit(length);
	boot.kernel_fd = make_file("kernel", file, length);
	fuzz_check(memory_place(&memory, ram, MEMORY_PAGE, NULL, 0, &err) == 0);
	fuzz_check(memory_map(&memory, memory_file(memory.size, 0), MEMORY_HUGE, &err) == 0);
	memory_map_for_kernel(&map, &memory, 3 * MIB);
	if (linux_load(&memory, &boot, &map, LAYOUT_ACPI, &entry, &err) == 0) {
		check_loaded(&memory, &entry, length, initrd_size);
	} else {
		fuzz_check(err.code && err.what[0]);
		fuzz_goals[REFUSED].count++;
	}
	memory_free(&memory);
	close(boot.kernel_fd);
	if (boot.initrd_fd >= 0)
		close(boot.initrd_fd);
	fuzz_check(fuzz_descriptors() == before);
}
