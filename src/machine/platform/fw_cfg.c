/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/fw_cfg.h"

#include "base/fd.h"
#include "base/size.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#define SELECTOR 0 /* offsets of the ports */
#define DATA     1
#define DMA_HIGH 4
#define DMA_LOW  8

#define KEY_SIGNATURE 0x00
#define KEY_FEATURES  0x01
#define KEY_DIRECTORY 0x19
#define KEY_FILES     0x20

#define FEATURES      3                     /* the traditional interface, and DMA */
#define DMA_SIGNATURE 0x51454d5520434647ULL /* "QEMU CFG" */

#define CONTROL_ERROR  0x01
#define CONTROL_READ   0x02
#define CONTROL_SKIP   0x04
#define CONTROL_SELECT 0x08
#define CONTROL_WRITE  0x10

/* A transfer, in big-endian numbers; control becomes the answer. */
struct dma {
	uint32_t control;
	uint32_t length;
	uint64_t address;
} __attribute__((packed));

static struct fw_cfg_item *find_item(struct fw_cfg *fw_cfg, uint16_t key)
{
	for (unsigned i = 0; i < fw_cfg->item_count; i++)
		if (fw_cfg->items[i].key == key)
			return &fw_cfg->items[i];
	return NULL;
}

/* Lock held, as for all that follows. */
static void select_item(struct fw_cfg *fw_cfg, uint16_t key)
{
	fw_cfg->selected = find_item(fw_cfg, key);
	fw_cfg->position = 0;
	if (fw_cfg->selected && fw_cfg->selected->refresh)
		fw_cfg->selected->refresh(fw_cfg->selected->opaque);
}

/* What is left of the selected item, so much at most; the position moves on by size. */
static uint64_t skip_bytes(struct fw_cfg *fw_cfg, uint64_t size)
{
	const struct fw_cfg_item *item = fw_cfg->selected;
	uint64_t left = item && item->size > fw_cfg->position ? item->size - fw_cfg->position : 0;

	fw_cfg->position += size;
	return min_u64(left, size);
}

/* Zeros follow the item's end. False: its file cannot be read. */
static bool copy_out(struct fw_cfg *fw_cfg, uint8_t *to, uint64_t size)
{
	const struct fw_cfg_item *item = fw_cfg->selected;
	uint64_t at = fw_cfg->position;
	uint64_t there = skip_bytes(fw_cfg, size);
	bool good = true;

	if (there && item->bytes)
		memcpy(to, item->bytes + at, there);
	else if (there)
		good = fd_pread_all(item->fd, to, there, item->offset + at) == 0;
	memset(to + there, 0, size - there);
	return good;
}

/* Guest RAM, made present first: an error where the host has none left, and not a signal. */
static void *reach(struct fw_cfg *fw_cfg, uint64_t gpa, uint64_t size)
{
	struct error err = { 0 };

	if (!memory_at(fw_cfg->memory, gpa, size) ||
		memory_populate(fw_cfg->memory, gpa, size, &err))
		return NULL;
	return memory_at(fw_cfg->memory, gpa, size);
}

static uint32_t transfer(struct fw_cfg *fw_cfg, const struct dma *dma)
{
	uint32_t control = be32toh(dma->control), length = be32toh(dma->length);
	uint8_t *to;

	if (control & CONTROL_SELECT)
		select_item(fw_cfg, control >> 16);
	if (control & CONTROL_READ) {
		to = length ? reach(fw_cfg, be64toh(dma->address), length) : NULL;
		return !length || (to && copy_out(fw_cfg, to, length)) ? 0 : CONTROL_ERROR;
	}
	if (control & CONTROL_WRITE)
		return CONTROL_ERROR;
	if (control & CONTROL_SKIP)
		skip_bytes(fw_cfg, length);
	return 0;
}

static void start_dma(struct fw_cfg *fw_cfg, uint64_t gpa)
{
	uint8_t *at = reach(fw_cfg, gpa, sizeof(struct dma));
	struct dma dma;
	uint32_t answer;

	if (!at)
		return;
	memcpy(&dma, at, sizeof(dma)); /* once: other vCPUs may write there */
	answer = htobe32(transfer(fw_cfg, &dma));
	memcpy(at, &answer, sizeof(answer));
}

static uint64_t fw_cfg_read(void *opaque, uint64_t offset, unsigned size)
{
	struct fw_cfg *fw_cfg = opaque;
	uint64_t signature = htobe64(DMA_SIGNATURE);
	uint8_t byte = 0xff;

	if (offset >= DMA_HIGH)
		return signature >> 8 * (offset - DMA_HIGH);
	if (offset != DATA || size != 1)
		return UINT64_MAX;
	pthread_mutex_lock(&fw_cfg->lock);
	copy_out(fw_cfg, &byte, 1);
	pthread_mutex_unlock(&fw_cfg->lock);
	return byte;
}

static void fw_cfg_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct fw_cfg *fw_cfg = opaque;

	pthread_mutex_lock(&fw_cfg->lock);
	if (offset == SELECTOR && size == 2)
		select_item(fw_cfg, value);
	if (offset == DMA_HIGH && size == 4)
		fw_cfg->dma_high = be32toh((uint32_t)value);
	if (offset == DMA_LOW && size == 4) {
		start_dma(fw_cfg, (uint64_t)fw_cfg->dma_high << 32 | be32toh((uint32_t)value));
		fw_cfg->dma_high = 0;
	}
	pthread_mutex_unlock(&fw_cfg->lock);
}

static const struct space_ops fw_cfg_ops = { fw_cfg_read, fw_cfg_write };

static struct fw_cfg_item *add_item(struct fw_cfg *fw_cfg, uint16_t key)
{
	struct fw_cfg_item *item = &fw_cfg->items[fw_cfg->item_count++];

	*item = (struct fw_cfg_item){ .key = key, .fd = -1 };
	return item;
}

void fw_cfg_add(struct fw_cfg *fw_cfg, uint16_t key, const void *bytes, uint64_t size)
{
	struct fw_cfg_item *item = add_item(fw_cfg, key);

	item->bytes = bytes;
	item->size = size;
}

void fw_cfg_add_number(struct fw_cfg *fw_cfg, uint16_t key, uint32_t number, unsigned size)
{
	struct fw_cfg_item *item = add_item(fw_cfg, key);

	item->number = htole32(number);
	item->bytes = (const uint8_t *)&item->number;
	item->size = size;
}

void fw_cfg_add_fd(struct fw_cfg *fw_cfg, uint16_t key, int fd, uint64_t offset, uint64_t size)
{
	struct fw_cfg_item *item = add_item(fw_cfg, key);

	item->fd = fd;
	item->offset = offset;
	item->size = size;
}

void fw_cfg_add_file(struct fw_cfg *fw_cfg, const char *name, const void *bytes, uint32_t size,
	void (*refresh)(void *opaque), void *opaque)
{
	uint16_t key = KEY_FILES + fw_cfg->file_count;
	struct fw_cfg_file *file = &fw_cfg->directory.files[fw_cfg->file_count++];
	struct fw_cfg_item *item = add_item(fw_cfg, key);

	item->bytes = bytes;
	item->size = size;
	item->refresh = refresh;
	item->opaque = opaque;
	*file = (struct fw_cfg_file){ .size = htobe32(size), .key = htobe16(key) };
	snprintf(file->name, sizeof(file->name), "%s", name);
	fw_cfg->directory.count = htobe32(fw_cfg->file_count);
}

int fw_cfg_init(struct fw_cfg *fw_cfg, struct space *pio, struct memory *memory)
{
	*fw_cfg = (struct fw_cfg){ .memory = memory };
	pthread_mutex_init(&fw_cfg->lock, NULL);
	fw_cfg_add(fw_cfg, KEY_SIGNATURE, "QEMU", 4);
	fw_cfg_add_number(fw_cfg, KEY_FEATURES, FEATURES, 4);
	fw_cfg_add(fw_cfg, KEY_DIRECTORY, &fw_cfg->directory, sizeof(fw_cfg->directory));
	select_item(fw_cfg, KEY_SIGNATURE);
	return space_add(pio, FW_CFG_PORT, FW_CFG_PORTS, &fw_cfg_ops, fw_cfg);
}
