/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "machine/boot/boot.h"
#include "machine/memory_map.h"

/*
 * Load a Linux kernel by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst). The files
 * are hostile input: every field of the header is checked against the file and guest RAM.
 */

/* Registers for the first vCPU: see kvm_vcpu_enter_long_mode(). */
struct linux_entry {
	uint64_t cr3;
	uint64_t gdt;
	uint64_t rip;
	uint64_t rsi;
};

/* rsdp: the GPA of the ACPI tables' root. */
int linux_load(struct memory *memory, const struct boot_files *boot, const struct memory_map *map,
	uint64_t rsdp, struct linux_entry *entry, struct error *err);

/* For firmware: how much of the kernel is its real-mode part, its size, and that of the initrd. */
int linux_measure(const struct boot_files *boot, uint64_t *setup, uint64_t *size, uint64_t *initrd,
	struct error *err);
