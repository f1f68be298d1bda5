/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/memory.h"
#include "pci/space.h"

#include <pthread.h>
#include <stdbool.h>

/*
 * QEMU's fw_cfg, by which firmware asks what the machine is (docs/specs/fw_cfg in QEMU): items by number, some of
 * which have a name in a directory. They are read byte by byte at a port, or by DMA into guest RAM; nothing can
 * be written.
 */

#define FW_CFG_PORT  0x510
#define FW_CFG_PORTS 12 /* selector, data at the next one, and from 514 on the DMA's address */

/* Items that have numbers of their own. */
#define FW_CFG_CPUS         0x05
#define FW_CFG_KERNEL_SIZE  0x08
#define FW_CFG_INITRD_SIZE  0x0b
#define FW_CFG_CPUS_MAX     0x0f
#define FW_CFG_KERNEL       0x11
#define FW_CFG_INITRD       0x12
#define FW_CFG_CMDLINE_SIZE 0x14
#define FW_CFG_CMDLINE      0x15
#define FW_CFG_SETUP_SIZE   0x17
#define FW_CFG_SETUP        0x18

#define FW_CFG_NAME      56 /* with the end */
#define FW_CFG_ITEMS_MAX 32
#define FW_CFG_FILES_MAX 12

struct fw_cfg_item {
	uint16_t key;
	const uint8_t *bytes; /* NULL: they are in a file */
	int fd;
	uint64_t offset, size;
	uint32_t number; /* what bytes may point to */
	/* It has been selected: bytes are now to be what they should be. May be NULL. */
	void (*refresh)(void *opaque);
	void *opaque;
};

/* As the guest reads it, in big-endian numbers. */
struct fw_cfg_file {
	uint32_t size;
	uint16_t key, reserved;
	char name[FW_CFG_NAME];
} __attribute__((packed));

struct fw_cfg {
	struct memory *memory;
	struct fw_cfg_item items[FW_CFG_ITEMS_MAX];
	unsigned item_count;
	struct {
		uint32_t count;
		struct fw_cfg_file files[FW_CFG_FILES_MAX];
	} __attribute__((packed)) directory;
	unsigned file_count;
	pthread_mutex_t lock; /* for what follows; held while an item is refreshed */
	struct fw_cfg_item *selected;
	uint64_t position; /* in it */
	uint32_t dma_high;
};

int fw_cfg_init(struct fw_cfg *fw_cfg, struct space *pio, struct memory *memory);

/* Before the guest runs. Bytes and files are the caller's, and outlive it. */
void fw_cfg_add(struct fw_cfg *fw_cfg, uint16_t key, const void *bytes, uint64_t size);
void fw_cfg_add_number(struct fw_cfg *fw_cfg, uint16_t key, uint32_t number, unsigned size);
void fw_cfg_add_fd(struct fw_cfg *fw_cfg, uint16_t key, int fd, uint64_t offset, uint64_t size);
/* In the directory. refresh may be NULL. */
void fw_cfg_add_file(struct fw_cfg *fw_cfg, const char *name, const void *bytes, uint32_t size,
	void (*refresh)(void *opaque), void *opaque);
