// SPDX-License-Identifier: GPL-2.0-or-later
/* PCI devices of this guest, by sysfs. */
#include "lab.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"

#define COMMAND        0x04
#define COMMAND_IO     0x1
#define COMMAND_MEMORY 0x2
#define COMMAND_MASTER 0x4
#define CAPABILITIES   0x34

void pci_open(struct pci *pci, const char *bdf)
{
	char path[96];

	snprintf(pci->path, sizeof(pci->path), DEVICES "/%.32s", bdf);
	snprintf(path, sizeof(path), "%s/config", pci->path);
	pci->config = open(path, O_RDWR | O_CLOEXEC);
	if (pci->config < 0)
		fail_errno("%s", path);
}

bool pci_find(struct pci *pci, uint16_t vendor, uint16_t device)
{
	bool found = false;
	struct dirent *entry;
	DIR *directory = opendir(DEVICES);

	if (!directory)
		fail_errno(DEVICES);
	while (!found && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		pci_open(pci, entry->d_name);
		found = pci_read(pci, 0, 4) == ((uint32_t)device << 16 | vendor);
		if (!found)
			close(pci->config);
	}
	closedir(directory);
	return found;
}

uint32_t pci_read(const struct pci *pci, unsigned int offset, unsigned int size)
{
	uint32_t value = 0;

	if (pread(pci->config, &value, size, offset) != (ssize_t)size)
		fail_errno("%s: reading %u bytes of config space at %#x", pci->path, size, offset);
	return value;
}

void pci_write(const struct pci *pci, unsigned int offset, uint32_t value, unsigned int size)
{
	if (pwrite(pci->config, &value, size, offset) != (ssize_t)size)
		fail_errno("%s: writing %u bytes of config space at %#x", pci->path, size, offset);
}

unsigned int pci_capability(const struct pci *pci, uint8_t id)
{
	unsigned int offset = pci_read(pci, CAPABILITIES, 1) & ~3u;

	for (unsigned int limit = 48; offset && limit; limit--) {
		if (pci_read(pci, offset, 1) == id)
			return offset;
		offset = pci_read(pci, offset + 1, 1) & ~3u;
	}
	return 0;
}

void pci_enable(const struct pci *pci)
{
	uint32_t command = pci_read(pci, COMMAND, 2);

	pci_write(pci, COMMAND, command | COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER, 2);
}

uint64_t pci_bar(const struct pci *pci, unsigned int bar, uint64_t *size)
{
	unsigned long long start = 0, end = 0;
	char path[96], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/resource", pci->path);
	file = fopen(path, "r");
	if (!file)
		fail_errno("%s", path);
	for (unsigned int i = 0; i <= bar; i++) {
		if (!fgets(line, sizeof(line), file))
			fail("%s has no line %u", path, bar);
	}
	fclose(file);
	sscanf(line, "%llx %llx", &start, &end);
	*size = end ? end - start + 1 : 0;
	return start;
}

volatile void *pci_map(const struct pci *pci, unsigned int bar, size_t *size)
{
	char path[96];
	uint64_t length;
	void *map;
	int file;

	pci_bar(pci, bar, &length);
	snprintf(path, sizeof(path), "%s/resource%u", pci->path, bar);
	file = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (file < 0)
		fail_errno("%s", path);
	map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (map == MAP_FAILED)
		fail_errno("mapping %s", path);
	close(file);
	if (size)
		*size = length;
	return map;
}

void pci_attribute(const struct pci *pci, const char *name, const char *value)
{
	char path[128];
	int file;

	snprintf(path, sizeof(path), "%s/%s", pci->path, name);
	file = open(path, O_WRONLY | O_CLOEXEC);
	if (file < 0 || write(file, value, strlen(value)) < 0)
		fail_errno("writing %s to %s", value, path);
	close(file);
}
