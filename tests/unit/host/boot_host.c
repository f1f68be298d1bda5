/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "boot_host.h"

#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

const struct bdf boot_card = { 0, 0x2f, 0, 0 };
const struct bdf boot_sound = { 0, 0x2f, 0, 1 };
const struct bdf boot_other = { 0, 0x32, 0, 0 };
const struct bdf boot_port = { 0, 0, 1, 0 };

const char *const boot_programs[3] = { "/usr/sbin/mkinitramfs", "/usr/bin/dracut",
	"/usr/bin/mkinitcpio" };

const char boot_grub[] = "GRUB_DEFAULT=0\n"
			 "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"\n"
			 "GRUB_CMDLINE_LINUX=\"\"\n";

/* All of a tree as text: names, types, permissions, contents. */

static void take_file(FILE *stream, const char *path)
{
	FILE *file = fopen(path, "r");
	int c;

	assert_non_null(file);
	while ((c = getc(file)) != EOF)
		putc(c, stream);
	fclose(file);
}

static void take_tree(FILE *stream, const char *path)
{
	struct dirent **entries;
	int count = scandir(path, &entries, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		char name[PATH_MAX], target[256];
		struct stat stat;
		ssize_t got;

		snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		if (strcmp(entries[i]->d_name, ".") && strcmp(entries[i]->d_name, "..")) {
			assert_int_equal(lstat(name, &stat), 0);
			fprintf(stream, "%s %o:", name, stat.st_mode);
			got = readlink(name, target, sizeof(target));
			if (got > 0)
				fwrite(target, 1, got, stream);
			else if (S_ISDIR(stat.st_mode))
				take_tree(stream, name);
			else
				take_file(stream, name);
		}
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

struct snapshot boot_host_take(const struct fixture *fixture)
{
	static const char *const parts[] = { "etc", "usr", "lib" };
	struct snapshot snapshot;
	FILE *stream = open_memstream(&snapshot.data, &snapshot.size);

	for (int i = 0; i < 3; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/%s", fixture->tree, parts[i]);
		take_tree(stream, path);
	}
	fclose(stream);
	return snapshot;
}

bool boot_host_is_unchanged(const struct fixture *fixture, const struct snapshot *before)
{
	struct snapshot now = boot_host_take(fixture);
	bool same = now.size == before->size && memcmp(now.data, before->data, now.size) == 0;

	free(now.data);
	return same;
}

bool boot_host_has(const struct fixture *fixture, const char *path)
{
	return host_exists(&fixture->host, path);
}

const char *boot_host_content(const struct fixture *fixture, const char *path)
{
	static char text[65536];
	struct boot_bytes bytes;
	struct error err = { 0 };

	assert_int_equal(boot_files_read(&fixture->host, path, &bytes, &err), 0);
	snprintf(text, sizeof(text), "%s", bytes.data ? bytes.data : "");
	free(bytes.data);
	return text;
}

void boot_host_assert_contains(const struct fixture *fixture, const char *path, const char *text)
{
	if (!strstr(boot_host_content(fixture, path), text))
		fail_msg("%s does not contain '%s' but: %s", path, text,
			boot_host_content(fixture, path));
}

static void set_ids(struct fixture *fixture, const char *path, const char *vendor,
	const char *device, const char *modalias)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s/vendor", path);
	fixture_file(fixture, name, vendor);
	snprintf(name, sizeof(name), "%s/device", path);
	fixture_file(fixture, name, device);
	snprintf(name, sizeof(name), "%s/modalias", path);
	fixture_file(fixture, name, modalias);
}

void boot_host_make(struct fixture *fixture, const char *program)
{
	fixture_device(fixture, PORT, "0x060400", "pcieport", -1);
	fixture_device(fixture, CARD, "0x030000", "amdgpu", -1);
	fixture_device(fixture, SOUND, "0x040300", "snd_hda_intel", -1);
	fixture_device(fixture, OTHER, "0x030000", "amdgpu", -1);
	set_ids(fixture, CARD, "0x1002\n", "0x73df\n", "pci:v00001002d000073DFbc03sc00i00\n");
	set_ids(fixture, SOUND, "0x1002\n", "0xab28\n", "pci:v00001002d0000AB28bc04sc03i00\n");
	set_ids(fixture, OTHER, "0x1002\n", "0x73ff\n", "pci:v00001002d000073FFbc03sc00i00\n");
	fixture_file(fixture, CARD "/boot_vga", "1\n");
	fixture_file(fixture, OTHER "/boot_vga", "0\n");
	fixture_file(fixture, "/sys/firmware/acpi/tables/DMAR", "DMAR");
	fixture_file(fixture, "/proc/sys/kernel/osrelease", "6.12.0-test\n");
	fixture_file(fixture, "/lib/modules/6.12.0-test/modules.alias",
		"# Aliases extracted from modules themselves.\n"
		"alias pci:v00001002d000073DF* amdgpu\n"
		"alias pci:v*d*bc04sc03i* snd_hda_intel\n"
		"alias pci:v00008086d* e1000e\n");
	fixture_file(fixture, GRUB, boot_grub);
	if (program)
		fixture_file(fixture, program, "");
}

int boot_host_plan(const struct fixture *fixture, const struct bdf *devices, size_t count,
	struct boot_plan *plan, struct error *err)
{
	return boot_make_plan(plan, &fixture->host, devices, count, false, err);
}

int boot_host_write(
	const struct fixture *fixture, const struct bdf *device, bool dry_run, struct error *err)
{
	struct boot_result result = { 0 };
	struct boot_plan plan;
	int code = boot_host_plan(fixture, device, 1, &plan, err);

	if (code == 0)
		code = boot_apply(&fixture->host, &plan, dry_run, &result, err);
	boot_result_free(&result);
	boot_plan_free(&plan);
	return code;
}

void boot_host_write_card(const struct fixture *fixture)
{
	struct error err = { 0 };

	if (boot_host_write(fixture, &boot_card, false, &err))
		fail_msg("%s: %s", err.object, err.what);
}

int boot_host_undo(const struct fixture *fixture)
{
	struct boot_result result;
	struct error err = { 0 };
	int code = boot_apply(&fixture->host, NULL, false, &result, &err), left = 0;

	for (size_t i = 0; i < result.count; i++)
		left += result.changes[i].left;
	boot_result_free(&result);
	return code ? code : left;
}

bool boot_host_has_note(const struct boot_plan *plan, const char *text)
{
	for (size_t i = 0; i < plan->notes.count; i++)
		if (strstr(plan->notes.items[i], text))
			return true;
	return false;
}
