/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/firmware.h"

#include "base/fd.h"
#include "base/size.h"
#include "broker/nvram.h"
#include "control/member.h"
#include "machine/platform/flash.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 64
#define DESCRIPTOR_MAX  (64 * KIB)

/* The administrator's, and the distribution's: one in the first hides one of the same name in the second. */
static const char *const directories[] = { "/etc/qemu/firmware", "/usr/share/qemu/firmware" };

struct descriptor {
	char name[NAME_MAX + 1];
	unsigned directory;
};

struct image {
	char code[PATH_MAX], template[PATH_MAX];
	bool fits; /* for a PC like this one: UEFI in a flash, or a BIOS in memory */
	bool bios;
	bool requires_smm;
};

/* Where distributions have SeaBIOS; not all describe it. */
static const char *const bios_files[] = { "/usr/share/seabios/bios-256k.bin",
	"/usr/share/qemu/bios-256k.bin" };

/* A CPU starts sixteen bytes before the end, where a BIOS jumps to its segment F000. */
#define BIOS_GRAIN (64 * KIB)
#define BIOS_START 16
#define FAR_JUMP   0xea

/* An array; NULL: there is none. */
static struct json_object *list_in(struct json_object *json, const char *key)
{
	struct json_object *list;

	return json_object_object_get_ex(json, key, &list) &&
			       json_object_is_type(list, json_type_array)
		       ? list
		       : NULL;
}

static bool has_text(struct json_object *list, const char *text, size_t length)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		const char *is = json_object_get_string(json_object_array_get_idx(list, i));

		if (is && strncmp(is, text, length) == 0)
			return true;
	}
	return false;
}

static bool suits_machine(struct json_object *json)
{
	struct json_object *targets = list_in(json, "targets");

	for (size_t i = 0; targets && i < json_object_array_length(targets); i++) {
		struct json_object *target = json_object_array_get_idx(targets, i);

		if (strcmp(member_text(target, "architecture", ""), "x86_64") == 0 &&
			has_text(list_in(target, "machines"), "pc-q35-", 7))
			return true;
	}
	return false;
}

static void read_file_name(struct json_object *mapping, const char *key, char name[static PATH_MAX])
{
	struct json_object *file;

	if (json_object_object_get_ex(mapping, key, &file) &&
		strcmp(member_text(file, "format", ""), "raw") == 0)
		snprintf(name, PATH_MAX, "%s", member_text(file, "filename", ""));
}

static void read_mapping(struct json_object *json, struct image *image)
{
	struct json_object *mapping;
	const char *mode;

	if (!json_object_object_get_ex(json, "mapping", &mapping))
		return;
	if (strcmp(member_text(mapping, "device", ""), "memory") == 0) {
		snprintf(image->code, PATH_MAX, "%s", member_text(mapping, "filename", ""));
		image->bios = true;
		return;
	}
	if (strcmp(member_text(mapping, "device", ""), "flash"))
		return;
	mode = member_text(mapping, "mode", "");
	if (*mode && strcmp(mode, "split"))
		return;
	read_file_name(mapping, "executable", image->code);
	read_file_name(mapping, "nvram-template", image->template);
}

/* One that cannot be read, or is none, fits nothing: an empty file hides another one on purpose. */
static void read_image(const char *path, struct image *image)
{
	cleanup_free char *text = malloc(DESCRIPTOR_MAX);
	struct json_object *json;

	*image = (struct image){ 0 };
	if (!text || fd_read_file(path, text, DESCRIPTOR_MAX) < 0)
		return;
	json = json_tokener_parse(text);
	if (!json)
		return;
	read_mapping(json, image);
	image->requires_smm = has_text(list_in(json, "features"), "requires-smm", SIZE_MAX);
	image->fits =
		image->code[0] && (image->bios || image->template[0]) && suits_machine(json) &&
		has_text(list_in(json, "interface-types"), image->bios ? "bios" : "uefi", SIZE_MAX);
	json_object_put(json);
}

static int compare_descriptors(const void *a, const void *b)
{
	const struct descriptor *one = a, *other = b;
	int by_name = strcmp(one->name, other->name);

	return by_name ? by_name : (int)one->directory - (int)other->directory;
}

static unsigned list_directory(
	const char *root, unsigned directory, struct descriptor *list, unsigned count)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s%s", root, directories[directory]);
	dir = opendir(path);
	while (dir && count < DESCRIPTORS_MAX && (entry = readdir(dir))) {
		const char *end = strrchr(entry->d_name, '.');

		if (!end || strcmp(end, ".json"))
			continue;
		snprintf(list[count].name, sizeof(list[count].name), "%s", entry->d_name);
		list[count++].directory = directory;
	}
	if (dir)
		closedir(dir);
	return count;
}

/* The images in the order in which they count. */
static unsigned list_images(const char *root, struct image *images)
{
	struct descriptor list[DESCRIPTORS_MAX];
	unsigned count = 0, found = 0;
	char path[PATH_MAX];

	for (unsigned i = 0; i < ARRAY_SIZE(directories); i++)
		count = list_directory(root, i, list, count);
	qsort(list, count, sizeof(list[0]), compare_descriptors);
	for (unsigned i = 0; i < count; i++) {
		if (i && strcmp(list[i].name, list[i - 1].name) == 0)
			continue;
		if (snprintf(path, sizeof(path), "%s%s/%s", root, directories[list[i].directory],
			    list[i].name) >= (int)sizeof(path))
			continue;
		read_image(path, &images[found]);
		found += images[found].fits;
	}
	return found;
}

static bool same_file(const char *a, const char *b)
{
	struct stat one, other;

	return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

/* By its name, or else by what file it is: several names may lead to one. */
static const struct image *find_by_name(
	const struct image *images, unsigned count, const char *file)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(images[i].code, file) == 0)
			return &images[i];
	for (unsigned i = 0; i < count; i++)
		if (same_file(images[i].code, file))
			return &images[i];
	return NULL;
}

static const struct image *first_usable(const struct image *images, unsigned count, bool bios)
{
	for (unsigned i = 0; i < count; i++)
		if (!images[i].requires_smm && images[i].bios == bios)
			return &images[i];
	return NULL;
}

/* Debian's names, for a copy that no descriptor names. */
static bool is_named_for_smm(const char *file)
{
	const char *name = strrchr(file, '/') ? strrchr(file, '/') : file;

	return strstr(name, ".secboot.") || strstr(name, ".ms.") || strstr(name, ".snakeoil.");
}

static int refuse_smm(const char *file, const struct image *instead, struct error *err)
{
	error_set(err, -ENOTSUP, file,
		"this firmware needs system management mode, which the machine has not: it would "
		"stop at its first instructions");
	error_hint(err, "take %s, which has Secure Boot without it%s",
		instead ? instead->code : "OVMF_CODE_4M.fd",
		instead ? ", or --firmware uefi" : " (Debian's package ovmf)");
	return err->code;
}

static int refuse_no_image(struct error *err)
{
	error_set(err, -ENOENT, NULL,
		"there is no UEFI firmware that runs here: none of the descriptors in %s and %s fits",
		directories[0], directories[1]);
	error_hint(err, "apt install ovmf, or name an image: --firmware FILE");
	return err->code;
}

static int refuse_no_bios(struct error *err)
{
	error_set(err, -ENOENT, NULL,
		"there is no BIOS: no descriptor in %s and %s has one, nor is %s there",
		directories[0], directories[1], bios_files[0]);
	error_hint(err, "apt install seabios, or name an image: --firmware FILE");
	return err->code;
}

static int choose_bios(struct broker_firmware *firmware, const char *root,
	const struct image *images, unsigned count, struct error *err)
{
	const struct image *chosen = first_usable(images, count, true);

	if (chosen) {
		snprintf(firmware->code, sizeof(firmware->code), "%s", chosen->code);
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bios_files); i++) {
		snprintf(firmware->code, sizeof(firmware->code), "%s%s", root, bios_files[i]);
		if (access(firmware->code, F_OK) == 0)
			return 0;
	}
	return refuse_no_bios(err);
}

static int choose_image(struct broker_firmware *firmware, const char *root, const char *which,
	struct image *images, struct error *err)
{
	unsigned count = list_images(root, images);
	const struct image *usable = first_usable(images, count, false), *chosen = usable;
	const char *file = chosen ? chosen->code : NULL;

	if (strcmp(which, BROKER_FIRMWARE_BIOS) == 0)
		return choose_bios(firmware, root, images, count, err);
	if (strcmp(which, BROKER_FIRMWARE_UEFI)) {
		file = which;
		chosen = find_by_name(images, count, which);
		if (chosen ? chosen->requires_smm : is_named_for_smm(which))
			return refuse_smm(which, usable, err);
	}
	if (!file)
		return refuse_no_image(err);
	snprintf(firmware->code, sizeof(firmware->code), "%s", file);
	snprintf(firmware->template, sizeof(firmware->template), "%s",
		chosen ? chosen->template : "");
	return 0;
}

static int not_firmware(const char *file, const char *why, struct error *err)
{
	error_set(err, -EINVAL, file, "is no firmware: %s", why);
	error_hint(err,
		"an image is, for instance, /usr/share/OVMF/OVMF_CODE_4M.fd or %s; 'uefi' and 'bios' "
		"find the distribution's",
		bios_files[0]);
	return err->code;
}

static bool starts_as_bios(const uint8_t start[static BIOS_START])
{
	return start[0] == FAR_JUMP && start[3] == 0x00 && start[4] == 0xf0;
}

/* UEFI firmware begins with a firmware volume, and a BIOS ends where the CPU starts. */
static int check_code(struct broker_firmware *firmware, uint64_t size, struct error *err)
{
	const char *file = firmware->code;
	uint8_t head[NVRAM_HEAD], start[BIOS_START];

	if (fd_pread_all(firmware->code_fd, head, sizeof(head), 0) ||
		fd_pread_all(firmware->code_fd, start, sizeof(start), size - sizeof(start)))
		return error_set(err, -EIO, file, "cannot be read");
	if (nvram_is_whole(head, size))
		return not_firmware(file, "it holds variables and no code", err);
	if (nvram_is_volume(head))
		return 0;
	firmware->bios = starts_as_bios(start);
	if (!firmware->bios)
		return not_firmware(file,
			"it does not begin with a firmware volume, as UEFI does, nor does it end as a "
			"BIOS",
			err);
	return size % BIOS_GRAIN ? not_firmware(file, "a BIOS has a multiple of 64 KiB", err) : 0;
}

static int open_code(struct broker_firmware *firmware, struct error *err)
{
	const char *file = firmware->code;
	struct stat stat;

	firmware->code_fd = fd_open_regular(file);
	if (firmware->code_fd < 0 || fstat(firmware->code_fd, &stat) < 0) {
		error_sys(err, firmware->code_fd < 0 ? firmware->code_fd : -errno, file,
			"cannot open the firmware");
		error_hint(err,
			"ls -l %s shows what is there; 'uefi' and 'bios' find the distribution's",
			file);
		return err->code;
	}
	if (!stat.st_size || stat.st_size % FLASH_BLOCK || stat.st_size > (off_t)FLASH_MAX)
		return not_firmware(
			file, "its size is no multiple of 4 KiB from 4 KiB to 16 MiB", err);
	return check_code(firmware, stat.st_size, err);
}

/* A word for a kind is kept: no descriptor makes the one of the other. */
static int check_kind(const struct broker_firmware *firmware, const char *which, const char *nvram,
	struct error *err)
{
	const char *file = firmware->code;

	if (strcmp(which, BROKER_FIRMWARE_BIOS) == 0 && !firmware->bios)
		return not_firmware(file, "a descriptor calls it a BIOS, but it is UEFI's", err);
	if (strcmp(which, BROKER_FIRMWARE_UEFI) == 0 && firmware->bios)
		return not_firmware(file, "a descriptor calls it UEFI's, but it is a BIOS", err);
	if (!firmware->bios || !nvram)
		return 0;
	error_set(
		err, -EINVAL, file, "this is a BIOS, and has no variables to be kept in %s", nvram);
	error_hint(err, "leave out --nvram, or take --firmware uefi");
	return err->code;
}

int broker_firmware_open(struct broker_firmware *firmware, const char *root, const char *which,
	const char *nvram, struct error *err)
{
	cleanup_free struct image *images = calloc(DESCRIPTORS_MAX, sizeof(*images));
	const char *template;

	if (!images)
		return error_sys(err, -ENOMEM, NULL, "cannot look for firmware");
	if (choose_image(firmware, root, which, images, err) || open_code(firmware, err) ||
		check_kind(firmware, which, nvram, err) || firmware->bios)
		return err->code;
	template = firmware->template[0] ? firmware->template : NULL;
	snprintf(firmware->nvram, sizeof(firmware->nvram), "%s",
		nvram      ? nvram
		: template ? template
			   : "");
	firmware->nvram_fd = nvram ? nvram_open(nvram, template, err) : nvram_copy(template, err);
	return err->code;
}
