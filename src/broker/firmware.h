/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <limits.h>
#include <stdbool.h>

/*
 * Which firmware runs, and where its variables are kept. The distribution's images are found by their
 * descriptors, as libvirt and QEMU find them (docs/interop/firmware.json in QEMU): files in two directories, sorted by
 * name, the first that fits counts.
 */

/* In place of a file: whatever the distribution has. */
#define BROKER_FIRMWARE_UEFI "uefi"
#define BROKER_FIRMWARE_BIOS "bios"

struct broker_firmware {
	char code[PATH_MAX];
	bool bios;               /* it is one, and no UEFI firmware */
	char template[PATH_MAX]; /* of its variables; "": unknown */
	char nvram[PATH_MAX];    /* where they are kept, for messages */
	int code_fd;
	int nvram_fd; /* -1: the firmware does without a flash for them */
};

/*
 * Find and open a firmware, "uefi", "bios" or a file, and its variables: the file nvram, which is made where it is not
 * there, or NULL, and then they last as long as the broker. root is what the descriptors' directories are below,
 * "" but in tests. All that can be wrong with these files is an error. The descriptors start out as -1.
 */
int broker_firmware_open(struct broker_firmware *firmware, const char *root, const char *which,
	const char *nvram, struct error *err);
