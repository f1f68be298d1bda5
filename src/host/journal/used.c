/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/journal/used.h"

#include "base/text.h"
#include "host/journal/entry.h"
#include "host/journal/names.h"

#include <stdio.h>
#include <string.h>

#define USED "used"

bool host_used_by(const struct host *host, const struct bdf *bdf, char name[static HOST_NAME])
{
	char text[JOURNAL_ENTRY_SIZE], address[BDF_TEXT];
	struct error ignored = { 0 };
	ssize_t got = journal_read_entry(host, USED, bdf_format(bdf, address), text);

	if (got <= 0 || text[got - 1] != '\n')
		return false;
	text[got - 1] = '\0';
	if (host_name_check(text, &ignored))
		return false;
	text_format(name, HOST_NAME, "%s", text);
	return true;
}

int host_used_note(const struct host *host, const struct bdf *bdf, const char *name)
{
	char text[HOST_NAME + 1], address[BDF_TEXT];

	snprintf(text, sizeof(text), "%s\n", name);
	return journal_replace_entry(host, USED, bdf_format(bdf, address), text);
}
