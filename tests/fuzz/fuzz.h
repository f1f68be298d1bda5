/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What every fuzzer has: see README.md. */

/* What is left of a fuzzer's input; zeros follow its end. */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

void fuzz_bytes(struct fuzz_input *input, void *bytes, size_t size);
uint8_t fuzz_byte(struct fuzz_input *input);
uint64_t fuzz_number(struct fuzz_input *input, unsigned bytes);

/*
 * What a fuzzer is for, counted as it comes about. At the end of a run each must have been reached, and
 * by one input in so many or more; the process fails otherwise.
 */
struct fuzz_goal {
	const char *name;
	unsigned one_in; /* inputs */
	unsigned long count;
};

/* Each fuzzer's own: the goals, up to a name of NULL, and the test of one input. */
extern struct fuzz_goal fuzz_goals[];
void fuzz_one(struct fuzz_input *input);

/* For what must hold whatever the input is. */
#define fuzz_check(holds) ((holds) ? (void)0 : fuzz_fail(#holds, __FILE__, __LINE__))
_Noreturn void fuzz_fail(const char *what, const char *file, int line);

/* Descriptors that this process has open. */
unsigned fuzz_descriptors(void);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
