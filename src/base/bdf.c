/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/bdf.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* One hexadecimal field of 1 to digits digits, up to and including max. */
static int parse_field(const char **at, int digits, uint32_t max, uint32_t *value)
{
	const char *start = *at;

	*value = 0;
	while (isxdigit((unsigned char)**at) && *at - start < digits) {
		int c = tolower((unsigned char)**at);

		*value = *value << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
		(*at)++;
	}
	return *at == start || *value > max ? -EINVAL : 0;
}

static int parse_char(const char **at, char wanted)
{
	if (**at != wanted)
		return -EINVAL;
	(*at)++;
	return 0;
}

static int parse_short(const char *at, struct bdf *bdf)
{
	uint32_t bus, device, function;

	if (parse_field(&at, 2, 0xff, &bus) || parse_char(&at, ':') ||
		parse_field(&at, 2, 0x1f, &device) || parse_char(&at, '.') ||
		parse_field(&at, 1, 7, &function) || *at)
		return -EINVAL;
	bdf->bus = bus;
	bdf->device = device;
	bdf->function = function;
	return 0;
}

int bdf_parse(const char *text, struct bdf *bdf)
{
	const char *at = text;
	uint32_t domain;

	*bdf = (struct bdf){ 0 };
	if (parse_short(text, bdf) == 0)
		return 0;
	if (parse_field(&at, 8, UINT32_MAX, &domain) || parse_char(&at, ':'))
		return -EINVAL;
	bdf->domain = domain;
	return parse_short(at, bdf);
}

char *bdf_format(const struct bdf *bdf, char *buffer)
{
	snprintf(buffer, BDF_TEXT, "%04x:%02x:%02x.%x", bdf->domain, bdf->bus, bdf->device,
		bdf->function);
	return buffer;
}

bool bdf_same_slot(const struct bdf *a, const struct bdf *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device;
}

bool bdf_equal(const struct bdf *a, const struct bdf *b)
{
	return bdf_same_slot(a, b) && a->function == b->function;
}

int bdf_compare(const void *a, const void *b)
{
	const struct bdf *x = a, *y = b;

	if (x->domain != y->domain)
		return x->domain < y->domain ? -1 : 1;
	return (x->bus << 8 | x->device << 3 | x->function) -
	       (y->bus << 8 | y->device << 3 | y->function);
}
