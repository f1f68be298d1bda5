/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/display_mode.h"

#define TRIES 100

#define BYTES_A_PIXEL 4

bool display_mode_is_sound(const struct display_mode *mode)
{
	uint64_t row = (uint64_t)mode->width * BYTES_A_PIXEL;

	if (!mode->width || !mode->height)
		return !mode->width && !mode->height;
	return mode->width <= DISPLAY_SIDE_MAX && mode->height <= DISPLAY_SIDE_MAX &&
	       mode->stride >= row &&
	       mode->offset + (mode->height - 1ULL) * mode->stride + row <= DISPLAY_MEMORY;
}

static void store_field(uint32_t *at, uint32_t value)
{
	__atomic_store_n(at, value, __ATOMIC_RELAXED);
}

static uint32_t load_field(const uint32_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

void display_mode_tell(struct display_shared *shared, const struct display_mode *mode)
{
	uint32_t sequence = load_field(&shared->sequence) | 1;

	store_field(&shared->sequence, sequence);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	store_field(&shared->mode.width, mode->width);
	store_field(&shared->mode.height, mode->height);
	store_field(&shared->mode.stride, mode->stride);
	store_field(&shared->mode.offset, mode->offset);
	__atomic_store_n(&shared->sequence, sequence + 1, __ATOMIC_RELEASE);
}

struct display_mode display_mode_look(const struct display_shared *shared)
{
	for (unsigned i = 0; i < TRIES; i++) {
		uint32_t before = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE);
		struct display_mode mode = {
			.width = load_field(&shared->mode.width),
			.height = load_field(&shared->mode.height),
			.stride = load_field(&shared->mode.stride),
			.offset = load_field(&shared->mode.offset),
		};

		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (!(before & 1) && load_field(&shared->sequence) == before &&
			display_mode_is_sound(&mode))
			return mode;
	}
	return (struct display_mode){ 0 };
}
