/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

#include <stdint.h>

/*
 * Option ROMs: the firmware that a card brings along (PCI Firmware Specification 3.3, chapter 5).
 * A ROM is a chain of images, for different kinds of machine; each starts with 55 AA and has a "PCIR"
 * structure. Contents come from a device or a file and are hostile.
 */

#define ROM_IMAGES_MAX 16
#define ROM_SIZE_MAX   (16u << 20) /* the largest expansion ROM BAR (PCI 3.0, 6.2.5.2) */

enum rom_type {
	ROM_TYPE_LEGACY = 0,
	ROM_TYPE_OPEN_FIRMWARE = 1,
	ROM_TYPE_PA_RISC = 2,
	ROM_TYPE_UEFI = 3,
};

/* What is wrong with an image, as bits. */
enum rom_problem {
	ROM_PROBLEM_CUT = 1 << 0,       /* it is said to be longer than the ROM */
	ROM_PROBLEM_CHECKSUM = 1 << 1,  /* legacy: the bytes do not add up to 0 */
	ROM_PROBLEM_INIT_SIZE = 1 << 2, /* the part that is run is empty or longer than the image */
	ROM_PROBLEM_NO_EFI = 1 << 3,    /* UEFI: its header lacks the signature or the program */
	ROM_PROBLEM_VENDOR = 1 << 4,    /* made for another vendor's device */
	ROM_PROBLEM_DEVICE = 1 << 5,    /* made for another device of the vendor */
	ROM_PROBLEM_CLASS = 1 << 6,     /* made for another class of device */
};
#define ROM_PROBLEMS 7

struct rom_image {
	size_t offset;
	size_t length;
	uint8_t type; /* enum rom_type, or what else the image says */
	uint16_t vendor, device;
	uint32_t class_code;
	uint16_t revision;    /* the vendor's */
	uint16_t efi_machine; /* UEFI: 0x8664 is x86-64, 0xaa64 is AArch64 */
	unsigned problems;    /* enum rom_problem */
};

struct rom {
	struct rom_image images[ROM_IMAGES_MAX];
	unsigned count;
	size_t used;     /* bytes up to the end of the last image */
	size_t shift;    /* where images would begin, when they do not at 0: a tool's header */
	char broken[96]; /* why the chain cannot be followed to its end; "": it can */
};

/* Follow the chain. device may be NULL; otherwise images must be for it. */
void rom_parse(struct rom *rom, const uint8_t *data, size_t size, const struct host_device *device);

/* Nothing is wrong with it, and there is an image. */
bool rom_is_good(const struct rom *rom);
bool rom_has(const struct rom *rom, enum rom_type type);

/* "legacy BIOS", "UEFI", ...; NULL for a type that no specification has. */
const char *rom_type_name(uint8_t type);

/* One problem in words. */
const char *rom_problem_text(enum rom_problem problem);
