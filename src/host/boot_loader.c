/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot_parts.h"

#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRUB_DEFAULTS "/etc/default/grub"
#define GRUB_SNIPPET  "/etc/default/grub.d/penstock.cfg"
#define CMDLINE       "/etc/kernel/cmdline"

/* What the boot loader said about itself, in UTF-16 (the Boot Loader Interface). */
#define LOADER_INFO "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

#define WHY "the kernel reads its command line before any file"

static bool is_systemd_boot(const struct host *host)
{
	static const char wanted[] = "s\0y\0s\0t\0e\0m\0d\0-\0b\0o\0o\0t";
	char path[PATH_MAX], info[256];
	ssize_t got = host_path(host, path, LOADER_INFO) == 0
			      ? fd_read_file(path, info, sizeof(info))
			      : -ENOENT;

	return got > 0 && memmem(info, got, wanted, sizeof(wanted));
}

/* Debian's grub-mkconfig also reads /etc/default/grub.d; where it does, no file need be edited. */
static bool grub_reads_snippets(const struct host *host)
{
	struct boot_bytes script = { 0 };
	struct error ignored = { 0 };
	bool reads = boot_read(host, "/usr/sbin/grub-mkconfig", &script, &ignored) == 0 &&
		     script.data && strstr(script.data, "/default/grub.d/");

	free(script.data);
	return reads;
}

static const char *update_grub(const struct host *host)
{
	if (boot_exists(host, "/usr/sbin/update-grub"))
		return "update-grub";
	return boot_exists(host, "/boot/grub2") ? "grub2-mkconfig -o /boot/grub2/grub.cfg"
						: "grub-mkconfig -o /boot/grub/grub.cfg";
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
	bool can = boot_read(host, path, &bytes, &ignored) == 0 && bytes.data &&
		   strlen(bytes.data) == bytes.size &&
		   boot_words_add(edit, bytes.data, "penstock", &result, added) == 0;

	free(result);
	free(bytes.data);
	return can;
}

static bool plan_edit(struct boot_plan *plan, const struct host *host, const char *path,
	const char *why, enum boot_edit edit)
{
	struct boot_file file = { path, why, edit, 0644, NULL };

	if (!can_edit(host, path, edit)) {
		by_hand(plan,
			edit == BOOT_GRUB ? "GRUB_CMDLINE_LINUX_DEFAULT in " GRUB_DEFAULTS : path);
		return false;
	}
	file.text = strdup(plan->words);
	boot_plan_file(plan, &file);
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
			    "# Made by \"penstock boot-config\"; \"penstock boot-config --undo\" "
			    "removes it.\n"
			    "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT %s\"\n",
			    plan->words) < 0)
			file.text = NULL;
		boot_plan_file(plan, &file);
	}
	boot_plan_next(plan, "%s", update_grub(host));
}

static void plan_cmdline(struct boot_plan *plan, const struct host *host)
{
	char release[HOST_NAME], image[PATH_MAX];

	if (!plan_edit(plan, host, CMDLINE, WHY "; systemd-boot's comes from here", BOOT_CMDLINE))
		return;
	boot_release(host, release);
	snprintf(image, sizeof(image), "/boot/vmlinuz-%s", release);
	if (!boot_exists(host, image))
		snprintf(image, sizeof(image), "/usr/lib/modules/%s/vmlinuz", release);
	if (boot_exists(host, "/etc/kernel/proxmox-boot-uuids"))
		boot_plan_next(plan, "proxmox-boot-tool refresh");
	else if (boot_exists(host, "/usr/bin/kernel-install") && release[0])
		boot_plan_next(plan, "kernel-install add %s %s", release, image);
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

void boot_plan_loader(struct boot_plan *plan, const struct host *host)
{
	if (!plan->words[0]) {
		boot_plan_note(plan, "the kernel's command line needs no change");
		return;
	}
	if (boot_exists(host, "/usr/sbin/grubby") || boot_exists(host, "/usr/bin/grubby"))
		plan_grubby(plan);
	else if (boot_exists(host, CMDLINE) &&
		 (is_systemd_boot(host) || !boot_exists(host, GRUB_DEFAULTS)))
		plan_cmdline(plan, host);
	else if (boot_exists(host, GRUB_DEFAULTS) && !is_systemd_boot(host))
		plan_grub(plan, host);
	else
		by_hand(plan,
			"the kernel's command line, in your boot loader's configuration (systemd-boot: "
			"the 'options' line of each /boot/loader/entries/*.conf)");
}
