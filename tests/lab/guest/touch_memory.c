// SPDX-License-Identifier: GPL-2.0-or-later
/* touch-memory PERCENT: writes to every page of so much of the free memory, then verifies it. */
#include "lab.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static uint64_t available(void)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "r");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	}
	if (!kib)
		fail("/proc/meminfo does not tell what is available");
	fclose(file);
	return kib << 10;
}

int touch_memory_main(int argc, char **argv)
{
	double start = seconds();
	uint64_t size, highest = 0;
	char *memory;

	if (argc != 2)
		fail("usage: touch-memory PERCENT");
	size = available() / 100 * number(argv[1]) / PAGE * PAGE;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail_errno("mmap of %llu MiB", (unsigned long long)size >> 20);
	madvise(memory, size, MADV_HUGEPAGE);
	for (uint64_t at = 0; at < size; at += PAGE) {
		*(uint64_t *)(memory + at) = at ^ 0x5a5a5a5a5a5a5a5a;
		*(uint64_t *)(memory + at + PAGE - 8) = ~at;
	}
	for (uint64_t at = 0; at < size; at += PAGE) {
		if (*(uint64_t *)(memory + at) != (at ^ 0x5a5a5a5a5a5a5a5a) ||
			*(uint64_t *)(memory + at + PAGE - 8) != ~at)
			fail("page %llu does not hold what was written",
				(unsigned long long)at / PAGE);
	}
	for (uint64_t at = 0; at < size; at += 64 * PAGE) {
		uint64_t address = physical(memory + at);

		highest = address > highest ? address : highest;
	}
	printf("touch-memory: %llu MiB in %.1f s, up to address %#llx\n",
		(unsigned long long)size >> 20, seconds() - start, (unsigned long long)highest);
	return 0;
}
