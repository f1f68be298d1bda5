/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hostile kernel file: a header with the right signatures, and the rest as the input has it. */
#include "base/fd.h"
#include "base/size.h"
#include "fuzz.h"
#include "machine/boot/linux.h"

#include <asm/bootparam.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEADER_AT 0x1f1

static void sign(uint8_t *file)
{
	struct setup_header *header = (struct setup_header *)(file + HEADER_AT);

	header->boot_flag = 0xaa55;
	header->header = 0x53726448;
	header->version |= 0x020f;
	header->loadflags |= LOADED_HIGH;
	header->xloadflags |= XLF_KERNEL_64;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[64 * KIB];
	struct fuzz_input input = { data, size };
	uint64_t ram = (fuzz_byte(&input) + 1) * 2 * MIB;
	bool signed_header = fuzz_byte(&input) % 4;
	size_t length = min_u64(fuzz_number(&input, 2) + input.size, sizeof(file));
	size_t initrd_size = fuzz_number(&input, 3);
	struct linux_boot boot = {
		.kernel_fd = memfd_create("kernel", MFD_CLOEXEC),
		.kernel_name = "kernel",
		.initrd_fd = initrd_size ? memfd_create("initrd", MFD_CLOEXEC) : -1,
		.initrd_name = "initrd",
		.cmdline = "console=ttyS0",
	};
	struct linux_entry entry;
	struct memory memory;
	struct error err = { 0 };

	fuzz_bytes(&input, file, sizeof(file));
	if (signed_header)
		sign(file);
	if (fd_write_all(boot.kernel_fd, file, length) ||
		(initrd_size && ftruncate(boot.initrd_fd, initrd_size)) ||
		memory_place(&memory, ram, NULL, 0, &err) ||
		memory_allocate(&memory, MEMORY_ANONYMOUS, &err))
		abort();
	if (linux_load(&memory, &boot, &entry, &err) == 0 &&
		!memory_at(&memory, entry.rip, 16)) /* what is entered must be there */
		abort();
	memory_free(&memory);
	close(boot.kernel_fd);
	if (initrd_size)
		close(boot.initrd_fd);
	return 0;
}
