/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/system/pci_ids.h"
#include "base/text.h"

#include "base/fd.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (16 << 20)

static const char *const places[] = {
	"/usr/share/misc/pci.ids", /* Debian */
	"/usr/share/hwdata/pci.ids",
	"/usr/share/pci.ids",
};

static bool read_file(struct host_pci_ids *names, const char *path)
{
	cleanup_fd int fd = fd_open_regular(path);
	struct stat stat;

	if (fd < 0 || fstat(fd, &stat) < 0 || stat.st_size > FILE_MAX)
		return false;
	names->text = malloc(stat.st_size + 1);
	if (!names->text)
		return false;
	names->size = stat.st_size;
	if (fd_read_all(fd, names->text, names->size) == 0)
		return true;
	host_pci_ids_close(names);
	return false;
}

void host_pci_ids_open(struct host_pci_ids *names, const struct host *host)
{
	char path[PATH_MAX];

	*names = (struct host_pci_ids){ 0 };
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (host_path(host, path, "%s", places[i]) == 0 && read_file(names, path))
			return;
}

void host_pci_ids_close(struct host_pci_ids *names)
{
	free(names->text);
	*names = (struct host_pci_ids){ 0 };
}

/*
 * The line after offset at that begins with prefix, among those that are at least as deeply indented as
 * it; 0 where there is none before the list goes on with something less deep. Gives where its name
 * begins; the next line's offset goes into *after.
 */
static const char *find_ids_line(
	const struct host_pci_ids *names, size_t at, const char *prefix, size_t *after)
{
	size_t length = strlen(prefix), depth = strspn(prefix, "\t");

	while (at < names->size) {
		const char *line = names->text + at;
		const char *end = memchr(line, '\n', names->size - at);
		size_t size = end ? (size_t)(end - line) : names->size - at;

		at += size + 1;
		if (!size || line[0] == '#')
			continue;
		for (size_t i = 0; i < depth; i++)
			if (i >= size || line[i] != '\t')
				return NULL;
		if (size > length && strncasecmp(line, prefix, length) == 0) {
			*after = at;
			return line + length;
		}
	}
	return NULL;
}

static void take_name(
	const struct host_pci_ids *names, const char *from, char name[static PCI_IDS_TEXT])
{
	size_t room = names->text + names->size - from;
	const char *end = memchr(from, '\n', room);

	text_format(name, PCI_IDS_TEXT, "%.*s", (int)(end ? (size_t)(end - from) : room), from);
}

static const char *find_vendor(const struct host_pci_ids *names, uint16_t vendor, size_t *after)
{
	char prefix[8];

	snprintf(prefix, sizeof(prefix), "%04x  ", vendor);
	return find_ids_line(names, 0, prefix, after);
}

void host_pci_ids_vendor(
	const struct host_pci_ids *names, uint16_t vendor, char name[static PCI_IDS_TEXT])
{
	size_t after;
	const char *at = find_vendor(names, vendor, &after);

	name[0] = '\0';
	if (at)
		take_name(names, at, name);
}

void host_pci_ids_device(const struct host_pci_ids *names, uint16_t vendor, uint16_t device,
	char name[static PCI_IDS_TEXT])
{
	const char *at;
	char prefix[8];
	size_t after;

	name[0] = '\0';
	if (!find_vendor(names, vendor, &after))
		return;
	snprintf(prefix, sizeof(prefix), "\t%04x  ", device);
	at = find_ids_line(names, after, prefix, &after);
	if (at)
		take_name(names, at, name);
}

void host_pci_ids_class(
	const struct host_pci_ids *names, uint32_t class_code, char name[static PCI_IDS_TEXT])
{
	const char *at, *subclass;
	char prefix[8];
	size_t after;

	name[0] = '\0';
	snprintf(prefix, sizeof(prefix), "C %02x  ", class_code >> 16 & 0xff);
	at = find_ids_line(names, 0, prefix, &after);
	if (!at)
		return;
	snprintf(prefix, sizeof(prefix), "\t%02x  ", class_code >> 8 & 0xff);
	subclass = find_ids_line(names, after, prefix, &after);
	take_name(names, subclass ? subclass : at, name);
}
