/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <linux/vfio.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The capability of a kind in size bytes of what VFIO tells about something, whose chain of them
 * starts at offset first; NULL: there is none of at least least bytes. *room: bytes from its start to
 * the end.
 */
const void *vfio_capability(
	const void *info, size_t size, uint32_t first, uint16_t id, size_t least, size_t *room);
