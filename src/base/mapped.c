/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mapped.h"

#include "base/size.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

static int unmap_constants(struct dl_phdr_info *info, size_t size, void *opaque)
{
	uintptr_t page = sysconf(_SC_PAGESIZE);

	(void)size;
	(void)opaque;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + segment->p_vaddr;
		uintptr_t first = align_down(start, page);

		/* What may be written has been: its pages are in no file. */
		if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_W))
			(void)!madvise(
				(void *)first, start + segment->p_memsz - first, MADV_DONTNEED);
	}
	return 0;
}

void mapped_let_go(void)
{
	dl_iterate_phdr(unmap_constants, NULL);
}
