/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cpulist.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

static int parse_cpu(const char **text, unsigned long *number)
{
	char *end;

	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	*number = strtoul(*text, &end, 10);
	*text = end;
	return *number < CPULIST_MAX ? 0 : -ERANGE;
}

/* "3" or "0-3"; *text goes behind it. */
static int parse_range(const char **text, unsigned long *first, unsigned long *last)
{
	int code = parse_cpu(text, first);

	*last = *first;
	if (code || **text != '-')
		return code;
	++*text;
	code = parse_cpu(text, last);
	return code || *last >= *first ? code : -EINVAL;
}

int cpulist_parse(const char *text, char separator, uint16_t *list, unsigned room)
{
	unsigned count = 0;

	for (;; text++) {
		unsigned long first, last;
		int code = parse_range(&text, &first, &last);

		if (code)
			return code;
		for (; first <= last; first++) {
			if (count == room)
				return -ERANGE;
			list[count++] = first;
		}
		if (*text != separator)
			return *text ? -EINVAL : (int)count;
	}
}
