/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A PCI function as the guest sees it: 4 KiB of configuration space, up to six BARs and an expansion
 * ROM (PCI Local Bus 3.0, chapter 6; PCI Express Base, chapter 7). What the guest writes is taken through
 * a mask; a BAR is decoded where the command register and the bridge's windows allow it. So is a VGA card's
 * memory at A0000, with its ports, which no register moves.
 */

#define PCI_CONFIG_SIZE 4096
#define PCI_BARS        6
/* The ROM's address register is one more BAR, with an enable bit of its own (PCI 3.0, 6.2.5.2). */
#define PCI_ROM    PCI_BARS
#define PCI_RANGES (PCI_BARS + 1)
/* Behind what has a register: memory A0000 to BFFFF, ports 3B0 to 3BB and 3C0 to 3DF. */
#define PCI_VGA     PCI_RANGES
#define PCI_DECODES (PCI_VGA + 3)

struct pci_bus;
struct pci_device;

enum pci_bar_kind {
	PCI_BAR_NONE, /* also the upper half of a 64-bit BAR */
	PCI_BAR_IO,
	PCI_BAR_MEM32,
	PCI_BAR_MEM64,
};

struct pci_bar {
	enum pci_bar_kind kind;
	bool prefetchable;
	bool decoded;
	bool fixed;       /* a VGA card's: bridges forward it where their VGA Enable says so */
	uint64_t size;    /* a power of two, unless it is fixed */
	uint64_t address; /* GPA or port where it is decoded now */
};

/* Called with the device's lock held. Every one may be NULL. */
struct pci_device_ops {
	/* Configuration space, in place of pci_device_config_read() and _write(), which they call. */
	uint32_t (*config_read)(struct pci_device *device, unsigned offset, unsigned size);
	void (*config_write)(
		struct pci_device *device, unsigned offset, unsigned size, uint32_t value);
	/* A trapped access; offset + size is within the BAR. */
	uint64_t (*bar_read)(
		struct pci_device *device, unsigned bar, uint64_t offset, unsigned size);
	void (*bar_write)(struct pci_device *device, unsigned bar, uint64_t offset, unsigned size,
		uint64_t value);
	/*
	 * From now on the guest may reach the BAR at bars[bar].address directly, or it must not any
	 * more: accesses are trapped, and wait for the lock, until the BAR has vanished from there.
	 */
	void (*bar_mapped)(struct pci_device *device, unsigned bar);
	void (*bar_unmapped)(struct pci_device *device, unsigned bar);
};

/* Which BAR a trapped range belongs to. */
struct pci_bar_handle {
	struct pci_device *device;
	unsigned bar;
};

struct pci_device {
	const struct pci_device_ops *ops;
	struct pci_bus *bus;
	uint8_t devfn; /* guest's device << 3 | function, on its bus */
	pthread_mutex_t lock;
	/*
	 * 256 or PCI_CONFIG_SIZE; reads beyond it give ones. A device with no extended capability is
	 * better without the space for them: Linux looks there thirty times for what is not there.
	 */
	unsigned config_size;
	/* PCI_CONFIG_SIZE bytes, a page: a guest may be shown it where what it reads is only a copy. */
	uint8_t *config;
	uint8_t writable[PCI_CONFIG_SIZE]; /* bits that a guest's write changes */
	struct pci_bar bars[PCI_DECODES];
	bool asleep;   /* not in D0: BARs keep their places and read as ones */
	bool gave_way; /* a BAR has left its place, or a window its, since bus.c looked last */
	struct pci_bar_handle handles[PCI_DECODES];
};

/* Make all of it empty; config is then filled in before pci_bus_add(). 0 or -ENOMEM. */
int pci_device_init(struct pci_device *device, const struct pci_device_ops *ops);
void pci_device_destroy(struct pci_device *device);

/*
 * Describe a BAR, or with PCI_ROM a ROM, which is a PCI_BAR_MEM32; also sets its type bits and which address
 * bits are writable.
 */
void pci_device_set_bar(struct pci_device *device, unsigned bar, enum pci_bar_kind kind,
	bool prefetchable, uint64_t size);

/* The device is a VGA card that decodes what such a one does (PCI-to-PCI Bridge 1.2, 3.2.5.18). */
void pci_device_set_vga(struct pci_device *device);

/* The address that the BAR's register holds. */
uint64_t pci_device_bar_register(const struct pci_device *device, unsigned bar);
void pci_device_set_bar_register(struct pci_device *device, unsigned bar, uint64_t address);

/*
 * The device is about to leave D0, or is back in it; lock held. In between, as long as the lock is
 * held, an access to a BAR waits: it finds a device that sleeps, or one that did not after all.
 */
void pci_device_set_asleep(struct pci_device *device, bool asleep);

/*
 * Bring what is decoded in line with the command register, the BARs' registers and the bridges above;
 * or decode nothing more. Lock held.
 */
void pci_device_update(struct pci_device *device);
void pci_device_undecode(struct pci_device *device);

/*
 * The guest's access, lock held; bytes beyond the end of the space read as ones. A write to a BAR or
 * the command register moves what is decoded.
 */
uint32_t pci_device_config_read(const struct pci_device *device, unsigned offset, unsigned size);
void pci_device_config_write(
	struct pci_device *device, unsigned offset, unsigned size, uint32_t value);

/* Little-endian fields of config[]; the caller knows that they are within it. */
uint16_t pci_get16(const struct pci_device *device, unsigned offset);
uint32_t pci_get32(const struct pci_device *device, unsigned offset);
void pci_set16(struct pci_device *device, unsigned offset, uint16_t value);
void pci_set32(struct pci_device *device, unsigned offset, uint32_t value);
/* Which bits of size bytes, up to four, a guest's write changes. */
void pci_set_writable(struct pci_device *device, unsigned offset, unsigned size, uint32_t mask);
