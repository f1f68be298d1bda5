/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/rom/rom.h"

#include "base/size.h"

#include <stdio.h>
#include <string.h>

#define UNIT          512 /* lengths are counted in these */
#define AT_INIT_SIZE  0x02
#define AT_EFI_MAGIC  0x04
#define AT_EFI_KIND   0x0a
#define AT_EFI_START  0x16
#define AT_PCIR       0x18
#define HEADER_SIZE   0x1a
#define EFI_SIGNATURE 0x0ef1

/* The PCI Data Structure. */
#define PCIR_VENDOR      0x04
#define PCIR_DEVICE      0x06
#define PCIR_DEVICE_LIST 0x08 /* revision 3: where more device IDs are, from the structure on */
#define PCIR_LENGTH      0x0a
#define PCIR_REVISION    0x0c
#define PCIR_CLASS       0x0d
#define PCIR_IMAGE_SIZE  0x10
#define PCIR_CODE_REV    0x12
#define PCIR_TYPE        0x14
#define PCIR_INDICATOR   0x15
#define PCIR_SIZE        0x18
#define LAST_IMAGE       0x80

/* An image's bytes, and after them all that follows in the ROM. */
struct bytes {
	const uint8_t *data;
	size_t size;
};

/* The caller has checked that they are there. */
static uint32_t get_number(struct bytes bytes, size_t at, unsigned count)
{
	uint32_t value = 0;

	while (count--)
		value = value << 8 | bytes.data[at + count];
	return value;
}

static bool has_bytes(struct bytes bytes, size_t at, size_t count)
{
	return at <= bytes.size && bytes.size - at >= count;
}

/* The place of the PCI Data Structure, 0 where there is none. */
static size_t find_pcir(struct bytes image)
{
	size_t at;

	if (!has_bytes(image, 0, HEADER_SIZE) || get_number(image, 0, 2) != 0xaa55)
		return 0;
	at = get_number(image, AT_PCIR, 2);
	if (at < HEADER_SIZE || !has_bytes(image, at, PCIR_SIZE) ||
		memcmp(image.data + at, "PCIR", 4))
		return 0;
	return at;
}

/* The sum runs over the part that is copied and run, which the image's third byte counts. */
static unsigned check_legacy(struct bytes image, const struct rom_image *info)
{
	size_t size = get_number(image, AT_INIT_SIZE, 1) * UNIT;
	uint8_t sum = 0;

	if (!size || size > info->length)
		return ROM_PROBLEM_INIT_SIZE;
	if (!has_bytes(image, 0, size))
		return 0; /* cut, and told so */
	for (size_t i = 0; i < size; i++)
		sum += image.data[i];
	return sum ? ROM_PROBLEM_CHECKSUM : 0;
}

/* UEFI Specification 2.10, 14.4.2.1: the header, and the program at an offset that it gives. */
static unsigned check_efi(struct bytes image, struct rom_image *info)
{
	size_t size = get_number(image, AT_INIT_SIZE, 2) * UNIT;
	size_t start = get_number(image, AT_EFI_START, 2);

	if (get_number(image, AT_EFI_MAGIC, 4) != EFI_SIGNATURE || start < HEADER_SIZE ||
		start >= info->length)
		return ROM_PROBLEM_NO_EFI;
	info->efi_machine = get_number(image, AT_EFI_KIND, 2);
	return !size || size > info->length ? ROM_PROBLEM_INIT_SIZE : 0;
}

/* A list of more IDs ends with 0. */
static bool lists_id(struct bytes image, size_t pcir, uint16_t id)
{
	size_t at = pcir + get_number(image, pcir + PCIR_DEVICE_LIST, 2);

	if (image.data[pcir + PCIR_REVISION] < 3 || at == pcir)
		return false;
	for (; has_bytes(image, at, 2) && get_number(image, at, 2); at += 2)
		if (get_number(image, at, 2) == id)
			return true;
	return false;
}

static unsigned check_ids(struct bytes image, size_t pcir, const struct rom_image *info,
	const struct host_device *device)
{
	unsigned problems = 0;

	if (info->vendor != device->vendor)
		problems |= ROM_PROBLEM_VENDOR;
	else if (info->device != device->device && !lists_id(image, pcir, device->device))
		problems |= ROM_PROBLEM_DEVICE;
	/* The programming interface may differ, and cards of one ID can be VGA or another display. */
	if (info->class_code >> 16 != device->class_code >> 16)
		problems |= ROM_PROBLEM_CLASS;
	return problems;
}

static void parse_image(
	struct rom_image *info, struct bytes image, size_t pcir, const struct host_device *device)
{
	info->length = get_number(image, pcir + PCIR_IMAGE_SIZE, 2) * UNIT;
	info->type = image.data[pcir + PCIR_TYPE];
	info->vendor = get_number(image, pcir + PCIR_VENDOR, 2);
	info->device = get_number(image, pcir + PCIR_DEVICE, 2);
	info->class_code = get_number(image, pcir + PCIR_CLASS, 3);
	info->revision = get_number(image, pcir + PCIR_CODE_REV, 2);
	if (info->length > image.size)
		info->problems |= ROM_PROBLEM_CUT;
	if (info->type == ROM_TYPE_LEGACY)
		info->problems |= check_legacy(image, info);
	if (info->type == ROM_TYPE_UEFI)
		info->problems |= check_efi(image, info);
	if (device)
		info->problems |= check_ids(image, pcir, info, device);
}

/* Files of some flashing tools have a header of their own in front. */
static size_t find_shift(struct bytes rom)
{
	for (size_t at = 4; at + HEADER_SIZE < rom.size; at += 4)
		if (find_pcir((struct bytes){ rom.data + at, rom.size - at }))
			return at;
	return 0;
}

static void explain_none(struct rom *rom, struct bytes bytes)
{
	char *text = rom->broken;
	size_t size = sizeof(rom->broken);

	rom->shift = find_shift(bytes);
	if (rom->shift)
		snprintf(text, size, "the ROM begins only at byte %zu, after something else",
			rom->shift);
	else if (!has_bytes(bytes, 0, 2) || get_number(bytes, 0, 2) != 0xaa55)
		snprintf(text, size, "it does not begin with 55 aa, but with %02x %02x",
			bytes.data[0], bytes.size > 1 ? bytes.data[1] : 0);
	else
		snprintf(text, size, "there is no PCI data structure (PCIR) where the header says");
}

/* The image at rom->used. Does another one follow? */
static bool next_image(struct rom *rom, struct bytes all, const struct host_device *device)
{
	struct bytes image = { all.data + rom->used, all.size - rom->used };
	size_t pcir = find_pcir(image);
	struct rom_image *info;

	if (!pcir && !rom->count)
		explain_none(rom, all);
	else if (!pcir)
		snprintf(rom->broken, sizeof(rom->broken),
			"no image at byte %zu, though the one before says that it is not the last",
			rom->used);
	else if (rom->count == ROM_IMAGES_MAX)
		snprintf(rom->broken, sizeof(rom->broken), "there are more than %d images",
			ROM_IMAGES_MAX);
	if (rom->broken[0])
		return false;
	info = &rom->images[rom->count++];
	*info = (struct rom_image){ .offset = rom->used };
	parse_image(info, image, pcir, device);
	if (!info->length)
		snprintf(rom->broken, sizeof(rom->broken), "the image at byte %zu has no length",
			info->offset);
	rom->used += min_u64(info->length, image.size);
	return info->length && !(image.data[pcir + PCIR_INDICATOR] & LAST_IMAGE);
}

void rom_parse(struct rom *rom, const uint8_t *data, size_t size, const struct host_device *device)
{
	*rom = (struct rom){ 0 };
	if (!size) {
		snprintf(rom->broken, sizeof(rom->broken), "it is empty");
		return;
	}
	while (next_image(rom, (struct bytes){ data, size }, device))
		;
}

bool rom_is_good(const struct rom *rom)
{
	for (unsigned i = 0; i < rom->count; i++)
		if (rom->images[i].problems)
			return false;
	return rom->count && !rom->broken[0];
}

bool rom_has(const struct rom *rom, enum rom_type type)
{
	for (unsigned i = 0; i < rom->count; i++)
		if (rom->images[i].type == type)
			return true;
	return false;
}

const char *rom_type_name(uint8_t type)
{
	static const char *const names[] = {
		[ROM_TYPE_LEGACY] = "legacy BIOS",
		[ROM_TYPE_OPEN_FIRMWARE] = "Open Firmware",
		[ROM_TYPE_PA_RISC] = "HP PA-RISC",
		[ROM_TYPE_UEFI] = "UEFI",
	};

	return type < ARRAY_SIZE(names) ? names[type] : NULL;
}

const char *rom_problem_text(enum rom_problem problem)
{
	switch (problem) {
	case ROM_PROBLEM_CUT:
		return "the ROM ends before this image does";
	case ROM_PROBLEM_CHECKSUM:
		return "its checksum is wrong";
	case ROM_PROBLEM_INIT_SIZE:
		return "the size of the part that is run does not fit the image";
	case ROM_PROBLEM_NO_EFI:
		return "it says UEFI, but has no EFI header";
	case ROM_PROBLEM_VENDOR:
		return "it is for a device of another vendor";
	case ROM_PROBLEM_DEVICE:
		return "it is for another device";
	case ROM_PROBLEM_CLASS:
		return "it is for another class of device";
	}
	return "unknown";
}
