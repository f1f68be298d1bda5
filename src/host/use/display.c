/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/text.h"
#include "host/use/use.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#define HINT "give the host another display, or run it without one (console=ttyS0)"

/* A name in directory that starts with prefix and satisfies test. */
static bool any_entry(const struct host *host, const char *directory, const char *prefix,
	bool (*test)(const struct host *host, const char *name, const char *device),
	const char *device, char found[static HOST_NAME])
{
	const struct dirent *entry;
	char path[PATH_MAX];
	bool is = false;
	DIR *entries;

	if (host_path(host, path, "%s", directory) || !(entries = opendir(path)))
		return false;
	while (!is && (entry = readdir(entries))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		is = test(host, entry->d_name, device);
		text_format(found, HOST_NAME, "%s", entry->d_name);
	}
	closedir(entries);
	return is;
}

/* /sys/class/drm/card0-HDMI-A-1: a monitor is there and is driven. */
static bool is_lit(const struct host *host, const char *name, const char *device)
{
	char status[16], enabled[16];

	return host_is_below(host, device, "/sys/class/drm/%s", name) &&
	       host_read(host, status, sizeof(status), "/sys/class/drm/%s/status", name) > 0 &&
	       host_read(host, enabled, sizeof(enabled), "/sys/class/drm/%s/enabled", name) > 0 &&
	       strcmp(status, "connected") == 0 && strcmp(enabled, "enabled") == 0;
}

/* The text consoles' back ends: "(S) VGA+", "(M) frame buffer device", "(S) dummy device". */
static bool is_console(const struct host *host, const char *name, const char *device)
{
	char text[64];

	(void)device;
	return host_read_number(host, 0, "/sys/class/vtconsole/%s/bind", name) == 1 &&
	       host_read(host, text, sizeof(text), "/sys/class/vtconsole/%s/name", name) > 0 &&
	       (strstr(text, "frame buffer") || strstr(text, "VGA"));
}

/* The driver's own frame buffer lies below the device. */
static bool is_own_fb(const struct host *host, const char *name, const char *device)
{
	return host_is_below(host, device, "/sys/class/graphics/%s", name);
}

/* The firmware's one (efifb, simpledrm) hangs off a platform device, not off any PCI device. */
static bool is_firmware_fb(const struct host *host, const char *name, const char *device)
{
	char subsystem[HOST_NAME];

	(void)device;
	return host_read_link(host, subsystem, sizeof(subsystem),
		       "/sys/class/graphics/%s/device/subsystem", name) == 0 &&
	       strcmp(subsystem, "platform") == 0;
}

static bool any_fb(const struct host *host)
{
	char path[PATH_MAX];

	return host_path(host, path, "/sys/class/graphics/fb0") == 0 && access(path, F_OK) == 0;
}

/* tty0 among the kernel's consoles stands for the display. */
static bool kernel_console_is_display(const struct host *host)
{
	char text[256], *save, *word;

	if (host_read(host, text, sizeof(text), "/sys/class/tty/console/active") <= 0)
		return false;
	for (word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
		if (strncmp(word, "tty", 3) == 0 && word[3] >= '0' && word[3] <= '9')
			return true;
	return false;
}

bool host_use_find_display(const struct host *host, const char *path, struct host_use *use)
{
	char name[HOST_NAME], console[HOST_NAME];

	if (any_entry(host, "/sys/class/drm", "card", is_lit, path, name)) {
		text_format(use->reason, sizeof(use->reason),
			"it is the boot display and shows a picture on %s", name);
		text_format(use->hint, sizeof(use->hint), HINT);
		return true;
	}
	if (!kernel_console_is_display(host) ||
		!any_entry(host, "/sys/class/vtconsole", "vtcon", is_console, path, console))
		return false;
	/* Another card's frame buffer carries the console; VGA text mode is always the boot
	 * display's. */
	if (any_fb(host) && !any_entry(host, "/sys/class/graphics", "fb", is_own_fb, path, name) &&
		!any_entry(host, "/sys/class/graphics", "fb", is_firmware_fb, path, name))
		return false;
	text_format(use->reason, sizeof(use->reason),
		"it is the boot display and carries the host's console");
	text_format(use->hint, sizeof(use->hint), HINT);
	return true;
}
