/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "fixture.h"

#include "host/boot/apply.h"
#include "host/boot/boot.h"
#include "host/boot/state.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * A made-up host of Intel's with its IOMMU off, with GRUB, without Xorg. It has two graphics cards
 * with amdgpu: 2f:00.0, the boot display, with an audio function, and 32:00.0.
 */

#define PORT  "/sys/devices/pci0000:00/0000:00:01.0"
#define CARD  PORT "/0000:2f:00.0"
#define SOUND PORT "/0000:2f:00.1"
#define OTHER PORT "/0000:32:00.0"

#define GRUB "/etc/default/grub"

extern const struct bdf boot_card, boot_sound, boot_other, boot_port;
extern const char boot_grub[]; /* what GRUB has */

/* By which initramfs-tools, dracut and mkinitcpio are known. */
extern const char *const boot_programs[3];

/* program may be NULL, for a host without an initramfs. */
void boot_host_make(struct fixture *fixture, const char *program);

bool boot_host_has(const struct fixture *fixture, const char *path);

/* The content of a file, in a buffer of the function's; "" where there is none. */
const char *boot_host_content(const struct fixture *fixture, const char *path);
void boot_host_assert_contains(const struct fixture *fixture, const char *path, const char *text);

/* boot_make_plan() without force. */
int boot_host_plan(const struct fixture *fixture, const struct bdf *devices, size_t count,
	struct boot_plan *plan, struct error *err);
bool boot_host_has_note(const struct boot_plan *plan, const char *text);

/* A plan for one device, and boot_apply(). */
int boot_host_write(
	const struct fixture *fixture, const struct bdf *device, bool dry_run, struct error *err);

/* It must succeed. */
void boot_host_write_card(const struct fixture *fixture);

/* The number of files that are left as they are, or a negative errno. */
int boot_host_undo(const struct fixture *fixture);

/* All that is in the tree's etc, lib and usr, to be compared. */
struct snapshot {
	char *data;
	size_t size;
};

struct snapshot boot_host_take(const struct fixture *fixture);
bool boot_host_is_unchanged(const struct fixture *fixture, const struct snapshot *before);
