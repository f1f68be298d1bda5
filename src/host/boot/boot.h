/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * Binding devices to vfio-pci when the host boots, before its own drivers load.
 *
 * A hook in the initramfs does it by address, through driver_override: binding by vendor and
 * device takes every device of that kind. The hook compares vendor and device all the same, as
 * adding a card can move others to new addresses. With penstock.bind=off on the kernel's command
 * line it does nothing, so that a host that does not come up can be started without it.
 *
 * Files are read and written below the host's root. What they were before is kept in BOOT_STATE,
 * so that it can be put back byte for byte.
 */

#define BOOT_STATE "/var/lib/penstock/boot-config.json"

/* How a file comes to be what it should be. */
enum boot_edit {
	BOOT_WHOLE,   /* the file is penstock's */
	BOOT_GRUB,    /* words are added to GRUB_CMDLINE_LINUX_DEFAULT in a shell script */
	BOOT_CMDLINE, /* words are added to the file, which is a kernel command line */
	BOOT_ENTRY,   /* words are added to the options of a Boot Loader Specification entry */
};

struct boot_file {
	const char *path; /* below the root */
	const char *why;
	enum boot_edit edit;
	unsigned mode; /* permissions, where the file is made */
	char *text;    /* the whole file, or the words */
};

struct boot_list {
	char **items;
	size_t count;
};

struct boot_device {
	struct host_device device;
	bool companion; /* only because it shares the IOMMU group of another one */
};

#define BOOT_FILES_MAX 16
#define BOOT_WORDS     256

/* What is to be on this host. */
struct boot_plan {
	struct boot_device *devices;
	size_t device_count;
	struct boot_file files[BOOT_FILES_MAX];
	size_t file_count;
	struct boot_list entries; /* the paths of the boot loader's, if files are among them */
	char words[BOOT_WORDS];   /* for the kernel's command line */
	struct boot_list notes;   /* what the user should know */
	struct boot_list next;    /* the commands to run when the files are written */
	struct boot_list undo;    /* and when they are gone again */
	bool out_of_memory;
};

/*
 * Devices that the host uses (a mounted disk, a route) are refused without force. The plan is freed
 * by boot_plan_free(), also after a failure.
 */
int boot_plan_make(struct boot_plan *plan, const struct host *host, const struct bdf *devices,
	size_t count, bool force, struct error *err);
void boot_plan_free(struct boot_plan *plan);

struct boot_bytes {
	char *data; /* NULL: there is no such file */
	size_t size;
};

/* One file, as it was found and as it should be. */
struct boot_change {
	char *path;
	const char *why; /* NULL: it is no longer needed */
	enum boot_edit edit;
	unsigned mode; /* permissions, those of the file that was found before those of the plan */
	char *words;   /* that are added to a file of others */
	struct boot_bytes now, wanted;
	struct boot_bytes original; /* as it is without penstock */
	bool edited;                /* somebody has changed it since penstock wrote it */
	bool left;                  /* and that is why it is left as it is */
};

struct boot_result {
	struct boot_change *changes;
	size_t count;
	struct boot_list next;
};

/*
 * Make the host's files as the plan wants them, whatever plan was there before, or with NULL as
 * they were before the first. Either all files are changed or none.
 *
 * A file that somebody has changed in between keeps these changes: from a file of others, only
 * penstock's words are taken out; one of penstock's own is left, or with a plan -EEXIST is
 * returned.
 *
 * The result is freed by boot_result_free(), also after a failure.
 */
int boot_apply(const struct host *host, const struct boot_plan *plan, bool dry_run,
	struct boot_result *result, struct error *err);
void boot_result_free(struct boot_result *result);

/* Do they hold the same, or are both no file? */
bool boot_bytes_equal(const struct boot_bytes *a, const struct boot_bytes *b);
