/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "display/picture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_WIDTH  640
#define FIRST_HEIGHT 480

/* A tile is what is compared, and sent, at once. */
#define TILE_WIDTH  64U
#define TILE_HEIGHT 16U

static const struct display_shared *shared_of(const struct picture *picture)
{
	return (const struct display_shared *)(picture->memory + DISPLAY_MEMORY);
}

static int make_black(struct picture *picture, uint32_t width, uint32_t height)
{
	uint32_t *pixels = calloc((size_t)width * height, sizeof(*pixels));

	if (!pixels)
		return -ENOMEM;
	free(picture->pixels);
	picture->pixels = pixels;
	picture->width = width;
	picture->height = height;
	return 0;
}

int picture_init(struct picture *picture, const void *memory)
{
	*picture = (struct picture){ .memory = memory };
	return make_black(picture, FIRST_WIDTH, FIRST_HEIGHT);
}

void picture_destroy(struct picture *picture)
{
	free(picture->pixels);
}

int picture_fit(struct picture *picture)
{
	struct display_mode mode = display_mode_look(shared_of(picture));
	int code;

	if (!mode.width || (mode.width == picture->width && mode.height == picture->height)) {
		picture->mode = mode;
		return 0;
	}
	code = make_black(picture, mode.width, mode.height);
	picture->mode = code ? (struct display_mode){ 0 } : mode;
	return code ? code : 1;
}

/* Of a row of the guest's; NULL: nothing is shown. */
static const uint8_t *row_of(const struct picture *picture, uint32_t row)
{
	return picture->mode.width
		       ? picture->memory + picture->mode.offset + (size_t)row * picture->mode.stride
		       : NULL;
}

static bool copy_part(struct picture *picture, uint32_t row, uint32_t left, uint32_t width)
{
	static const uint32_t black[TILE_WIDTH];
	uint32_t *to = picture->pixels + (size_t)row * picture->width + left;
	const uint8_t *guests = row_of(picture, row),
		      *from = guests ? guests + left * sizeof(*to) : (const uint8_t *)black;

	if (memcmp(to, from, width * sizeof(*to)) == 0)
		return false;
	memcpy(to, from, width * sizeof(*to));
	return true;
}

static bool copy_tile(struct picture *picture, uint32_t left, uint32_t top)
{
	uint32_t width = min_u64(TILE_WIDTH, picture->width - left);
	uint32_t bottom = min_u64(top + TILE_HEIGHT, picture->height);
	bool copied = false;

	for (uint32_t row = top; row < bottom; row++)
		copied |= copy_part(picture, row, left, width);
	return copied;
}

bool picture_update(struct picture *picture,
	void (*changed)(void *opaque, int left, int top, int right, int bottom), void *opaque)
{
	bool any = false;

	for (uint32_t top = 0; top < picture->height; top += TILE_HEIGHT) {
		uint32_t bottom = min_u64(top + TILE_HEIGHT, picture->height);
		uint32_t first = 0, left = 0;
		bool open = false;

		/* Tiles side by side are one rectangle. */
		for (; left < picture->width; left += TILE_WIDTH) {
			bool copied = copy_tile(picture, left, top);

			if (copied && !open)
				first = left;
			if (!copied && open)
				changed(opaque, first, top, left, bottom);
			open = copied;
			any |= copied;
		}
		if (open)
			changed(opaque, first, top, picture->width, bottom);
	}
	return any;
}
