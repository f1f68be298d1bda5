/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FEW_INPUTS 4 /* a look at single inputs is no run */

static unsigned long inputs;

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

/* To both: libFuzzer may have closed the latter, and the former is where the runner looks. */
void fuzz_fail(const char *what, const char *file, int line)
{
	printf("%s:%d: does not hold: %s\n", file, line, what);
	fflush(stdout);
	abort();
}

unsigned fuzz_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	while (directory && readdir(directory))
		count++;
	if (directory)
		closedir(directory);
	return count;
}

static bool is_met(const struct fuzz_goal *goal)
{
	return inputs <= FEW_INPUTS || (goal->count && goal->count >= inputs / goal->one_in);
}

/* libFuzzer ends by exit(), and without this where it has found something. */
__attribute__((destructor)) static void judge(void)
{
	bool all_met = true;

	if (!inputs)
		return;
	printf("reached in %lu inputs:", inputs);
	for (const struct fuzz_goal *goal = fuzz_goals; goal->name; goal++) {
		printf("%s %lu %s", goal == fuzz_goals ? "" : ",", goal->count, goal->name);
		if (is_met(goal))
			continue;
		printf(" (TOO FEW: one in %u inputs is the least)", goal->one_in);
		all_met = false;
	}
	printf("\n");
	fflush(stdout);
	if (!all_met)
		_exit(1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, size };

	inputs++;
	fuzz_one(&input);
	return 0;
}
