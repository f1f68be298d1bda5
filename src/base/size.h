/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* Powers of two only. */
static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
	return value & ~(alignment - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return align_down(value + alignment - 1, alignment);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* An access of size bytes at an offset lies whole in [start, start + length). */
static inline bool is_within(uint64_t offset, unsigned size, uint64_t start, uint64_t length)
{
	return offset >= start && offset + size <= start + length;
}

/*
 * Parse "512M", "4G", "1048576": a decimal count with an optional K, M, G or T (powers of 1024,
 * either case, an "iB" or "B" behind it allowed). A bare number counts bytes. 0 or -EINVAL, -ERANGE.
 */
int size_parse(const char *text, uint64_t *bytes);

/* Write a size for people, "512 MiB", "2.5 GiB", into a buffer of at least 24 bytes; returns it. */
char *size_format(uint64_t bytes, char *buffer);
