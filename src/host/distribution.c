/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/distribution.h"

#include "base/fd.h"
#include "base/size.h"

#include <stdio.h>
#include <string.h>

static bool exists(const struct host *host, const char *path)
{
	char full[PATH_MAX];

	return host_path(host, full, "%s", path) == 0 && access(full, F_OK) == 0;
}

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

static const char *update_grub(const struct host *host)
{
	if (exists(host, "/usr/sbin/update-grub") || is_like(host, "debian"))
		return "update-grub";
	return exists(host, "/boot/grub2") ? "grub2-mkconfig -o /boot/grub2/grub.cfg"
					   : "grub-mkconfig -o /boot/grub/grub.cfg";
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
	size_t used;

	text[0] = '\0';
	if (exists(host, "/usr/sbin/grubby") || exists(host, "/usr/bin/grubby")) {
		snprintf(text, size, "grubby --update-kernel=ALL%s%s%s%s, then reboot",
			add ? " --args=" : "", add ? add : "", remove ? " --remove-args=" : "",
			remove ? remove : "");
		return;
	}
	add_words(text, size, add, remove);
	used = strlen(text);
	if (exists(host, "/etc/kernel/cmdline"))
		snprintf(text + used, size - used,
			" in /etc/kernel/cmdline, run 'kernel-install add $(uname -r) "
			"/boot/vmlinuz-$(uname -r)', then reboot");
	else if (exists(host, "/boot/loader/entries"))
		snprintf(text + used, size - used,
			" in the 'options' line of /boot/loader/entries/*.conf, then reboot");
	else if (exists(host, "/etc/default/grub"))
		snprintf(text + used, size - used,
			" in GRUB_CMDLINE_LINUX_DEFAULT of /etc/default/grub, run '%s', then reboot",
			update_grub(host));
	else
		snprintf(text + used, size - used,
			" in the kernel's command line, in your boot loader's configuration, then "
			"reboot");
}

const char *distribution_rebuild(const struct host *host)
{
	if (exists(host, "/usr/sbin/mkinitramfs"))
		return "update-initramfs -u -k all";
	if (exists(host, "/usr/bin/dracut"))
		return "dracut --force --regenerate-all";
	return exists(host, "/usr/bin/mkinitcpio") ? "mkinitcpio -P" : "";
}
