/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/loader.h"

#include "host/boot/files.h"
#include "host/system/distribution.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRUB_SNIPPET "/etc/default/grub.d/penstock.cfg"
#define ENTRIES_MAX  8

#define WHY "the kernel reads its command line before any file"

/* Debian's grub-mkconfig also reads /etc/default/grub.d; where it does, no file need be edited. */
static bool grub_reads_snippets(const struct host *host)
{
	struct boot_bytes script = { 0 };
	struct error ignored = { 0 };
	bool reads = boot_files_read(host, "/usr/sbin/grub-mkconfig", &script, &ignored) == 0 &&
		     script.data && strstr(script.data, "/default/grub.d/");

	free(script.data);
	return reads;
}

static void by_hand(struct boot_plan *plan, const char *where)
{
	boot_plan_note(plan, "add by hand to %s: %s", where, plan->words);
}

/* A file whose form is not understood is left to the user. */
static bool can_edit(const struct host *host, const char *path, enum boot_edit edit)
{
	char added[BOOT_WORDS], *result = NULL;
	struct boot_bytes bytes = { 0 };
	struct error ignored = { 0 };
	bool can = boot_files_read(host, path, &bytes, &ignored) == 0 && bytes.data &&
		   strlen(bytes.data) == bytes.size &&
		   boot_words_add(edit, bytes.data, "penstock", &result, added) == 0;

	free(result);
	free(bytes.data);
	return can;
}

static void plan_words(
	struct boot_plan *plan, const char *path, const char *why, enum boot_edit edit)
{
	struct boot_file file = { path, why, edit, 0644, strdup(plan->words) };

	boot_plan_file(plan, &file);
}

static bool plan_edit(struct boot_plan *plan, const struct host *host, const char *path,
	const char *why, enum boot_edit edit)
{
	if (!can_edit(host, path, edit)) {
		by_hand(plan,
			edit == BOOT_GRUB ? "GRUB_CMDLINE_LINUX_DEFAULT in " GRUB_DEFAULTS : path);
		return false;
	}
	plan_words(plan, path, why, edit);
	return true;
}

static void plan_grub(struct boot_plan *plan, const struct host *host)
{
	struct boot_file file = {
		.path = GRUB_SNIPPET,
		.why = WHY "; GRUB's comes from here and from " GRUB_DEFAULTS,
		.edit = BOOT_WHOLE,
		.mode = 0644,
	};

	if (!grub_reads_snippets(host)) {
		plan_edit(plan, host, GRUB_DEFAULTS, WHY "; GRUB's comes from here", BOOT_GRUB);
	} else {
		if (asprintf(&file.text,
			    BOOT_COMMENT
			    "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT %s\"\n",
			    plan->words) < 0)
			file.text = NULL;
		boot_plan_file(plan, &file);
	}
	boot_plan_next(plan, "%s", distribution_update_grub(host));
}

static void plan_cmdline(struct boot_plan *plan, const struct host *host)
{
	char command[DISTRIBUTION_COMMAND];

	if (!plan_edit(plan, host, CMDLINE, WHY "; systemd-boot's comes from here", BOOT_CMDLINE))
		return;
	distribution_update_cmdline(host, command);
	if (command[0])
		boot_plan_next(plan, "%s", command);
}

static int is_entry(const struct dirent *file)
{
	const char *end = strrchr(file->d_name, '.');

	return end && strcmp(end, ".conf") == 0;
}

static void plan_entry(
	struct boot_plan *plan, const struct host *host, const char *directory, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	if (!can_edit(host, path, BOOT_ENTRY))
		return;
	if (plan->entries.count == ENTRIES_MAX)
		by_hand(plan, path);
	else if (boot_list_add(&plan->entries, "%s", path))
		plan_words(plan, plan->entries.items[plan->entries.count - 1],
			WHY "; systemd-boot's comes from here", BOOT_ENTRY);
	else
		plan->out_of_memory = true;
}

static void plan_entries(struct boot_plan *plan, const struct host *host, const char *directory)
{
	struct dirent **files;
	char path[PATH_MAX];
	int count = host_path(host, path, "%s", directory) == 0
			    ? scandir(path, &files, is_entry, alphasort)
			    : -1;

	for (int n = 0; n < count; n++) {
		plan_entry(plan, host, directory, files[n]->d_name);
		free(files[n]);
	}
	if (count >= 0)
		free(files);
	if (!plan->entries.count)
		by_hand(plan, directory);
}

/* It changes all places that Fedora's kernels read, and is the only thing that does. */
static void plan_grubby(struct boot_plan *plan)
{
	if (!boot_list_add(&plan->next, "grubby --update-kernel=ALL --args='%s'", plan->words) ||
		!boot_list_add(
			&plan->undo, "grubby --update-kernel=ALL --remove-args='%s'", plan->words))
		plan->out_of_memory = true;
	boot_plan_note(plan,
		"the kernel's command line is changed by grubby, below, and not in a file: %s",
		plan->words);
}

void boot_loader_plan(struct boot_plan *plan, const struct host *host)
{
	const char *entries;

	if (!plan->words[0]) {
		boot_plan_note(plan, "the kernel's command line needs no change");
		return;
	}
	switch (distribution_loader(host, &entries)) {
	case LOADER_GRUBBY:
		plan_grubby(plan);
		break;
	case LOADER_GRUB:
		plan_grub(plan, host);
		break;
	case LOADER_CMDLINE:
		plan_cmdline(plan, host);
		break;
	case LOADER_ENTRIES:
		plan_entries(plan, host, entries);
		break;
	case LOADER_OTHER:
		by_hand(plan, "the kernel's command line, in your boot loader's configuration");
	}
}
