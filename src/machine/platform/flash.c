/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/flash.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "machine/layout.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Commands; any other one ends what is under way. */
#define PROGRAM       0x10
#define PROGRAM_TOO   0x40
#define ERASE         0x20
#define ERASE_CONFIRM 0xd0
#define CLEAR_STATUS  0x50
#define READ_STATUS   0x70

/* The status register. */
#define STATUS_READY          0x80
#define STATUS_ERASE_FAILED   0x20
#define STATUS_PROGRAM_FAILED 0x10

/* Lock held, as for all that follows. */
static void show_variables(struct flash *flash)
{
	flash->slot =
		kvm_slot_map(flash->vm, flash->gpa, flash->size, flash->bytes, KVM_MEM_READONLY);
}

static void enter_flash_mode(struct flash *flash, enum flash_mode mode)
{
	if (mode != FLASH_ARRAY && flash->slot >= 0) {
		kvm_slot_unmap(flash->vm, flash->slot);
		flash->slot = -1;
	}
	flash->mode = mode;
}

/* First the file: what the guest sees has been kept. */
static void store(struct flash *flash, uint64_t offset, const void *bytes, size_t size, uint8_t bit)
{
	ssize_t done = pwrite(flash->fd, bytes, size, offset);

	flash->status |= STATUS_READY;
	if (done == (ssize_t)size) {
		memcpy(flash->bytes + offset, bytes, size);
		return;
	}
	flash->status |= bit;
	if (!flash->has_failed)
		log_warning("the file of firmware's variables cannot be written: %s",
			done < 0 ? strerror(errno) : "it is cut short");
	flash->has_failed = true;
}

static void erase(struct flash *flash, uint64_t offset)
{
	uint8_t block[FLASH_BLOCK];

	memset(block, 0xff, sizeof(block));
	store(flash, align_down(offset, FLASH_BLOCK), block, sizeof(block), STATUS_ERASE_FAILED);
}

static void take_command(struct flash *flash, uint8_t command)
{
	switch (command) {
	case PROGRAM:
	case PROGRAM_TOO:
		enter_flash_mode(flash, FLASH_PROGRAM);
		break;
	case ERASE:
		enter_flash_mode(flash, FLASH_ERASE);
		break;
	case READ_STATUS:
		enter_flash_mode(flash, FLASH_STATUS);
		break;
	case CLEAR_STATUS:
		flash->status = 0;
		enter_flash_mode(flash, FLASH_ARRAY);
		break;
	default:
		enter_flash_mode(flash, FLASH_ARRAY);
	}
}

static uint64_t flash_read(void *opaque, uint64_t offset, unsigned size)
{
	struct flash *flash = opaque;
	uint64_t value = 0;

	pthread_mutex_lock(&flash->lock);
	if (flash->mode == FLASH_ARRAY) {
		memcpy(&value, flash->bytes + offset, size);
		if (flash->slot < 0)
			show_variables(flash);
	} else {
		value = flash->status;
	}
	pthread_mutex_unlock(&flash->lock);
	return value;
}

static void flash_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct flash *flash = opaque;

	pthread_mutex_lock(&flash->lock);
	switch (flash->mode) {
	case FLASH_PROGRAM:
		store(flash, offset, &value, size, STATUS_PROGRAM_FAILED);
		enter_flash_mode(flash, FLASH_STATUS);
		break;
	case FLASH_ERASE:
		if ((value & 0xff) == ERASE_CONFIRM)
			erase(flash, offset);
		else
			flash->status |= STATUS_READY | STATUS_ERASE_FAILED |
					 STATUS_PROGRAM_FAILED; /* a wrong sequence */
		enter_flash_mode(flash, FLASH_STATUS);
		break;
	default:
		take_command(flash, value);
	}
	pthread_mutex_unlock(&flash->lock);
}

static const struct space_ops flash_ops = { flash_read, flash_write };

/* So much of it can be flash: whole blocks, and no more than there are addresses for. */
static int read_size(int fd, const char *name, uint64_t most, uint64_t *size, struct error *err)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return error_sys(err, -errno, name, "cannot be read");
	*size = stat.st_size;
	if (*size && *size % FLASH_BLOCK == 0 && *size <= most)
		return 0;
	return error_set(err, -EINVAL, name,
		"has %llu bytes; a flash is a multiple of %u, and %llu at most",
		(unsigned long long)*size, FLASH_BLOCK, (unsigned long long)most);
}

static int map_code(struct flash *flash, int fd, const char *name, struct error *err)
{
	int slot;

	if (read_size(fd, name, FLASH_MAX, &flash->code_size, err))
		return err->code;
	flash->code = mmap(NULL, flash->code_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (flash->code == MAP_FAILED) {
		flash->code = NULL;
		return error_sys(err, -errno, name, "cannot be mapped");
	}
	slot = kvm_slot_map(flash->vm, LAYOUT_4G - flash->code_size, flash->code_size, flash->code,
		KVM_MEM_READONLY);
	return slot < 0 ? error_sys(err, slot, name, "cannot be shown to the guest") : 0;
}

static int copy_variables(struct flash *flash, int fd, const char *name, struct error *err)
{
	if (read_size(fd, name, FLASH_MAX - flash->code_size, &flash->size, err))
		return err->code;
	flash->bytes =
		mmap(NULL, flash->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (flash->bytes == MAP_FAILED) {
		flash->bytes = NULL;
		return error_sys(err, -errno, name, "no memory for a copy");
	}
	if (fd_pread_all(fd, flash->bytes, flash->size, 0))
		return error_set(err, -EIO, name, "cannot be read to its end");
	flash->fd = fd;
	flash->gpa = LAYOUT_4G - flash->code_size - flash->size;
	return 0;
}

int flash_init(struct flash *flash, struct kvm_vm *vm, struct space *mmio, int code_fd,
	const char *code_name, int nvram_fd, const char *nvram_name, struct error *err)
{
	int code;

	*flash = (struct flash){ .vm = vm, .fd = -1, .slot = -1 };
	pthread_mutex_init(&flash->lock, NULL);
	if (map_code(flash, code_fd, code_name, err))
		return err->code;
	if (nvram_fd < 0)
		return 0;
	if (copy_variables(flash, nvram_fd, nvram_name, err))
		return err->code;
	code = space_add(mmio, flash->gpa, flash->size, &flash_ops, flash);
	if (code)
		return error_sys(err, code, nvram_name, "cannot be shown to the guest");
	show_variables(flash);
	return 0;
}

void flash_forget_code(const struct flash *flash)
{
	madvise(flash->code, flash->code_size, MADV_DONTNEED);
}

void flash_destroy(struct flash *flash)
{
	if (!flash->vm)
		return;
	if (flash->bytes)
		munmap(flash->bytes, flash->size);
	if (flash->code)
		munmap(flash->code, flash->code_size);
	pthread_mutex_destroy(&flash->lock);
}
