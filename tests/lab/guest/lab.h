/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest's test programs share. They are linked into one program that looks at its name. */
#ifndef LAB_H
#define LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512
#define PAGE   4096

/* A test that cannot go on says why and ends, with exit code 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, with errno's text. */
_Noreturn void fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t number(const char *text); /* as strtoull, with K, M and G; ends the test if it is none */
double seconds(void);
void sleep_ms(unsigned int ms);
bool argument(const char *name, char *value, size_t size); /* of the kernel's command line */

/* What a scratch disk holds at first, and what bulk transfers carry: see lab/lablib/scenario.py */
void make_sectors(char *data, const char *name, uint64_t first, unsigned int count);

/* A PCI device of this guest, by sysfs. */
struct pci {
	char path[64];
	int config;
};

bool pci_find(struct pci *pci, uint16_t vendor, uint16_t device);
void pci_open(struct pci *pci, const char *bdf);
uint32_t pci_read(const struct pci *pci, unsigned int offset, unsigned int size);
void pci_write(const struct pci *pci, unsigned int offset, uint32_t value, unsigned int size);
unsigned int pci_capability(const struct pci *pci, uint8_t id);
void pci_enable(const struct pci *pci); /* memory, I/O and bus mastering */
volatile void *pci_map(const struct pci *pci, unsigned int bar, size_t *size);
uint64_t pci_bar(const struct pci *pci, unsigned int bar, uint64_t *size);
void pci_attribute(const struct pci *pci, const char *name, const char *value);

/* Pages that stay where they are, for DMA. */
void *dma_pages(size_t count);
uint64_t physical(const void *address);

/* The keys of the test `keyboard`, pressed on the keyboard of this bus (BUS_USB of linux/input.h). */
void await_keys(uint16_t bus);

int bulk_main(int argc, char **argv);
int disk_main(int argc, char **argv);
int display_main(int argc, char **argv);
int edu_early_main(int argc, char **argv);
int edu_main(int argc, char **argv);
int edu_isolation_main(int argc, char **argv);
int edu_peer_main(int argc, char **argv);
int hypervisor_main(int argc, char **argv);
int keyboard_main(int argc, char **argv);
int large_bar_main(int argc, char **argv);
int pci_abuse_main(int argc, char **argv);
int reads_main(int argc, char **argv);
int testdev_main(int argc, char **argv);
int touch_memory_main(int argc, char **argv);
int tpm_main(int argc, char **argv);

#endif
