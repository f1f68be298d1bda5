/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuzz.h"

#include <string.h>

void fuzz_bytes(struct fuzz_input *input, void *bytes, size_t size)
{
	size_t there = size < input->size ? size : input->size;

	memset(bytes, 0, size);
	memcpy(bytes, input->data, there);
	input->data += there;
	input->size -= there;
}

uint8_t fuzz_byte(struct fuzz_input *input)
{
	uint8_t byte;

	fuzz_bytes(input, &byte, 1);
	return byte;
}

uint64_t fuzz_number(struct fuzz_input *input, unsigned bytes)
{
	uint64_t number = 0;

	fuzz_bytes(input, &number, bytes);
	return number;
}
