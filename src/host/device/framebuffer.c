/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/device/framebuffer.h"

#include "base/size.h"
#include "base/text.h"

#include <dirent.h>
#include <string.h>

#define DRIVERS "/sys/bus/platform/drivers/"

/* The drivers' devices have the drivers' names, with a number. */
static const char *const drivers[] = { "simple-framebuffer", "efi-framebuffer",
	"vesa-framebuffer" };

static bool is_on_card(const struct host *host, const struct host_device *device, const char *card,
	const char *driver, const char *name)
{
	char platform[PATH_MAX];

	if (host_is_below(host, card, DRIVERS "%s/%s", driver, name))
		return true;
	return device->boot_display && host_path(host, platform, "/sys/devices/platform") == 0 &&
	       host_is_below(host, platform, DRIVERS "%s/%s", driver, name);
}

static bool find_of_driver(const struct host *host, const struct host_device *device,
	const char *card, const char *driver, struct host_framebuffer *framebuffer)
{
	size_t length = strlen(driver);
	const struct dirent *entry;
	char path[PATH_MAX];
	bool found = false;
	DIR *entries;

	if (host_path(host, path, DRIVERS "%s", driver) || !(entries = opendir(path)))
		return false;
	while (!found && (entry = readdir(entries))) {
		if (strncmp(entry->d_name, driver, length) || entry->d_name[length] != '.' ||
			strlen(entry->d_name) >= HOST_NAME)
			continue;
		found = is_on_card(host, device, card, driver, entry->d_name);
		if (found) {
			text_format(framebuffer->device, HOST_NAME, "%s", entry->d_name);
			text_format(framebuffer->driver, HOST_NAME, "%s", driver);
		}
	}
	closedir(entries);
	return found;
}

bool host_framebuffer_find(const struct host *host, const struct host_device *device,
	struct host_framebuffer *framebuffer)
{
	char card[PATH_MAX];

	*framebuffer = (struct host_framebuffer){ 0 };
	if (!host_device_is_display(device) || host_device_path(host, &device->bdf, card))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (find_of_driver(host, device, card, drivers[i], framebuffer))
			return true;
	return false;
}
