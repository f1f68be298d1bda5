// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * pci-abuse VENDOR:DEVICE [mild]: what no driver does, to a device that has no driver: config
 * space and BARs at many offsets, of every size and alignment, and the ports CF8 to CFF. Nothing
 * is checked: whoever runs it sees whether the machine survives, and whether the device works
 * after a reset. When mild it lets the header be, whose BARs would go to absurd places: QEMU 10
 * ends itself then.
 */
#include "lab.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CAPABILITY_MSIX 0x11

static const uint32_t values[] = { 0xffffffff, 0, 0xa5a5a5a5, 0x80000001 };

static sigjmp_buf fault;

static void on_fault(int number)
{
	siglongjmp(fault, number);
}

/* CF8 to CFF byte by byte, in an order that makes no sense. A write to CF9 would be a reset. */
static void ports(uint32_t address)
{
	int file = open("/dev/port", O_RDWR | O_CLOEXEC);
	uint8_t value;

	if (file < 0)
		fail_errno("/dev/port");
	for (unsigned int i = 0; i < 8; i++) {
		for (off_t port = 0xcf8; port <= 0xcff; port++) {
			value = (uint8_t)(address >> 8 * (port & 3)) ^ (uint8_t)i;
			if (port != 0xcf9 && pwrite(file, &value, 1, port) != 1)
				fail_errno("writing port %#lx", (long)port);
			if (pread(file, &value, 1, port) != 1)
				fail_errno("reading port %#lx", (long)port);
		}
	}
	close(file);
}

/* Read everywhere; written only beyond the header, which is saved and restored by all bits. */
static void config(const struct pci *pci)
{
	for (unsigned int size = 1; size <= 4; size++) {
		for (unsigned int offset = 0; offset < 4096 + 8; offset += offset < 320 ? 1 : 61) {
			uint32_t value = values[offset % 4];

			(void)!pread(pci->config, &value, size, offset);
			if (offset >= 64)
				(void)!pwrite(pci->config, &value, size, offset);
		}
	}
}

static void header(const struct pci *pci)
{
	for (unsigned int i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		for (unsigned int offset = 0; offset < 64; offset++) {
			for (unsigned int size = 1; size <= 4; size++)
				(void)!pwrite(pci->config, &values[i], size, offset);
		}
	}
}

static void touch(volatile char *at, bool write)
{
	uint8_t one = *(volatile uint8_t *)at;
	uint16_t two = *(volatile uint16_t *)at;
	uint32_t four = *(volatile uint32_t *)at;
	uint64_t eight = *(volatile uint64_t *)at;

	if (!write)
		return;
	*(volatile uint8_t *)at = (uint8_t)~one;
	*(volatile uint16_t *)at = (uint16_t)~two;
	*(volatile uint32_t *)at = ~four;
	*(volatile uint64_t *)at = ~eight;
}

/* The beginning of each page at every alignment, some of the rest, and what crosses its end. */
static void memory_bar(const struct pci *pci, unsigned int bar, bool write)
{
	size_t size;
	volatile char *map = pci_map(pci, bar, &size);
	volatile size_t at = 0;

	/* An access may fault; the next one goes on. */
	sigsetjmp(fault, 1);
	while (at + 8 <= size) {
		size_t now = at;

		at += at % PAGE < 64 ? 1 : 251;
		touch(map + now, write);
	}
}

static void msix_table(const struct pci *pci)
{
	unsigned int msix = pci_capability(pci, CAPABILITY_MSIX);
	uint32_t table;
	volatile uint32_t *entries;

	if (!msix)
		return;
	table = pci_read(pci, msix + 4, 4);
	entries = (volatile void *)((volatile char *)pci_map(pci, table & 7, NULL) + (table & ~7u));
	pci_write(pci, msix + 2, 0x8000, 2);
	for (unsigned int i = 0; i < 4 * ((pci_read(pci, msix + 2, 2) & 0x7ff) + 1); i++) {
		for (unsigned int j = 0; j < sizeof(values) / sizeof(values[0]); j++)
			entries[i] = values[j];
	}
	pci_write(pci, msix + 2, 0xc000, 2);
	pci_write(pci, msix + 2, 0, 2);
}

static void all_bars(const struct pci *pci, bool write)
{
	for (unsigned int bar = 0; bar < 6; bar++) {
		uint64_t size, start = pci_bar(pci, bar, &size);

		if (start >= 0x10000 && size >= PAGE)
			memory_bar(pci, bar, write);
	}
}

int pci_abuse_main(int argc, char **argv)
{
	unsigned int vendor, device, bus, slot, function;
	bool mild = argc > 2 && strcmp(argv[2], "mild") == 0;
	struct pci pci;
	char saved[64];

	if (argc < 2 || sscanf(argv[1], "%x:%x", &vendor, &device) != 2)
		fail("usage: pci-abuse VENDOR:DEVICE [mild]");
	if (!pci_find(&pci, (uint16_t)vendor, (uint16_t)device))
		fail("no device %s", argv[1]);
	if (sscanf(strrchr(pci.path, '/'), "/%*x:%x:%x.%x", &bus, &slot, &function) != 3)
		fail("cannot tell the address of %s", pci.path);
	signal(SIGBUS, on_fault);
	signal(SIGSEGV, on_fault);

	pci_attribute(&pci, "enable", "1");
	pci_enable(&pci);
	if (pread(pci.config, saved, sizeof(saved), 0) != sizeof(saved))
		fail_errno("saving the header");
	all_bars(&pci, false);
	printf("pci-abuse: BARs read\n");
	msix_table(&pci);
	all_bars(&pci, true);
	printf("pci-abuse: BARs written\n");
	ports(0x80000000 | bus << 16 | slot << 11 | function << 8);
	ports(0x80ff0000);
	ports(0xffffffff);
	printf("pci-abuse: ports used\n");
	config(&pci);
	if (!mild)
		header(&pci);
	printf("pci-abuse: config space used\n");
	if (pwrite(pci.config, saved, sizeof(saved), 0) != sizeof(saved))
		fail_errno("restoring the header");
	return 0;
}
