/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/boot/list.h"
#include "host/boot/words.h"
#include "host/device/device.h"

/* The first line of a configuration file that is penstock's. */
#define BOOT_COMMENT \
	"# Made by \"penstock boot-config\"; \"penstock boot-config --undo\" removes it.\n"

/* A file that the plan wants, or words in one. */
struct boot_file {
	const char *path; /* below the root */
	const char *why;
	enum boot_edit edit;
	unsigned mode; /* permissions, where the file is made */
	char *text;    /* the whole file, or the words */
};

struct boot_device {
	struct host_device device;
	bool companion; /* only because it shares the IOMMU group of another one */
};

#define BOOT_FILES_MAX 16

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

void boot_plan_free(struct boot_plan *plan);

/* What a plan is made of. They note in the plan when there is no memory. */
void boot_plan_note(struct boot_plan *plan, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A command to run after the files were written, and after they were put back. */
void boot_plan_next(struct boot_plan *plan, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void boot_plan_word(struct boot_plan *plan, const char *word);

bool boot_plan_has(const struct boot_plan *plan, const struct bdf *bdf);

/* Takes text, which is to be freed and may be NULL for want of memory. */
void boot_plan_file(struct boot_plan *plan, const struct boot_file *file);
