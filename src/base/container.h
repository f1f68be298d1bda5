/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The structure that has what pointer points to as its member. */
#define container_of(pointer, type, member)                                    \
	({                                                                     \
		const __typeof__(((type *)0)->member) *member_ = (pointer);    \
		(type *)((char *)(uintptr_t)member_ - offsetof(type, member)); \
	})
