/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/spelling.h"

#include "base/size.h"

#include <ctype.h>
#include <string.h>

/* By the rows of its matrix. */
unsigned spelling_distance(const char *word, const char *other)
{
	unsigned row[SPELLING_MAX + 1];
	size_t width = min_u64(strlen(other), SPELLING_MAX);

	for (size_t j = 0; j <= width; j++)
		row[j] = j;
	for (size_t i = 1; word[i - 1] && i <= SPELLING_MAX; i++) {
		unsigned corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= width; j++) {
			bool same = tolower((unsigned char)word[i - 1]) == other[j - 1];
			unsigned replaced = corner + !same;

			corner = row[j];
			row[j] = min_u64(replaced, min_u64(row[j - 1], row[j]) + 1);
		}
	}
	return row[width];
}
