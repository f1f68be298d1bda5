/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

/* How things are done on this host: for advice that can be typed as it is. */

/* "apt install NAME" or what this distribution has for it. */
void distribution_install(const struct host *host, const char *package, char *text, size_t size);

/* What has the kernel's command line. */
#define GRUB_DEFAULTS "/etc/default/grub"
#define CMDLINE       "/etc/kernel/cmdline"

enum loader {
	LOADER_OTHER,
	LOADER_GRUBBY,  /* Fedora's program, which changes all places that its kernels read */
	LOADER_GRUB,    /* GRUB_DEFAULTS */
	LOADER_CMDLINE, /* CMDLINE, from which kernel-install and others make entries and images */
	LOADER_ENTRIES, /* entries of the Boot Loader Specification that the user has written */
};

/* With the directory of the entries, or NULL. */
enum loader distribution_loader(const struct host *host, const char **entries);

/* The command that writes GRUB's configuration. */
const char *distribution_update_grub(const struct host *host);

#define DISTRIBUTION_COMMAND 256

/* The command that takes CMDLINE over into what the boot loader reads; "" where it is not known. */
void distribution_update_cmdline(
	const struct host *host, char command[static DISTRIBUTION_COMMAND]);

/* How to add words to the kernel's command line and take others away; either may be NULL. */
void distribution_cmdline(
	const struct host *host, const char *add, const char *remove, char *text, size_t size);

/* What makes the initramfs. */
enum initramfs_kind { INITRAMFS_TOOLS, INITRAMFS_DRACUT, INITRAMFS_MKINITCPIO };

struct initramfs {
	const char *name;
	const char *program;
	const char *installer[2]; /* is there where new kernels get their initramfs from it */
	const char *rebuild;      /* the command that makes those of all kernels anew */
};

/*
 * Of several that are installed, the one that new kernels get their initramfs from, and one of the others
 * or NULL. NULL: there is none.
 */
const struct initramfs *distribution_initramfs(
	const struct host *host, enum initramfs_kind *kind, const struct initramfs **other);
