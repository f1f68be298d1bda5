/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vfio/capability.h"

const void *vfio_capability(
	const void *info, size_t size, uint32_t first, uint16_t id, size_t least, size_t *room)
{
	size_t at = first;

	while (at && at % 8 == 0 && at + sizeof(struct vfio_info_cap_header) <= size) {
		const struct vfio_info_cap_header *header = (const void *)((const char *)info + at);

		*room = size - at;
		if (header->id == id)
			return *room >= least ? header : NULL;
		if (header->next <= at) /* the kernel appends, so a chain goes forwards */
			return NULL;
		at = header->next;
	}
	return NULL;
}
