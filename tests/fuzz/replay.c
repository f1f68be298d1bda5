/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fuzz target without a fuzzer: runs the inputs in the files and directories that are named. */
#include "fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned replayed;

static void fail(const char *path)
{
	perror(path);
	exit(1);
}

static void replay_file(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *file = fopen(path, "r");
	uint8_t *copy;
	size_t size;

	if (!file)
		fail(path);
	size = fread(data, 1, sizeof(data), file);
	fclose(file);
	copy = malloc(size); /* of its exact size, as from libFuzzer: a read behind its end shows */
	for (size_t i = 0; i < size; i++)
		copy[i] = data[i];
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	replayed++;
}

static void replay(const char *path)
{
	struct dirent **entries;
	int count = scandir(path, &entries, NULL, alphasort);

	if (count < 0) {
		replay_file(path);
		return;
	}
	for (int i = 0; i < count; i++) {
		char name[PATH_MAX];

		snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			replay_file(name);
		free(entries[i]);
	}
	free(entries);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	if (!replayed)
		fprintf(stderr, "%s: no input to run\n", argv[0]);
	return !replayed;
}
