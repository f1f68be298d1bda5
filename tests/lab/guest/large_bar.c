// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * large-bar: the memory of each ivshmem (its third BAR) is decoded, and reached from its first page to its
 * last. How long each takes is for the test outside to measure by these lines: an emulated host's guest has
 * a clock that stands still while its VMM works.
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
	uint64_t size;
	char path[96];
	struct pci pci;
	int file;

	pci_open(&pci, name);
	pci_bar(&pci, BAR, &size);
	if (pci_read(&pci, 0, 4) != IVSHMEM || !size)
		return false;
	printf("large-bar: %llu MiB begin\n", (unsigned long long)size >> 20);
	pci_attribute(&pci, "enable", "1");
	printf("large-bar: %llu MiB are decoded\n", (unsigned long long)size >> 20);
	snprintf(path, sizeof(path), "%s/resource%u", pci.path, BAR);
	file = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (file < 0)
		fail_errno("%s", path);
	for (unsigned int i = 0; i < PLACES; i++)
		use_page(file, size / PLACES * (i + 1) - PAGE, i * 0x01010101u);
	use_page(file, 0, 0x12345678);
	close(file);
	printf("large-bar: %llu MiB are reached\n", (unsigned long long)size >> 20);
	return true;
}

int large_bar_main(int argc, char **argv)
{
	struct dirent **entries;
	int count = scandir("/sys/bus/pci/devices", &entries, NULL, alphasort);
	unsigned int used = 0;

	(void)argc;
	(void)argv;
	if (count < 0)
		fail_errno("/sys/bus/pci/devices");
	for (int i = 0; i < count; i++)
		used += entries[i]->d_name[0] != '.' && use_bar(entries[i]->d_name);
	if (!used)
		fail("there is no ivshmem");
	return 0;
}
