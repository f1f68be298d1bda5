/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/hash.h"

uint64_t hash_text(uint64_t seed, const char *text)
{
	uint64_t value = 0xcbf29ce484222325 ^ seed;

	for (; *text; text++)
		value = (value ^ (uint8_t)*text) * 0x100000001b3;
	return (value ^ value >> 32) * 0x100000001b3;
}
