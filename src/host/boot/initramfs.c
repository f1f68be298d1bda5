/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/initramfs.h"

#include "host/boot/files.h"
#include "host/system/distribution.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The hook for the initramfs, whichever program makes that. It has to come before udev loads the
 * host's drivers; a udev rule could not, as udev handles the devices of one driver at the same
 * time.
 */

#define HEAD                                                                                     \
	"# Made by \"penstock boot-config\": do not edit it. \"penstock boot-config ADDRESS... " \
	"--write\"\n"                                                                            \
	"# makes it anew, \"penstock boot-config --undo\" removes it.\n"

/* For any shell, with no other program than modprobe. Sourced, it leaves nothing behind. */
static const char body_start[] =
	"# With penstock.bind=off on the kernel's command line, this boot goes without it.\n"
	"penstock_bind() (\n"
	"	say() {\n"
	"		echo \"penstock: $*\" > /dev/kmsg\n"
	"	}\n"
	"\n"
	"	# The device at address $1, if it is still the one with vendor $2 and device $3: a card\n"
	"	# that was added can move others to new addresses.\n"
	"	reserve() {\n"
	"		device=/sys/bus/pci/devices/$1\n"
	"		if [ ! -e \"$device/driver_override\" ]; then\n"
	"			say \"$1: there is no such device\"\n"
	"			return\n"
	"		fi\n"
	"		read -r vendor < \"$device/vendor\"\n"
	"		read -r id < \"$device/device\"\n"
	"		if [ \"$vendor $id\" != \"$2 $3\" ]; then\n"
	"			say \"$1: is another device now, $vendor $id, and stays with the host\"\n"
	"			return\n"
	"		fi\n"
	"		echo vfio-pci > \"$device/driver_override\"\n"
	"		# A driver that is built into the kernel has it already.\n"
	"		if [ -e \"$device/driver\" ]; then\n"
	"			echo \"$1\" > \"$device/driver/unbind\"\n"
	"		fi\n"
	"		reserved=\"$reserved $1\"\n"
	"	}\n"
	"\n"
	"	read -r line < /proc/cmdline\n"
	"	case \" $line \" in\n"
	"	*' penstock.bind=off '*)\n"
	"		say \"binds nothing, for penstock.bind=off\"\n"
	"		exit\n"
	"		;;\n"
	"	esac\n"
	"	reserved=\n";

static const char body_end[] =
	"	modprobe vfio-pci\n"
	"	for address in $reserved; do\n"
	"		echo \"$address\" > /sys/bus/pci/drivers_probe\n"
	"		if [ -e \"/sys/bus/pci/drivers/vfio-pci/$address\" ]; then\n"
	"			say \"$address: is at vfio-pci\"\n"
	"		else\n"
	"			say \"$address: vfio-pci did not take it; no other driver will\"\n"
	"		fi\n"
	"	done\n"
	")\n";

struct part {
	const char *path;
	unsigned mode;
	const char *why;
	const char *start, *end; /* around the body; end NULL: a file without it */
};

#define PARTS_MAX 3

#define WHY_HOOK                                                                              \
	"sets driver_override of each device in the initramfs, before udev loads the host's " \
	"drivers"

static const struct part parts[][PARTS_MAX] = {
	[INITRAMFS_TOOLS] = {
		{
			"/etc/initramfs-tools/hooks/penstock", 0755,
			"puts the vfio-pci module into the initramfs",
			"#!/bin/sh\n" HEAD "[ \"$1\" != prereqs ] || exit 0\n"
			". /usr/share/initramfs-tools/hook-functions\n"
			"manual_add_modules vfio-pci\n",
			NULL,
		},
		{
			/* Scripts without prerequisites run in the order of their
			 * names, and udev is one of them. */
			"/etc/initramfs-tools/scripts/init-top/penstock", 0755, WHY_HOOK,
			"#!/bin/sh\n" HEAD "[ \"$1\" != prereqs ] || exit 0\n\n",
			"\npenstock_bind\n",
		},
	},
	[INITRAMFS_DRACUT] = {
		{
			/* dracut looks for modules nowhere in /etc. */
			"/usr/lib/dracut/modules.d/90penstock/module-setup.sh", 0755,
			"makes dracut take the hook and the vfio-pci module into the "
			"initramfs",
			"#!/bin/bash\n" HEAD "check() {\n	return 0\n}\n\n"
			"installkernel() {\n"
			"	# Also where the host does not use it at this moment.\n"
			"	hostonly='' instmods vfio-pci\n}\n\n"
			"install() {\n"
			"	inst_multiple modprobe\n"
			"	inst_hook pre-udev 00 \"$moddir/penstock.sh\"\n}\n",
			NULL,
		},
		{
			"/usr/lib/dracut/modules.d/90penstock/penstock.sh", 0755, WHY_HOOK,
			"#!/bin/sh\n" HEAD, "\npenstock_bind\n",
		},
	},
	[INITRAMFS_MKINITCPIO] = {
		{
			"/etc/mkinitcpio.conf.d/penstock.conf", 0644,
			"adds the hook to HOOKS, whatever these are in mkinitcpio.conf",
			HEAD "HOOKS+=(penstock)\n", NULL,
		},
		{
			"/etc/initcpio/install/penstock", 0644,
			"puts the hook and the vfio-pci module into the initramfs",
			"#!/bin/bash\n" HEAD "build() {\n"
			"	if declare -F add_systemd_unit > /dev/null; then\n"
			"		penstock_unit\n"
			"	fi\n"
			"	add_module vfio-pci\n"
			"	add_runscript\n"
			"}\n\n"
			"# With the systemd hook, units run instead of run_earlyhook.\n"
			"penstock_unit() {\n"
			"	local units=$BUILDROOT/usr/lib/systemd/system\n"
			"	[[ -e $BUILDROOT/usr/bin/sh ]] || add_binary /usr/bin/bash "
			"/usr/bin/sh\n"
			"	mkdir -p \"$units/sysinit.target.wants\"\n"
			"	cat > \"$units/penstock-bind.service\" << 'UNIT'\n"
			"[Unit]\n"
			"Description=Give PCI devices to vfio-pci\n"
			"DefaultDependencies=no\n"
			"Before=systemd-modules-load.service systemd-udevd.service\n"
			"Before=systemd-udev-trigger.service\n"
			"\n"
			"[Service]\n"
			"Type=oneshot\n"
			"ExecStart=/usr/bin/sh -c '. /hooks/penstock; run_earlyhook'\n"
			"UNIT\n"
			"	ln -sf ../penstock-bind.service \"$units/sysinit.target.wants/\"\n"
			"}\n\n"
			"help() {\n"
			"	echo 'Gives PCI devices to vfio-pci before their drivers load.'\n"
			"}\n",
			NULL,
		},
		{
			"/etc/initcpio/hooks/penstock", 0644, WHY_HOOK,
			"#!/usr/bin/sh\n" HEAD,
			"\nrun_earlyhook() {\n	penstock_bind\n}\n",
		},
	},
};

/* "ALL_config=..." in a preset makes mkinitcpio ignore /etc/mkinitcpio.conf.d, where our hook is. */
static bool sets_config(const struct host *host, const char *path)
{
	struct boot_bytes preset = { 0 };
	struct error ignored = { 0 };
	bool sets = false;
	char *line, *save;

	if (boot_files_read(host, path, &preset, &ignored) || !preset.data)
		return false;
	for (line = strtok_r(preset.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		sets |= line[0] != '#' && strstr(line, "_config=");
	free(preset.data);
	return sets;
}

static void note_presets(struct boot_plan *plan, const struct host *host)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	DIR *directory = host_path(host, path, "/etc/mkinitcpio.d") == 0 ? opendir(path) : NULL;

	while (directory && (entry = readdir(directory))) {
		const char *end = strrchr(entry->d_name, '.');

		snprintf(path, sizeof(path), "/etc/mkinitcpio.d/%s", entry->d_name);
		if (end && strcmp(end, ".preset") == 0 && sets_config(host, path))
			boot_plan_note(plan,
				"%s names a configuration file, and so mkinitcpio reads nothing in "
				"/etc/mkinitcpio.conf.d: put '#' before the line with _config=, or add "
				"penstock to the HOOKS of that file",
				path);
	}
	if (directory)
		closedir(directory);
}

static char *make_hook(const struct boot_plan *plan, const struct part *part)
{
	char *text = NULL, name[BDF_TEXT];
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	bool failed;

	if (!stream)
		return NULL;
	fprintf(stream, "%s%s", part->start, body_start);
	for (size_t i = 0; i < plan->device_count; i++) {
		const struct host_device *device = &plan->devices[i].device;

		fprintf(stream, "	reserve %s 0x%04x 0x%04x\n", bdf_format(&device->bdf, name),
			device->vendor, device->device);
	}
	fprintf(stream, "%s%s", body_end, part->end);
	failed = ferror(stream);
	if (fclose(stream) || failed) {
		free(text);
		return NULL;
	}
	return text;
}

int boot_initramfs_plan(struct boot_plan *plan, const struct host *host, struct error *err)
{
	const struct initramfs *other, *initramfs;
	enum initramfs_kind kind;

	initramfs = distribution_initramfs(host, &kind, &other);
	if (!initramfs) {
		error_set(err, -ENOENT, NULL,
			"this host has none of the programs that make an initramfs: initramfs-tools, "
			"dracut, mkinitcpio");
		error_hint(err,
			"install the one of your distribution; without an initramfs, run 'penstock "
			"bind' from a service at boot, when the host's drivers have the devices");
		return -ENOENT;
	}
	if (other)
		boot_plan_note(plan,
			"both %s and %s are installed; the hook is for %s, which makes the initramfs "
			"of new kernels",
			initramfs->name, other->name, initramfs->name);
	for (size_t i = 0; i < PARTS_MAX && parts[kind][i].path; i++) {
		const struct part *part = &parts[kind][i];
		struct boot_file file = { part->path, part->why, BOOT_WHOLE, part->mode, NULL };

		file.text = part->end ? make_hook(plan, part) : strdup(part->start);
		boot_plan_file(plan, &file);
	}
	boot_plan_next(plan, "%s", initramfs->rebuild);
	if (kind == INITRAMFS_MKINITCPIO)
		note_presets(plan, host);
	return 0;
}
