/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* What is left of a fuzzer's input; zeros follow its end. */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

void fuzz_bytes(struct fuzz_input *input, void *bytes, size_t size);
uint8_t fuzz_byte(struct fuzz_input *input);
uint64_t fuzz_number(struct fuzz_input *input, unsigned bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
