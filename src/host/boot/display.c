/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/display.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define CLASS_DISPLAY_VGA 0x0300
#define DISPLAYS_MAX      16

#define XORG_DIRECTORY "/etc/X11/xorg.conf.d/"

static const struct host_device *find_boot_display(const struct boot_plan *plan)
{
	for (size_t i = 0; i < plan->device_count; i++)
		if (host_device_is_display(&plan->devices[i].device) &&
			plan->devices[i].device.boot_display)
			return &plan->devices[i].device;
	return NULL;
}

/* The displays that stay with the host. */
static size_t find_others(const struct boot_plan *plan, const struct host *host,
	struct host_device others[static DISPLAYS_MAX])
{
	const struct dirent *entry;
	char path[PATH_MAX];
	size_t count = 0;
	DIR *directory = host_path(host, path, "/sys/bus/pci/devices") == 0 ? opendir(path) : NULL;

	while (directory && count < DISPLAYS_MAX && (entry = readdir(directory))) {
		struct error ignored = { 0 };
		struct bdf bdf;

		if (bdf_parse(entry->d_name, &bdf) == 0 && !boot_plan_has(plan, &bdf) &&
			host_device_read(host, &bdf, &others[count], &ignored) == 0 &&
			host_device_is_display(&others[count]))
			count++;
	}
	if (directory)
		closedir(directory);
	return count;
}

/*
 * Since Linux 6.0 vfio-pci takes the firmware's frame buffer (efifb, vesafb, simpledrm) off a
 * card that it binds, if the card is of class VGA. In all other cases the frame buffer keeps the
 * card's memory reserved, and the guest cannot have it. What creates it for any of these drivers
 * is sysfb_init(); video=efifb:off silences efifb alone, and distributions' kernels have
 * simpledrm now.
 */
static void plan_frame_buffer(
	struct boot_plan *plan, const struct host *host, const struct host_device *card)
{
	char name[BDF_TEXT], release[HOST_NAME];
	unsigned major = 0;

	bdf_format(&card->bdf, name);
	host_read_kernel(host, release);
	if (sscanf(release, "%u.", &major) != 1)
		major = 0;
	if (major >= 6 && card->class_code >> 8 == CLASS_DISPLAY_VGA) {
		boot_plan_note(plan,
			"%s is the boot display. Linux %s takes the firmware's frame buffer off it when "
			"vfio-pci binds it: neither video=efifb:off nor initcall_blacklist=sysfb_init is "
			"needed, and the picture stops in the initramfs",
			name, release);
		return;
	}
	boot_plan_word(plan, "initcall_blacklist=sysfb_init");
	boot_plan_note(plan,
		"%s is the boot display, and %s: initcall_blacklist=sysfb_init keeps all of the "
		"firmware's frame buffers away from it (video=efifb:off would leave simpledrm). There "
		"is no picture until the driver of another card loads",
		name,
		major >= 6
			? "vfio-pci takes the firmware's frame buffer off VGA controllers only"
			: "vfio-pci takes the firmware's frame buffer off it only since Linux 6.0");
}

/* Xorg wants decimal numbers: 32:00.0 is "PCI:50:0:0". */
static void format_bus_id(const struct bdf *bdf, char text[static 48])
{
	int used = snprintf(text, 48, "PCI:%u", bdf->bus);

	if (bdf->domain)
		used += snprintf(text + used, 48 - used, "@%u", bdf->domain);
	snprintf(text + used, 48 - used, ":%u:%u", bdf->device, bdf->function);
}

/* The one driver that needs to be named is the one without kernel mode setting for all. */
static const char *xorg_driver(const struct host_device *card)
{
	return strcmp(card->driver, "nvidia") == 0 ? "nvidia" : "modesetting";
}

static bool has_xorg(const struct host *host)
{
	return host_exists(host, "/usr/bin/Xorg") || host_exists(host, "/usr/lib/xorg/Xorg") ||
	       host_exists(host, "/usr/libexec/Xorg");
}

static void plan_xorg(struct boot_plan *plan, const struct host_device *card)
{
	struct boot_file file = {
		.path = XORG_DIRECTORY "10-penstock.conf",
		.why = "Xorg looks for the boot display; this names the host's card, in decimal",
		.edit = BOOT_WHOLE,
		.mode = 0644,
	};
	char bus_id[48];

	format_bus_id(&card->bdf, bus_id);
	if (asprintf(&file.text,
		    BOOT_COMMENT "Section \"Device\"\n"
				 "	Identifier \"the host's display\"\n"
				 "	Driver \"%s\"\n"
				 "	BusID \"%s\"\n"
				 "EndSection\n",
		    xorg_driver(card), bus_id) < 0)
		file.text = NULL;
	boot_plan_file(plan, &file);
}

void boot_display_plan(struct boot_plan *plan, const struct host *host)
{
	const struct host_device *guest = find_boot_display(plan);
	struct host_device others[DISPLAYS_MAX];
	char name[BDF_TEXT], bus_id[48];
	size_t count;

	if (!guest)
		return;
	plan_frame_buffer(plan, host, guest);
	count = find_others(plan, host, others);
	if (!count)
		boot_plan_note(plan,
			"%s is the only display: have another way to the host, as ssh or a serial "
			"console (console=ttyS0)",
			bdf_format(&guest->bdf, name));
	/* A configuration of the user's own says more than penstock knows. */
	if (count == 1 && has_xorg(host) && !host_exists(host, "/etc/X11/xorg.conf")) {
		plan_xorg(plan, &others[0]);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		format_bus_id(&others[i].bdf, bus_id);
		boot_plan_note(plan, "for Xorg, %s is: BusID \"%s\"",
			bdf_format(&others[i].bdf, name), bus_id);
	}
}
