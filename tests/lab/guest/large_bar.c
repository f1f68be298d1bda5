// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * large-bar: the memory of each ivshmem (its third BAR) is decoded, and reached from its first page to its
 * last; how long each took is for the test outside to compare.
 */
#include "lab.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define BAR     2
#define IVSHMEM 0x11101af4
#define PLACES  64

/* A page of the BAR: mapping all of it would take this guest's kernel long. */
static void use_page(int file, uint64_t offset, uint32_t value)
{
	volatile uint32_t *page =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)offset);

	if (page == MAP_FAILED)
		fail_errno("mapping the page at %#llx", (unsigned long long)offset);
	page[0] = value;
	page[PAGE / 4 - 1] = ~value;
	if (page[0] != value || page[PAGE / 4 - 1] != ~value)
		fail("at %#llx there is %#x, not %#x", (unsigned long long)offset, page[0], value);
	munmap((void *)page, PAGE);
}

static bool use_bar(const char *name)
{
	double start, decoded, reached;
	uint64_t size, address;
	char path[96];
	struct pci pci;
	int file;

	pci_open(&pci, name);
	address = pci_bar(&pci, BAR, &size);
	if (pci_read(&pci, 0, 4) != IVSHMEM || !size)
		return false;
	start = seconds();
	pci_attribute(&pci, "enable", "1");
	decoded = seconds();
	snprintf(path, sizeof(path), "%s/resource%u", pci.path, BAR);
	file = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (file < 0)
		fail_errno("%s", path);
	for (unsigned int i = 0; i < PLACES; i++)
		use_page(file, size / PLACES * (i + 1) - PAGE, i * 0x01010101u);
	use_page(file, 0, 0x12345678);
	reached = seconds();
	close(file);
	printf("large-bar: %s of %llu MiB at %#llx: decoded after %.0f us, %u pages after %.0f us\n",
		name, (unsigned long long)size >> 20, (unsigned long long)address,
		(decoded - start) * 1e6, PLACES + 1, (reached - decoded) * 1e6);
	return true;
}

int large_bar_main(int argc, char **argv)
{
	DIR *directory = opendir("/sys/bus/pci/devices");
	unsigned int used = 0;
	struct dirent *entry;

	(void)argc;
	(void)argv;
	if (!directory)
		fail_errno("/sys/bus/pci/devices");
	while ((entry = readdir(directory)))
		used += entry->d_name[0] != '.' && use_bar(entry->d_name);
	closedir(directory);
	if (!used)
		fail("there is no ivshmem");
	return 0;
}
