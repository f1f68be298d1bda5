/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "machine/memory.h"

/*
 * Load a Linux kernel by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst). The files
 * are hostile input: every field of the header is checked against the file and guest RAM.
 */

struct linux_boot {
	int kernel_fd;
	const char *kernel_name; /* for messages */
	int initrd_fd;           /* -1: none */
	const char *initrd_name;
	const char *cmdline;
	uint64_t ecam_size; /* bytes at LAYOUT_ECAM that are no RAM to the guest */
	uint64_t rsdp;      /* GPA of the ACPI tables' root */
};

/* Registers for the first vCPU: see kvm_vcpu_enter_long_mode(). */
struct linux_entry {
	uint64_t cr3;
	uint64_t gdt;
	uint64_t rip;
	uint64_t rsi;
};

int linux_load(struct memory *memory, const struct linux_boot *boot, struct linux_entry *entry,
	struct error *err);
