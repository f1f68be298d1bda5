/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/vm.h"
#include "pci/space.h"

#include <pthread.h>

/*
 * The flash below 4 GiB: firmware's code, which the guest can only read, and its variables below that, where
 * there is a file for them. Those are written by the commands of a byte-wide CFI flash (Intel's command set,
 * JEDEC JEP137 0001). As long as no command is under way (array mode) they are a read-only memory slot, and
 * only writes come here; otherwise reads do, too. The slot comes back with the first read that finds none:
 * firmware writes a variable in a dozen pieces and reads none of it back, and KVM takes long to change a slot. What is
 * written is in the file when the command is done.
 */

#define FLASH_BLOCK 4096          /* is erased at once */
#define FLASH_MAX   (16ULL << 20) /* of code and variables; below them are the local APICs */

enum flash_mode {
	FLASH_ARRAY,
	FLASH_STATUS,
	FLASH_PROGRAM, /* the next write is the byte */
	FLASH_ERASE,   /* the next write confirms it */
};

struct flash {
	struct kvm_vm *vm;
	uint64_t code_size, size; /* of code, of variables; 0: there are none */
	uint8_t *code;            /* mapped from the file */
	uint8_t *bytes;           /* of the variables, a copy */
	uint64_t gpa;             /* of the variables */
	int fd;                   /* of their file; the caller's */
	pthread_mutex_t lock;     /* for what follows, and bytes */
	enum flash_mode mode;
	uint8_t status;
	int slot; /* -1: reads are trapped */
	bool has_failed;
};

/*
 * Show code_fd up to 4 GiB, and nvram_fd, if it is not -1, below it. Both files are hostile: their sizes are
 * checked, and nothing else of them means anything here. nvram_fd outlives the flash.
 */
int flash_init(struct flash *flash, struct kvm_vm *vm, struct space *mmio, int code_fd,
	const char *code_name, int nvram_fd, const char *nvram_name, struct error *err);
/*
 * Firmware has unpacked itself to RAM. Pages of its code are none of this process' any more, and come back from the
 * file where the guest reads them again, as after a reset.
 */
void flash_forget_code(const struct flash *flash);
/* The guest does not run any more. One that was not made is left alone. */
void flash_destroy(struct flash *flash);
