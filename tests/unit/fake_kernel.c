/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake_kernel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEADER 0x1f1
#define JUMP   0x200 /* a two-byte jump over the rest of the header */

struct setup_header *fake_kernel_header(struct fake_kernel *kernel)
{
	return (struct setup_header *)(kernel->bytes + HEADER);
}

void fake_kernel_make(struct fake_kernel *kernel, const void *code, size_t size)
{
	struct setup_header *header = fake_kernel_header(kernel);

	memset(kernel, 0, sizeof(*kernel));
	kernel->size = sizeof(kernel->bytes);
	*header = (struct setup_header){
		.setup_sects = 1,
		.syssize = (FAKE_KERNEL_SIZE - FAKE_KERNEL_IMAGE) / 16,
		.boot_flag = 0xaa55,
		.jump = 0xeb | (HEADER + sizeof(*header) - JUMP - 2) << 8,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.xloadflags = XLF_KERNEL_64,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.cmdline_size = 2047,
		.pref_address = FAKE_KERNEL_AT,
		.init_size = 0x100000,
	};
	if (size)
		memcpy(kernel->bytes + FAKE_KERNEL_IMAGE + FAKE_KERNEL_ENTRY, code, size);
}

static int fill(int fd, const struct fake_kernel *kernel)
{
	if (fd >= 0 && write(fd, kernel->bytes, kernel->size) == (ssize_t)kernel->size)
		return fd;
	abort();
}

int fake_kernel_open(const struct fake_kernel *kernel)
{
	return fill(memfd_create("kernel", MFD_CLOEXEC), kernel);
}

int fake_kernel_save(const struct fake_kernel *kernel, char *path)
{
	return fill(mkstemp(path), kernel);
}
