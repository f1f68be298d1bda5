/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/system/distribution.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ID= and ID_LIKE= of os-release(5) name a family. */
static bool is_like(const struct host *host, const char *name)
{
	char path[PATH_MAX], text[4096], *save;

	if (host_path(host, path, "/etc/os-release") || fd_read_file(path, text, sizeof(text)) < 0)
		return false;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if ((strncmp(line, "ID=", 3) == 0 || strncmp(line, "ID_LIKE=", 8) == 0) &&
			strstr(line, name))
			return true;
	return false;
}

void distribution_install(const struct host *host, const char *package, char *text, size_t size)
{
	static const char *const families[][2] = {
		{ "debian", "apt install" },
		{ "ubuntu", "apt install" },
		{ "fedora", "dnf install" },
		{ "rhel", "dnf install" },
		{ "arch", "pacman -S" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (is_like(host, families[i][0])) {
			snprintf(text, size, "%s %s", families[i][1], package);
			return;
		}
	snprintf(text, size, "install the package %s", package);
}

/* What the boot loader said about itself, in UTF-16 (the Boot Loader Interface). */
#define LOADER_INFO "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

static bool is_systemd_boot(const struct host *host)
{
	static const char wanted[] = "s\0y\0s\0t\0e\0m\0d\0-\0b\0o\0o\0t";
	char path[PATH_MAX], info[256];
	ssize_t got = host_path(host, path, LOADER_INFO) == 0
			      ? fd_read_file(path, info, sizeof(info))
			      : -ENOENT;

	return got > 0 && memmem(info, got, wanted, sizeof(wanted));
}

static const char *find_entries(const struct host *host)
{
	static const char *const directories[] = { "/boot/loader/entries", "/efi/loader/entries",
		"/boot/efi/loader/entries" };

	for (size_t i = 0; i < ARRAY_SIZE(directories); i++)
		if (host_exists(host, directories[i]))
			return directories[i];
	return NULL;
}

enum loader distribution_loader(const struct host *host, const char **entries)
{
	*entries = find_entries(host);
	if (host_exists(host, "/usr/sbin/grubby") || host_exists(host, "/usr/bin/grubby"))
		return LOADER_GRUBBY;
	if (host_exists(host, GRUB_DEFAULTS) && !is_systemd_boot(host))
		return LOADER_GRUB;
	if (host_exists(host, CMDLINE))
		return LOADER_CMDLINE;
	return *entries ? LOADER_ENTRIES : LOADER_OTHER;
}

const char *distribution_update_grub(const struct host *host)
{
	if (host_exists(host, "/usr/sbin/update-grub") || is_like(host, "debian"))
		return "update-grub";
	return host_exists(host, "/boot/grub2") ? "grub2-mkconfig -o /boot/grub2/grub.cfg"
						: "grub-mkconfig -o /boot/grub/grub.cfg";
}

void distribution_update_cmdline(const struct host *host, char command[static DISTRIBUTION_COMMAND])
{
	char release[HOST_NAME], image[HOST_NAME + 32];

	command[0] = '\0';
	host_read_kernel(host, release);
	snprintf(image, sizeof(image), "/boot/vmlinuz-%s", release);
	if (!host_exists(host, image))
		snprintf(image, sizeof(image), "/usr/lib/modules/%s/vmlinuz", release);
	if (host_exists(host, "/etc/kernel/proxmox-boot-uuids"))
		strcpy(command, "proxmox-boot-tool refresh");
	else if (host_exists(host, "/usr/bin/kernel-install") && release[0])
		snprintf(command, DISTRIBUTION_COMMAND, "kernel-install add %s %s", release, image);
}

static void add_words(char *text, size_t size, const char *add, const char *remove)
{
	size_t used = strlen(text);

	snprintf(text + used, size - used, "%s%s%s%s%s", add ? "add " : "", add ? add : "",
		add && remove ? " and " : "", remove ? "remove " : "", remove ? remove : "");
}

void distribution_cmdline(
	const struct host *host, const char *add, const char *remove, char *text, size_t size)
{
	char command[DISTRIBUTION_COMMAND];
	const char *entries;
	enum loader loader = distribution_loader(host, &entries);
	size_t used;

	text[0] = '\0';
	if (loader == LOADER_GRUBBY) {
		snprintf(text, size, "'grubby --update-kernel=ALL%s%s%s%s', then reboot",
			add ? " --args=" : "", add ? add : "", remove ? " --remove-args=" : "",
			remove ? remove : "");
		return;
	}
	add_words(text, size, add, remove);
	used = strlen(text);
	if (loader == LOADER_CMDLINE) {
		distribution_update_cmdline(host, command);
		snprintf(text + used, size - used, " in " CMDLINE "%s%s%s, then reboot",
			command[0] ? ", run '" : ", take it over into the boot loader's entries",
			command, command[0] ? "'" : "");
	} else if (loader == LOADER_ENTRIES)
		snprintf(text + used, size - used,
			" in the 'options' line of %s/*.conf, then reboot", entries);
	else if (loader == LOADER_GRUB)
		snprintf(text + used, size - used,
			" in GRUB_CMDLINE_LINUX_DEFAULT of " GRUB_DEFAULTS
			", run '%s', then reboot",
			distribution_update_grub(host));
	else
		snprintf(text + used, size - used,
			" in the kernel's command line, in your boot loader's configuration, then "
			"reboot");
}

static const struct initramfs initramfs[] = {
	[INITRAMFS_TOOLS] = {
		.name = "initramfs-tools",
		.program = "/usr/sbin/mkinitramfs",
		.installer = { "/etc/kernel/postinst.d/initramfs-tools" },
		.rebuild = "update-initramfs -u -k all",
	},
	[INITRAMFS_DRACUT] = {
		.name = "dracut",
		.program = "/usr/bin/dracut",
		.installer = { "/etc/kernel/postinst.d/dracut",
			"/usr/lib/kernel/install.d/50-dracut.install" },
		.rebuild = "dracut --force --regenerate-all",
	},
	[INITRAMFS_MKINITCPIO] = {
		.name = "mkinitcpio",
		.program = "/usr/bin/mkinitcpio",
		.installer = { "/usr/share/libalpm/hooks/90-mkinitcpio-install.hook",
			"/usr/lib/kernel/install.d/50-mkinitcpio.install" },
		.rebuild = "mkinitcpio -P",
	},
};

static bool is_installer(const struct initramfs *program, const struct host *host)
{
	for (size_t i = 0; i < ARRAY_SIZE(program->installer); i++)
		if (program->installer[i] && host_exists(host, program->installer[i]))
			return true;
	return false;
}

const struct initramfs *distribution_initramfs(
	const struct host *host, enum initramfs_kind *kind, const struct initramfs **other)
{
	const struct initramfs *chosen = NULL;

	*other = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(initramfs); i++) {
		if (!host_exists(host, initramfs[i].program))
			continue;
		if (!chosen || (!is_installer(chosen, host) && is_installer(&initramfs[i], host))) {
			*other = chosen;
			chosen = &initramfs[i];
			*kind = i;
		} else {
			*other = &initramfs[i];
		}
	}
	return chosen;
}
