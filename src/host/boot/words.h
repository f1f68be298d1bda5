/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stddef.h>

/* How a file comes to be what it should be. */
enum boot_edit {
	BOOT_WHOLE,   /* the file is penstock's */
	BOOT_GRUB,    /* words are added to GRUB_CMDLINE_LINUX_DEFAULT in a shell script */
	BOOT_CMDLINE, /* words are added to the file, which is a kernel command line */
	BOOT_ENTRY,   /* words are added to the options of a Boot Loader Specification entry */
};

#define BOOT_WORDS 256 /* bytes that hold what is added to a command line */

/*
 * Words in a kernel command line inside a file. Adding leaves out those that are there already;
 * words become those that were added. The result is to be freed. -EINVAL where the place for them
 * cannot be found.
 */
int boot_words_add(enum boot_edit edit, const char *text, const char *words, char **result,
	char added[static BOOT_WORDS]);
int boot_words_remove(enum boot_edit edit, const char *text, const char *words, char **result);
