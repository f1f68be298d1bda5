/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "display/png.h"

#include "base/fd.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>

/* PNG (ISO/IEC 15948): a signature, and three chunks, of which zlib makes the one that counts. */

#define BITS_A_SAMPLE 8
#define COLOUR_RGB    2
#define SAMPLES       3

static int write_chunk(int fd, const char type[4], const void *bytes, uint32_t size)
{
	uint32_t length = htobe32(size), sum;
	int code = fd_write_all(fd, &length, sizeof(length));

	sum = htobe32(crc32(crc32(0, (const Bytef *)type, 4), bytes, size));
	if (!code)
		code = fd_write_all(fd, type, 4);
	if (!code)
		code = fd_write_all(fd, bytes, size);
	return code ? code : fd_write_all(fd, &sum, sizeof(sum));
}

static int write_head(int fd, const struct picture *picture)
{
	static const uint8_t signature[] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
	struct {
		uint32_t width, height;
		uint8_t bits, colour, compression, filter, interlace;
	} __attribute__((packed)) head = {
		.width = htobe32(picture->width),
		.height = htobe32(picture->height),
		.bits = BITS_A_SAMPLE,
		.colour = COLOUR_RGB,
	};
	int code = fd_write_all(fd, signature, sizeof(signature));

	return code ? code : write_chunk(fd, "IHDR", &head, sizeof(head));
}

/* Each row behind a byte that says which filter it has gone through: none. */
static uint8_t *make_rows(const struct picture *picture, size_t *size)
{
	size_t row = 1 + (size_t)picture->width * SAMPLES;
	uint8_t *rows, *to;

	*size = row * picture->height;
	rows = to = malloc(*size);
	if (!rows)
		return NULL;
	for (size_t i = 0; i < (size_t)picture->width * picture->height; i++) {
		uint32_t pixel = picture->pixels[i];

		if (i % picture->width == 0)
			*to++ = 0;
		*to++ = pixel >> 16;
		*to++ = pixel >> 8;
		*to++ = pixel;
	}
	return rows;
}

int png_write(const struct picture *picture, int fd)
{
	cleanup_free uint8_t *rows = NULL, *packed = NULL;
	uLongf packed_size;
	size_t size;
	int code;

	if (!picture->mode.width)
		return -ENODATA;
	rows = make_rows(picture, &size);
	packed_size = compressBound(size);
	packed = malloc(packed_size);
	if (!rows || !packed || compress2(packed, &packed_size, rows, size, Z_BEST_SPEED) != Z_OK)
		return -ENOMEM;
	code = write_head(fd, picture);
	if (!code)
		code = write_chunk(fd, "IDAT", packed, packed_size);
	return code ? code : write_chunk(fd, "IEND", "", 0);
}
