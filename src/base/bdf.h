/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A PCI address on the host, "0000:01:00.0": domain, bus, device, function. */
struct bdf {
	uint32_t domain; /* 16 bits in hardware; Linux also makes up 32-bit ones (VMD) */
	uint8_t bus;
	uint8_t device;   /* 0 to 31 */
	uint8_t function; /* 0 to 7 */
};

#define BDF_TEXT 24 /* bytes that hold any formatted address */

/*
 * Parse "DDDD:BB:DD.F" or "BB:DD.F" (domain 0000), hexadecimal. The whole text must be the address.
 * 0 or -EINVAL.
 */
int bdf_parse(const char *text, struct bdf *bdf);

/* Write the full form into a buffer of BDF_TEXT bytes; returns it. */
char *bdf_format(const struct bdf *bdf, char *buffer);

bool bdf_equal(const struct bdf *a, const struct bdf *b);
/* Functions of one device. */
bool bdf_same_slot(const struct bdf *a, const struct bdf *b);

/* For qsort(3), of struct bdf: in the order of addresses. */
int bdf_compare(const void *a, const void *b);
