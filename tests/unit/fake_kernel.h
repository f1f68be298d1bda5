/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <asm/bootparam.h>
#include <stddef.h>
#include <stdint.h>

/* The smallest bzImage: a boot sector, one setup sector, and 64-bit code at its entry point. */
#define FAKE_KERNEL_IMAGE 1024 /* offset in the file of the part that runs */
#define FAKE_KERNEL_ENTRY 0x200
#define FAKE_KERNEL_CODE  1024 /* bytes of code, the most */
#define FAKE_KERNEL_SIZE  (FAKE_KERNEL_IMAGE + FAKE_KERNEL_ENTRY + FAKE_KERNEL_CODE)
#define FAKE_KERNEL_AT    0x1000000 /* where it wants to be loaded */

struct fake_kernel {
	uint8_t bytes[FAKE_KERNEL_SIZE];
	size_t size; /* of the file; less than bytes[] has for a truncated one */
};

/* Code of size bytes; none is fine where it never runs. */
void fake_kernel_make(struct fake_kernel *kernel, const void *code, size_t size);
struct setup_header *fake_kernel_header(struct fake_kernel *kernel);

/* As a file without a name, or with one that mkstemp(3) makes. A descriptor. */
int fake_kernel_open(const struct fake_kernel *kernel);
int fake_kernel_save(const struct fake_kernel *kernel, char *path);
