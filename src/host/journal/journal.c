/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/journal/journal.h"

#include "base/fd.h"
#include "host/journal/entry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int host_journal_read(const struct host *host, const struct bdf *bdf, struct host_record *record,
	struct error *err)
{
	char text[JOURNAL_ENTRY_SIZE], name[BDF_TEXT], path[sizeof(host->run) + 64];
	ssize_t got;

	*record = (struct host_record){ 0 };
	got = journal_read_entry(host, "devices", bdf_format(bdf, name), text);
	if (got == -ENOENT)
		return got;
	if (got >= 0 && strlen(text) == (size_t)got && record_parse(text, record) &&
		bdf_equal(&record->bdf, bdf))
		return 0;
	*record = (struct host_record){ 0 };
	if (got < 0 && got != -ELOOP && got != -EISDIR)
		return journal_tell(host, got, "cannot read the journal", err);
	snprintf(path, sizeof(path), "%s/devices/%s", host->run, name);
	error_set(err, -EBADMSG, path,
		"the journal's record of this device is damaged, so its previous driver is unknown");
	error_hint(err,
		"'penstock release %s' gives the device to the driver that the kernel picks for it, and "
		"removes the record",
		name);
	return -EBADMSG;
}

int host_journal_write(const struct host *host, const struct host_record *record, struct error *err)
{
	char text[JOURNAL_ENTRY_SIZE], again[JOURNAL_ENTRY_SIZE], name[BDF_TEXT];
	struct host_record parsed;
	int code;

	/* A record that could not be read back, for a driver's odd name, must stop the change now.
	 */
	record_format(record, text);
	if (!record_parse(strcpy(again, text), &parsed))
		return error_set(err, -EINVAL, bdf_format(&record->bdf, name),
			"the name of its driver '%s' or its driver_override '%s' is not one that the "
			"journal can hold",
			record->driver, record->override);
	code = journal_replace_entry(host, "devices", bdf_format(&record->bdf, name), text);
	return code ? journal_tell(host, code, "cannot write the journal", err) : 0;
}

int host_journal_remove(const struct host *host, const struct bdf *bdf, struct error *err)
{
	char name[BDF_TEXT];
	int code;

	code = journal_remove_entry(host, "devices", bdf_format(bdf, name));
	return code ? journal_tell(host, code, "cannot remove a record from the journal", err) : 0;
}

static ssize_t collect_records(DIR *directory, struct bdf **devices)
{
	cleanup_free struct bdf *list = NULL;
	const struct dirent *entry;
	size_t count = 0;

	while ((entry = readdir(directory))) {
		struct bdf bdf, *more;

		if (bdf_parse(entry->d_name, &bdf))
			continue;
		more = reallocarray(list, count + 1, sizeof(*list));
		if (!more)
			return -ENOMEM;
		list = more;
		list[count++] = bdf;
	}
	*devices = list;
	list = NULL;
	return count;
}

ssize_t host_journal_list(const struct host *host, struct bdf **devices, struct error *err)
{
	DIR *directory = journal_read_directory(host, "devices");
	ssize_t count;

	*devices = NULL;
	if (!directory)
		return errno == ENOENT ? 0
				       : journal_tell(host, -errno, "cannot read the journal", err);
	count = collect_records(directory, devices);
	closedir(directory);
	return count < 0 ? journal_tell(host, count, "cannot read the journal", err) : count;
}
