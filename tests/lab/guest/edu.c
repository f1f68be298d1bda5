// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * edu: QEMU's educational device (its docs/specs/edu.rst): registers, interrupts, DMA.
 *
 * Linux has no driver for it, so this one is made of what Linux has. INTx comes through
 * uio_pci_generic. MSI is programmed straight into the capability, with a vector that the kernel
 * has a handler for which does nothing but count: the posted-interrupt notification, the line PIN
 * of /proc/interrupts. Nothing else raises it in a guest, so the count is exact.
 */
#include "lab.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EDU_ID               0x00
#define EDU_LIVENESS         0x04
#define EDU_FACTORIAL        0x08
#define EDU_STATUS           0x20
#define EDU_STATUS_COMPUTING 0x01
#define EDU_STATUS_INTERRUPT 0x80
#define EDU_IRQ_STATUS       0x24
#define EDU_IRQ_RAISE        0x60
#define EDU_IRQ_ACK          0x64
#define EDU_DMA_SOURCE       0x80
#define EDU_DMA_TARGET       0x88
#define EDU_DMA_COUNT        0x90
#define EDU_DMA_COMMAND      0x98
#define EDU_DMA_START        0x1
#define EDU_DMA_TO_RAM       0x2
#define EDU_DMA_INTERRUPT    0x4

#define EDU_BUFFER 0x40000 /* the address of its memory as its DMA engine sees it */
/* QEMU before 8 dies of a transfer that ends where this memory ends. */
#define EDU_BUFFER_USED   (PAGE - 8)
#define EDU_IRQ_FACTORIAL 0x001
#define EDU_IRQ_DMA       0x100

#define COMMAND              0x04
#define COMMAND_MEMORY       0x2
#define COMMAND_INTX_DISABLE 0x400
#define CAPABILITY_MSI       0x05
#define MSI_64_BIT           0x80
#define COUNTING_VECTOR      0xf2

#define LIMIT_SECONDS 10

struct edu {
	struct pci pci;
	volatile char *bar;
	/* the interrupt in use */
	bool msi;
	int uio;
	unsigned int cpu;
	uint64_t msi_seen;
	uint64_t intx_seen;
};

static uint32_t get(const struct edu *edu, unsigned int offset)
{
	return *(volatile uint32_t *)(edu->bar + offset);
}

static void set(const struct edu *edu, unsigned int offset, uint32_t value)
{
	*(volatile uint32_t *)(edu->bar + offset) = value;
}

static void set64(const struct edu *edu, unsigned int offset, uint64_t value)
{
	*(volatile uint64_t *)(edu->bar + offset) = value;
}

/* Without bus mastering. */
static void edu_find(struct edu *edu)
{
	memset(edu, 0, sizeof(*edu));
	edu->uio = -1;
	if (!pci_find(&edu->pci, 0x1234, 0x11e8))
		fail("no edu device");
	pci_attribute(&edu->pci, "enable", "1");
	edu->bar = pci_map(&edu->pci, 0, NULL);
}

static void edu_open(struct edu *edu)
{
	uint32_t id;

	edu_find(edu);
	pci_enable(&edu->pci);

	id = get(edu, EDU_ID);
	if ((id & 0xffff) != 0x00ed)
		fail("the identification register reads %#x, not 0x...00ed", id);
	set(edu, EDU_LIVENESS, 0x12345678);
	if (get(edu, EDU_LIVENESS) != ~0x12345678u)
		fail("the liveness register reads %#x", get(edu, EDU_LIVENESS));
	printf("edu: %s, identification %#x\n", edu->pci.path, id);
}

/* How often the counting vector came, to one CPU. */
static uint64_t vector_count(unsigned int cpu)
{
	char line[4096];
	uint64_t count = 0;
	FILE *file = fopen("/proc/interrupts", "r");

	while (file && fgets(line, sizeof(line), file)) {
		char *at = strstr(line, "PIN:");

		if (!at)
			continue;
		at += strlen("PIN:");
		for (unsigned int i = 0; i <= cpu; i++)
			count = strtoull(at, &at, 10);
		fclose(file);
		return count;
	}
	fail("/proc/interrupts has no line PIN");
}

static uint32_t apic_id(unsigned int cpu)
{
	char line[4096];
	unsigned int id;
	FILE *file = fopen("/proc/cpuinfo", "r");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "apicid : %u", &id) == 1 && cpu-- == 0) {
			fclose(file);
			return id;
		}
	}
	fail("/proc/cpuinfo has no apicid of that CPU");
}

static void use_msi(struct edu *edu, unsigned int cpu)
{
	unsigned int msi = pci_capability(&edu->pci, CAPABILITY_MSI);
	uint16_t control;

	if (!msi)
		fail("no MSI capability");
	control = (uint16_t)pci_read(&edu->pci, msi + 2, 2);
	pci_write(&edu->pci, msi + 2, control & ~1u, 2);
	pci_write(&edu->pci, msi + 4, 0xfee00000 | apic_id(cpu) << 12, 4);
	if (control & MSI_64_BIT)
		pci_write(&edu->pci, msi + 8, 0, 4);
	pci_write(&edu->pci, msi + (control & MSI_64_BIT ? 12 : 8), COUNTING_VECTOR, 2);
	pci_write(&edu->pci, msi + 2, control | 1u, 2);
	edu->msi = true;
	edu->cpu = cpu;
	edu->msi_seen = vector_count(cpu);
}

static void no_msi(struct edu *edu)
{
	unsigned int msi = pci_capability(&edu->pci, CAPABILITY_MSI);

	pci_write(&edu->pci, msi + 2, pci_read(&edu->pci, msi + 2, 2) & ~1u, 2);
	edu->msi = false;
}

static void use_intx(struct edu *edu)
{
	char path[96];
	struct dirent *entry;
	DIR *directory;

	pci_attribute(&edu->pci, "driver_override", "uio_pci_generic");
	if (system("modprobe uio_pci_generic"))
		fail("no module uio_pci_generic");
	snprintf(path, sizeof(path), "%s/uio", edu->pci.path);
	directory = opendir(path);
	if (!directory)
		fail("uio_pci_generic does not take the device: no INTx, or it cannot be masked");
	while (edu->uio < 0 && (entry = readdir(directory))) {
		if (strncmp(entry->d_name, "uio", 3) == 0) {
			snprintf(path, sizeof(path), "/dev/%.32s", entry->d_name);
			edu->uio = open(path, O_RDWR | O_CLOEXEC);
		}
	}
	closedir(directory);
	if (edu->uio < 0)
		fail_errno("%s", path);
	pci_enable(&edu->pci);
}

static void unmask_intx(const struct edu *edu)
{
	uint32_t command = pci_read(&edu->pci, COMMAND, 2);

	pci_write(&edu->pci, COMMAND, command & ~(uint32_t)COMMAND_INTX_DISABLE, 2);
}

static void wait_msi(struct edu *edu)
{
	double limit = seconds() + LIMIT_SECONDS;

	while (vector_count(edu->cpu) == edu->msi_seen) {
		if (seconds() > limit)
			fail("no MSI at CPU %u within %d s (interrupt status %#x)", edu->cpu,
				LIMIT_SECONDS, get(edu, EDU_IRQ_STATUS));
		sleep_ms(5);
	}
	edu->msi_seen++;
}

static void wait_intx(struct edu *edu)
{
	struct pollfd wait = { .fd = edu->uio, .events = POLLIN };
	uint32_t count;

	if (poll(&wait, 1, LIMIT_SECONDS * 1000) != 1)
		fail("no INTx within %d s (interrupt status %#x)", LIMIT_SECONDS,
			get(edu, EDU_IRQ_STATUS));
	if (read(edu->uio, &count, sizeof(count)) != sizeof(count))
		fail_errno("reading from uio");
	if (count != ++edu->intx_seen)
		fail("%u INTx, not %llu", count, (unsigned long long)edu->intx_seen);
}

/* Waits for one interrupt, checks its cause, and lets the device go on. */
static void take_interrupt(struct edu *edu, uint32_t cause)
{
	uint32_t status;

	if (edu->msi)
		wait_msi(edu);
	else
		wait_intx(edu);
	status = get(edu, EDU_IRQ_STATUS);
	if (status != cause)
		fail("the interrupt's cause reads %#x, not %#x", status, cause);
	set(edu, EDU_IRQ_ACK, status);
	if (!edu->msi)
		unmask_intx(edu);
}

static void test_factorial(struct edu *edu)
{
	set(edu, EDU_STATUS, EDU_STATUS_INTERRUPT);
	set(edu, EDU_FACTORIAL, 10);
	take_interrupt(edu, EDU_IRQ_FACTORIAL);
	if (get(edu, EDU_FACTORIAL) != 3628800)
		fail("10! is %u", get(edu, EDU_FACTORIAL));
	set(edu, EDU_STATUS, 0);
}

/* As many interrupts as were raised: none lost, none doubled. */
static void test_raise(struct edu *edu, unsigned int times)
{
	uint64_t wanted = edu->msi_seen + times;

	for (unsigned int i = 0; i < times; i++) {
		set(edu, EDU_IRQ_RAISE, 0x40 + i);
		take_interrupt(edu, 0x40 + i);
	}
	sleep_ms(50);
	if (edu->msi && vector_count(edu->cpu) != wanted)
		fail("%llu MSI in all, not %llu", (unsigned long long)vector_count(edu->cpu),
			(unsigned long long)wanted);
}

static void start_dma(struct edu *edu, uint64_t from, uint64_t to, uint32_t command)
{
	set64(edu, EDU_DMA_SOURCE, from);
	set64(edu, EDU_DMA_TARGET, to);
	set64(edu, EDU_DMA_COUNT, EDU_BUFFER_USED);
	set64(edu, EDU_DMA_COMMAND, command | EDU_DMA_START);
}

static void finish_dma(struct edu *edu)
{
	double limit = seconds() + LIMIT_SECONDS;

	while (get(edu, EDU_DMA_COMMAND) & EDU_DMA_START) {
		if (seconds() > limit)
			fail("DMA not done within %d s", LIMIT_SECONDS);
		sleep_ms(5);
	}
}

/* A page goes to the device and comes back elsewhere. */
static void test_dma(struct edu *edu, char *from, char *to, bool interrupts)
{
	uint32_t command = interrupts ? EDU_DMA_INTERRUPT : 0;

	for (unsigned int i = 0; i < PAGE / sizeof(uint64_t); i++)
		((volatile uint64_t *)from)[i] = physical(from) * 0x9e3779b97f4a7c15 + i;
	memset(to, 0, PAGE);

	start_dma(edu, physical(from), EDU_BUFFER, command);
	if (interrupts)
		take_interrupt(edu, EDU_IRQ_DMA);
	finish_dma(edu);
	start_dma(edu, EDU_BUFFER, physical(to), command | EDU_DMA_TO_RAM);
	if (interrupts)
		take_interrupt(edu, EDU_IRQ_DMA);
	finish_dma(edu);
	if (memcmp(from, to, EDU_BUFFER_USED))
		fail("DMA from %#llx to %#llx brought other data",
			(unsigned long long)physical(from), (unsigned long long)physical(to));
}

static void test_with_interrupts(struct edu *edu, char *pages, size_t count, const char *kind)
{
	double start = seconds();

	test_factorial(edu);
	test_raise(edu, 20);
	for (size_t i = 0; i + 1 < count; i += 2)
		test_dma(edu, pages + i * PAGE, pages + (i + 1) * PAGE, true);
	printf("edu: factorial, 20 raised interrupts and %zu KiB of DMA by %s, in %.1f s\n",
		count * PAGE >> 10, kind, seconds() - start);
}

int edu_main(int argc, char **argv)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	char *pages = dma_pages(8);
	struct edu edu;

	(void)argc;
	(void)argv;
	edu_open(&edu);
	printf("edu: DMA pages from address %#llx on\n", (unsigned long long)physical(pages));
	use_intx(&edu);
	test_with_interrupts(&edu, pages, 8, "INTx");
	for (unsigned int cpu = 0; cpu < cpus; cpu++) {
		char kind[32];

		snprintf(kind, sizeof(kind), "MSI to CPU %u", cpu);
		use_msi(&edu, cpu);
		test_with_interrupts(&edu, pages, 4, kind);
	}
	no_msi(&edu);
	unmask_intx(&edu);
	test_raise(&edu, 2);
	printf("edu: INTx again, after MSI\n");
	return 0;
}

/*
 * edu-isolation: DMA from and to each address of target=ADDRESS[,ADDRESS...] on the command line,
 * which are outside this guest's memory. Nothing may be read, this guest must go on, and DMA
 * inside of its own memory must still work. That nothing was written is checked from outside.
 */
int edu_isolation_main(int argc, char **argv)
{
	static const char secret[] = "penstock-lab secret";
	char targets[512];
	char *pages = dma_pages(2);
	struct edu edu;

	(void)argc;
	(void)argv;
	if (!argument("target", targets, sizeof(targets)))
		fail("no target=ADDRESS[,ADDRESS...] on the command line");
	edu_open(&edu);
	test_dma(&edu, pages, pages + PAGE, false);
	for (char *word = strtok(targets, ","); word; word = strtok(NULL, ",")) {
		uint64_t target = number(word);

		start_dma(&edu, target, EDU_BUFFER, 0);
		finish_dma(&edu);
		memset(pages, 0, PAGE);
		start_dma(&edu, EDU_BUFFER, physical(pages), EDU_DMA_TO_RAM);
		finish_dma(&edu);
		if (memmem(pages, EDU_BUFFER_USED, secret, sizeof(secret) - 1))
			fail("DMA from %#llx read the host's secret", (unsigned long long)target);

		memset(pages, 0xdb, PAGE);
		start_dma(&edu, physical(pages), EDU_BUFFER, 0);
		finish_dma(&edu);
		start_dma(&edu, EDU_BUFFER, target, EDU_DMA_TO_RAM);
		finish_dma(&edu);
		printf("edu-isolation: tried %#llx\n", (unsigned long long)target);
	}
	test_dma(&edu, pages, pages + PAGE, false);
	printf("edu-isolation: DMA in own memory still works\n");
	return 0;
}

/* By way of the device's own memory. */
static void copy(struct edu *edu, uint64_t from, uint64_t to)
{
	start_dma(edu, from, EDU_BUFFER, 0);
	finish_dma(edu);
	start_dma(edu, EDU_BUFFER, to, EDU_DMA_TO_RAM);
	finish_dma(edu);
}

static void fill_page(volatile char *page, uint64_t seed)
{
	for (unsigned int i = 0; i < PAGE / sizeof(uint64_t); i++)
		((volatile uint64_t *)page)[i] = seed * 0x9e3779b97f4a7c15 + i;
}

static bool same(const volatile char *one, const volatile char *other)
{
	for (unsigned int i = 0; i < EDU_BUFFER_USED / sizeof(uint64_t); i++)
		if (((volatile uint64_t *)one)[i] != ((volatile uint64_t *)other)[i])
			return false;
	return true;
}

/* From the other device's BAR to memory, and from memory to its next page. */
static void exchange(struct edu *edu, volatile char *bar, uint64_t address, char *page)
{
	static uint64_t seed;

	fill_page(bar, ++seed);
	copy(edu, address, physical(page));
	if (!same(bar, page))
		fail("DMA from the BAR at %#llx brought other data", (unsigned long long)address);
	fill_page(page, ++seed);
	copy(edu, physical(page), address + PAGE);
	if (!same(bar + PAGE, page))
		fail("DMA to the BAR at %#llx brought other data", (unsigned long long)address);
}

/* edu-peer: DMA to and from the memory of an ivshmem (its third BAR), as long as that is decoded. */
int edu_peer_main(int argc, char **argv)
{
	char *pages = dma_pages(2), *page = pages + PAGE;
	volatile char *bar;
	uint64_t address, size;
	struct pci peer;
	uint32_t command;
	struct edu edu;

	(void)argc;
	(void)argv;
	edu_open(&edu);
	if (!pci_find(&peer, 0x1af4, 0x1110))
		fail("no ivshmem");
	pci_attribute(&peer, "enable", "1");
	pci_enable(&peer);
	bar = pci_map(&peer, 2, NULL);
	address = pci_bar(&peer, 2, &size);
	printf("edu-peer: %llu KiB at %#llx\n", (unsigned long long)size >> 10,
		(unsigned long long)address);
	exchange(&edu, bar, address, page);

	command = pci_read(&peer, COMMAND, 2);
	pci_write(&peer, COMMAND, command & ~(uint32_t)COMMAND_MEMORY, 2);
	memset(pages, 0, PAGE);
	start_dma(&edu, physical(pages), EDU_BUFFER, 0);
	finish_dma(&edu);
	copy(&edu, address, physical(page));
	pci_write(&peer, COMMAND, command, 2);
	if (same(bar, page))
		fail("DMA reached the BAR that was not decoded");
	printf("edu-peer: not without decoding\n");
	exchange(&edu, bar, address, page);
	return 0;
}

/*
 * edu-early: the device's first DMA, out of the last page of RAM into the one before it, at once after bus
 * mastering is switched on for the first time. ram.end=ADDRESS on the command line tells where they
 * are, and memmap= that Linux must leave them alone.
 */
int edu_early_main(int argc, char **argv)
{
	int memory = open("/dev/mem", O_RDWR | O_CLOEXEC);
	char end[32], *pages;
	uint64_t last;
	struct edu edu;

	(void)argc;
	(void)argv;
	if (!argument("ram.end", end, sizeof(end)))
		fail("no ram.end=ADDRESS on the command line");
	last = number(end) - PAGE;
	pages = mmap(
		NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, (off_t)(last - PAGE));
	if (memory < 0 || pages == MAP_FAILED)
		fail_errno("/dev/mem at %#llx", (unsigned long long)last);
	edu_find(&edu);
	fill_page(pages + PAGE, last);
	printf("EDU-EARLY-READY\n");
	pci_enable(&edu.pci);
	start_dma(&edu, last, EDU_BUFFER, 0);
	printf("EDU-EARLY-MASTER\n");
	finish_dma(&edu);
	start_dma(&edu, EDU_BUFFER, last - PAGE, EDU_DMA_TO_RAM);
	finish_dma(&edu);
	if (!same(pages, pages + PAGE))
		fail("DMA from %#llx brought other data", (unsigned long long)last);
	return 0;
}
