/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mapped.h"
#include "base/size.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

#define SIZE (1 << 20)
#define PAGE 4096

static const char constants[SIZE] = { [0] = 'a', [SIZE / 2] = 'b', [SIZE - 1] = 'c' };
static char written[PAGE] = "as it was";

/* KiB that are mapped of what is there at address. */
static unsigned long resident(const void *address)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end, size, found = 0;
	bool inside = false;
	char line[256];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (unsigned long)address && (unsigned long)address < end;
		else if (inside && sscanf(line, "Rss: %lu kB", &size) == 1)
			found = size;
	}
	fclose(file);
	return found;
}

TEST(what_is_not_used_again_is_not_there)
{
	const volatile char *each = constants;
	unsigned sum = 0;

	strcpy(written, "as it is");
	for (size_t i = 0; i < SIZE; i += PAGE)
		sum += each[i];
	assert_in_range(resident(constants), SIZE / 1024, SIZE / 1024 + 1024);
	mapped_let_go();
	assert_in_range(resident(constants), 0, 256);
	for (size_t i = 0; i < SIZE; i += PAGE)
		sum -= each[i];
	assert_int_equal(sum, 0);
	assert_int_equal(each[SIZE - 1], 'c');
	assert_string_equal(written, "as it is");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_used_again_is_not_there),
	};

	return test_run(tests);
}
