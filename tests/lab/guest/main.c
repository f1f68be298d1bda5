// SPDX-License-Identifier: GPL-2.0-or-later
/* The entry of the guest's test programs, and what they share beside PCI. */
#include "lab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} programs[] = {
	{ "bulk", bulk_main },
	{ "disk", disk_main },
	{ "display", display_main },
	{ "edu", edu_main },
	{ "edu-early", edu_early_main },
	{ "edu-isolation", edu_isolation_main },
	{ "edu-peer", edu_peer_main },
	{ "hypervisor", hypervisor_main },
	{ "keyboard", keyboard_main },
	{ "large-bar", large_bar_main },
	{ "pci-abuse", pci_abuse_main },
	{ "reads", reads_main },
	{ "testdev", testdev_main },
	{ "touch-memory", touch_memory_main },
	{ "tpm", tpm_main },
};

static const char *program;

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');

	program = slash ? slash + 1 : argv[0];
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		if (strcmp(program, programs[i].name) == 0)
			return programs[i].main(argc, argv);
	}
	fail("there is no such program");
}

void fail(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	printf("%s: ", program);
	vprintf(format, list);
	printf("\n");
	va_end(list);
	exit(1);
}

void fail_errno(const char *format, ...)
{
	int error = errno;
	va_list list;

	va_start(list, format);
	printf("%s: ", program);
	vprintf(format, list);
	printf(": %s\n", strerror(error));
	va_end(list);
	exit(1);
}

uint64_t number(const char *text)
{
	static const char units[] = "KMG";
	char *end;
	uint64_t value = strtoull(text, &end, 0);
	const char *unit = *end ? strchr(units, *end) : NULL;

	if (unit) {
		value <<= 10 * (unit - units + 1);
		end++;
	}
	if (end == text || *end)
		fail("not a number: %s", text);
	return value;
}

double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void sleep_ms(unsigned int ms)
{
	struct timespec time = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&time, NULL);
}

bool argument(const char *name, char *value, size_t size)
{
	char line[4096];
	size_t length = strlen(name);
	bool found = false;
	FILE *file = fopen("/proc/cmdline", "r");

	if (!file || !fgets(line, sizeof(line), file))
		fail_errno("/proc/cmdline");
	fclose(file);
	for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
		if (strncmp(word, name, length) == 0 && word[length] == '=') {
			snprintf(value, size, "%s", word + length + 1);
			found = true;
		}
	}
	return found;
}

void make_sectors(char *data, const char *name, uint64_t first, unsigned int count)
{
	memset(data, '.', (size_t)count * SECTOR);
	for (unsigned int i = 0; i < count; i++) {
		char text[128];
		int length = snprintf(text, sizeof(text), "penstock-lab %s sector %010llu\n", name,
			(unsigned long long)(first + i));

		memcpy(data + (size_t)i * SECTOR, text, (size_t)length);
	}
}

void *dma_pages(size_t count)
{
	void *pages = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);

	if (pages == MAP_FAILED)
		fail_errno("mmap of %zu pages", count);
	return pages;
}

uint64_t physical(const void *address)
{
	uint64_t entry = 0;
	int file = open("/proc/self/pagemap", O_RDONLY);

	if (file < 0 || pread(file, &entry, 8, (off_t)((uintptr_t)address / PAGE * 8)) != 8)
		fail_errno("/proc/self/pagemap");
	close(file);
	/* bit 63: present; bits 0 to 54: the page's number */
	if (!(entry >> 63) || !(entry << 9))
		fail("no physical address for %p", address);
	return (entry & ((1ull << 55) - 1)) * PAGE + (uintptr_t)address % PAGE;
}
