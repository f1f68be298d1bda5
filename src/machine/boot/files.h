/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>

/* The files that a machine starts from, open, and what they are called. */
struct boot_files {
	int firmware_fd;           /* -1: the kernel runs first */
	const char *firmware_name; /* for messages, as the others */
	bool bios;                 /* that is one, and no UEFI firmware */
	int nvram_fd;              /* firmware's variables; -1: it has to do without */
	const char *nvram_name;
	int kernel_fd; /* -1: none, which firmware can do without */
	const char *kernel_name;
	int initrd_fd; /* -1: none */
	const char *initrd_name;
	const char *cmdline;
};
