// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * testdev: QEMU's pci-testdev (its docs/specs/pci-testdev.rst): a memory BAR and a port BAR, each
 * with the same little list of tests. A test names an offset, a width and a value; every such
 * write is counted by the device.
 *
 * Ports are accessed by the kernel (sysfs): under QEMU's emulator the port permissions of a program
 * in a guest's guest have no effect.
 */
#include "lab.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TEST   0
#define WIDTH  1
#define OFFSET 4
#define DATA   8
#define COUNT  12
#define NAME   16

#define WRITES 16

/* One of the two BARs: mapped, or a file where the kernel does the port accesses. */
struct bar {
	const char *kind;
	volatile char *map;
	int ports;
};

static uint32_t get(const struct bar *bar, uint32_t at, unsigned int width)
{
	volatile char *address = bar->map + at;
	uint32_t value = 0;

	if (!bar->map) {
		if (pread(bar->ports, &value, width, at) != (ssize_t)width)
			fail_errno("reading a port of %u bytes at %#x", width, at);
		return value;
	}
	return width == 1   ? *(volatile uint8_t *)address
	       : width == 2 ? *(volatile uint16_t *)address
			    : *(volatile uint32_t *)address;
}

static void set(const struct bar *bar, uint32_t at, uint32_t value, unsigned int width)
{
	volatile char *address = bar->map + at;

	if (!bar->map) {
		if (pwrite(bar->ports, &value, width, at) != (ssize_t)width)
			fail_errno("writing a port of %u bytes at %#x", width, at);
	} else if (width == 1) {
		*(volatile uint8_t *)address = (uint8_t)value;
	} else if (width == 2) {
		*(volatile uint16_t *)address = (uint16_t)value;
	} else {
		*(volatile uint32_t *)address = value;
	}
}

/* Returns whether the device knows a test of that number. */
static bool run_test(const struct bar *bar, uint8_t test)
{
	char name[32] = "";
	uint32_t offset, data, count;
	unsigned int width;

	set(bar, TEST, test, 1);
	width = get(bar, WIDTH, 1);
	if (width != 1 && width != 2 && width != 4)
		return false;
	offset = get(bar, OFFSET, 4);
	data = get(bar, DATA, 4);
	for (unsigned int i = 0; i < sizeof(name) - 1; i++) {
		name[i] = (char)get(bar, NAME + i, 1);
		if (!name[i])
			break;
	}
	if (get(bar, COUNT, 4))
		fail("%s: test %u starts with a count of %u", bar->kind, test, get(bar, COUNT, 4));
	for (unsigned int i = 0; i < WRITES; i++)
		set(bar, offset, data, width);
	count = get(bar, COUNT, 4);
	printf("testdev: %s: %s: %u writes of %u bytes, %u counted\n", bar->kind, name, WRITES,
		width, count);
	/* An eventfd behind a register counts close writes as one, and in an emulated host none. */
	if (count > WRITES || (strstr(name, "no-eventfd") && count != WRITES))
		fail("%s: %u of %u writes counted", bar->kind, count, WRITES);
	return true;
}

static void run_tests(const struct bar *bar)
{
	uint8_t test = 0;

	while (test < 32 && run_test(bar, test))
		test++;
	if (!test)
		fail("%s: no test found", bar->kind);
}

int testdev_main(int argc, char **argv)
{
	struct bar memory = { .kind = "memory" }, port = { .kind = "port" };
	struct pci pci;
	char path[96];

	(void)argc;
	(void)argv;
	if (!pci_find(&pci, 0x1b36, 0x0005))
		fail("no pci-testdev");
	pci_attribute(&pci, "enable", "1");
	pci_enable(&pci);
	memory.map = pci_map(&pci, 0, NULL);
	snprintf(path, sizeof(path), "%s/resource1", pci.path);
	port.ports = open(path, O_RDWR | O_CLOEXEC);
	if (port.ports < 0)
		fail_errno("%s", path);
	printf("testdev: %s\n", pci.path);
	run_tests(&memory);
	run_tests(&port);
	return 0;
}
