/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/binding/screen.h"

#include "base/log.h"
#include "base/text.h"
#include "host/device/framebuffer.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CONSOLES "/sys/class/vtconsole"
#define BUFFERS  "/sys/class/graphics"
#define PLATFORM "/sys/bus/platform/devices/"

/*
 * The console on frame buffers, "(M) frame buffer device": one for all of them, "vtcon1" for instance, which
 * is gone while there is none. False: there is no such.
 */
static bool find_console(const struct host *host, char console[static HOST_NAME])
{
	const struct dirent *entry;
	char path[PATH_MAX], text[64];
	bool found = false;
	DIR *entries;

	if (host_path(host, path, CONSOLES) || !(entries = opendir(path)))
		return false;
	while (!found && (entry = readdir(entries))) {
		if (strncmp(entry->d_name, "vtcon", 5) || strlen(entry->d_name) >= HOST_NAME)
			continue;
		found = host_read(host, text, sizeof(text), CONSOLES "/%s/name", entry->d_name) >
				0 &&
			strstr(text, "frame buffer");
		if (found)
			text_format(console, HOST_NAME, "%s", entry->d_name);
	}
	closedir(entries);
	return found;
}

static bool is_bound(const struct host *host, const char *console)
{
	return host_read_number(host, 0, CONSOLES "/%s/bind", console) == 1;
}

static bool is_buffer_of(const struct host *host, const char *buffer, const char *card,
	const struct host_framebuffer *framebuffer)
{
	char device[HOST_NAME];

	if (host_is_below(host, card, BUFFERS "/%s", buffer))
		return true;
	return framebuffer->device[0] &&
	       host_read_link(host, device, sizeof(device), BUFFERS "/%s/device", buffer) == 0 &&
	       strcmp(device, framebuffer->device) == 0;
}

/* Are there frame buffers, and all of them the card's? From one of several the kernel moves the console by itself. */
static bool has_all_buffers(const struct host *host, const struct host_device *device,
	const struct host_framebuffer *framebuffer)
{
	char path[PATH_MAX], card[PATH_MAX];
	const struct dirent *entry;
	unsigned own = 0, others = 0;
	DIR *entries;

	if (host_device_path(host, &device->bdf, card) || host_path(host, path, BUFFERS) ||
		!(entries = opendir(path)))
		return false;
	while ((entry = readdir(entries))) {
		if (strncmp(entry->d_name, "fb", 2) || !isdigit((unsigned char)entry->d_name[2]))
			continue;
		if (is_buffer_of(host, entry->d_name, card, framebuffer))
			own++;
		else
			others++;
	}
	closedir(entries);
	return own && !others;
}

void screen_find(
	const struct host *host, const struct host_device *device, struct host_screen *screen)
{
	struct host_framebuffer framebuffer;
	char console[HOST_NAME];

	*screen = (struct host_screen){ 0 };
	if (!host_device_is_display(device))
		return;
	if (host_framebuffer_find(host, device, &framebuffer)) {
		strcpy(screen->framebuffer, framebuffer.device);
		strcpy(screen->driver, framebuffer.driver);
	}
	screen->console = find_console(host, console) && is_bound(host, console) &&
			  has_all_buffers(host, device, &framebuffer);
}

/* Most drivers cope with what is left on their card; a kernel that hangs, or that refuses, is the end of it. */
static int tell_or_fail(struct error *err)
{
	if (err->code && err->code != -ETIMEDOUT && err->code != -EACCES && err->code != -EPERM) {
		log_warning("%s: %s", err->object, err->what);
		*err = (struct error){ 0 };
	}
	return err->code;
}

static int move_console(const struct change *change, bool bind, struct error *err)
{
	char console[HOST_NAME];

	if (!find_console(change->host, console)) {
		if (bind)
			log_warning("%s: the host's console was on it, and finds no frame buffer "
				    "there now",
				change->name);
		return 0;
	}
	if (is_bound(change->host, console) == bind)
		return 0;
	if (change_console(change, console, bind, err) == 0) {
		if (is_bound(change->host, console) == bind)
			log_info("%s: the host's console %s", change->name,
				bind ? "is on it again" : "leaves it");
		else
			error_set(err, -EIO, change->name, "the host's console does not %s it",
				bind ? "come back to" : "leave");
	}
	return tell_or_fail(err);
}

int screen_leave(const struct change *change, const struct host_screen *screen, struct error *err)
{
	if (screen->console && move_console(change, false, err))
		return err->code;
	if (!screen->framebuffer[0])
		return 0;
	if (change_framebuffer(change, screen->driver, screen->framebuffer, false, err) == 0)
		log_info("%s: the firmware's frame buffer leaves it (%s)", change->name,
			screen->framebuffer);
	return tell_or_fail(err);
}

/* As it does of a VGA device for vfio-pci: then nothing brings the frame buffer back but a boot. */
static bool has_been_dropped(const struct change *change, const struct host_screen *screen)
{
	char path[PATH_MAX];

	return screen->framebuffer[0] &&
	       (host_path(change->host, path, PLATFORM "%s", screen->framebuffer) ||
		       access(path, F_OK));
}

void screen_tell_dropped(const struct change *change, const struct host_screen *screen)
{
	if (has_been_dropped(change, screen))
		log_warning("%s: the kernel has dropped the firmware's frame buffer (%s) for good: "
			    "until the host boots, its console is on this card again only if "
			    "that then gets a driver of its own",
			change->name, screen->framebuffer);
}

static int return_framebuffer(
	const struct change *change, const struct host_screen *screen, struct error *err)
{
	char driver[HOST_NAME];

	if (has_been_dropped(change, screen)) {
		log_info("%s: the firmware's frame buffer (%s) is there again when the host boots",
			change->name, screen->framebuffer);
		return 0;
	}
	if (host_read_link(change->host, driver, sizeof(driver), PLATFORM "%s/driver",
		    screen->framebuffer) == 0)
		return 0;
	if (change_framebuffer(change, screen->driver, screen->framebuffer, true, err) == 0)
		log_info("%s: the firmware's frame buffer is on it again (%s)", change->name,
			screen->framebuffer);
	return tell_or_fail(err);
}

int screen_return(const struct change *change, const struct host_screen *screen, struct error *err)
{
	if (screen->framebuffer[0] && return_framebuffer(change, screen, err))
		return err->code;
	return screen->console ? move_console(change, true, err) : 0;
}
