/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/doctor/checks.h"

#include "base/fd.h"
#include "base/size.h"
#include "base/text.h"
#include "host/rom/read.h"
#include "host/rom/rom.h"
#include "host/system/distribution.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Checks of a device: what shows a picture. D is its directory. */

#define D "/sys/bus/pci/devices/"

/* framebuffer */

static bool is_framebuffer(const char *name)
{
	static const char *const names[] = { "BOOTFB", "efifb", "simpledrm", "simplefb",
		"simple-framebuffer", "vesafb" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strstr(name, names[i]))
			return true;
	return false;
}

/* /proc/iomem indents what lies inside another: a frame buffer below the device's own line. */
static bool find_framebuffer(const struct host *host, const char *device, char *line, size_t size)
{
	FILE *stream = host_open(host, "/proc/iomem");
	char buffer[256];
	size_t inside = 0, depth;
	bool within = false, found = false;

	while (stream && !found && fgets(buffer, sizeof(buffer), stream)) {
		buffer[strcspn(buffer, "\n")] = '\0';
		depth = strspn(buffer, " ");
		if (within && depth <= inside)
			within = false;
		if (within && is_framebuffer(buffer)) {
			text_format(line, size, "%s", buffer + depth);
			found = true;
		}
		if (strstr(buffer, device)) {
			within = true;
			inside = depth;
		}
	}
	if (stream)
		fclose(stream);
	return found;
}

static void fix_framebuffer(struct doctor *doctor, struct finding *finding)
{
	char fix[FINDING_TEXT / 2];

	distribution_cmdline(doctor->host, "initcall_blacklist=sysfb_init", NULL, fix, sizeof(fix));
	doctor_fix(finding,
		"let the firmware boot on another graphics card; or, without a picture until the "
		"host's driver loads: %s",
		fix);
}

/* What the log tells is of the past: only a frame buffer that is there now stands in the way. */
void doctor_check_framebuffer(struct doctor *doctor, const struct inventory_device *device)
{
	char memory[192], line[192], name[BDF_TEXT];
	struct finding *finding;
	bool there, told;

	doctor_name_of(device, name);
	there = host_device_is_display(&device->device) &&
		find_framebuffer(doctor->host, name, memory, sizeof(memory));
	told = kernel_log_find(&doctor->log, name, "can't reserve [mem", line, sizeof(line));
	if (!there && !told)
		return;
	finding = doctor_add(doctor, there && told ? doctor_if_asked(doctor) : FINDING_WARNING,
		device, "%s",
		there ? "the firmware's frame buffer lies in one of its BARs"
		      : "one of its BARs was taken when vfio-pci wanted it");
	doctor_evidence(finding, "%s%s%s%s%s", there ? "/proc/iomem: " : "", there ? memory : "",
		there && told ? "; " : "", told ? "kernel log: " : "", told ? line : "");
	fix_framebuffer(doctor, finding);
}

/* boot-display */

/* Xorg's BusID is decimal. */
static void format_busid(const struct bdf *bdf, char *text, size_t size)
{
	snprintf(text, size, "PCI:%u:%u:%u", bdf->bus, bdf->device, bdf->function);
}

static bool xorg_names(const struct host *host, const char *busid, char *where, size_t size)
{
	const struct dirent *entry;
	char path[PATH_MAX], line[256];
	DIR *directory;
	FILE *stream;
	bool found = false;

	if (host_path(host, path, "/etc/X11/xorg.conf.d") || !(directory = opendir(path)))
		return false;
	while (!found && (entry = readdir(directory))) {
		stream = host_open(host, "/etc/X11/xorg.conf.d/%s", entry->d_name);
		if (!stream)
			continue;
		while (!found && fgets(line, sizeof(line), stream))
			found = strstr(line, "BusID") && strstr(line, busid);
		fclose(stream);
		if (found)
			text_format(where, size, "/etc/X11/xorg.conf.d/%s", entry->d_name);
	}
	closedir(directory);
	return found;
}

static const struct inventory_device *other_display(
	const struct doctor *doctor, const struct inventory_device *device)
{
	for (size_t i = 0; i < doctor->inventory.count; i++) {
		const struct inventory_device *other = &doctor->inventory.devices[i];

		if (other != device && host_device_is_display(&other->device))
			return other;
	}
	return NULL;
}

static void fix_display(
	struct doctor *doctor, const struct inventory_device *device, struct finding *finding)
{
	const struct inventory_device *other = other_display(doctor, device);
	char busid[32], name[BDF_TEXT];

	if (!other) {
		doctor_fix(finding,
			"the host has no other graphics card: without one it is headless while a "
			"guest has this");
		return;
	}
	format_busid(&other->device.bdf, busid, sizeof(busid));
	doctor_fix(finding,
		"choose %s as the first display in the firmware's setup; for Xorg: BusID \"%s\" in "
		"the Device section of /etc/X11/xorg.conf.d/10-gpu.conf",
		doctor_name_of(other, name), busid);
}

void doctor_check_display(struct doctor *doctor, const struct inventory_device *device)
{
	char busid[32], where[256], name[BDF_TEXT];
	struct finding *finding;

	if (!host_device_is_display(&device->device))
		return;
	if (device->device.boot_display &&
		(doctor_is_asked(doctor, device) || device->device.driver[0])) {
		finding = doctor_add(doctor,
			doctor_is_asked(doctor, device) ? FINDING_WARNING : FINDING_OK, device,
			"the firmware shows the boot on it");
		doctor_evidence(finding, D "%s/boot_vga: 1", doctor_name_of(device, name));
		if (doctor_is_asked(doctor, device))
			fix_display(doctor, device, finding);
	}
	format_busid(&device->device.bdf, busid, sizeof(busid));
	if (doctor_is_asked(doctor, device) &&
		xorg_names(doctor->host, busid, where, sizeof(where))) {
		finding = doctor_add(
			doctor, FINDING_WARNING, device, "Xorg is told to use this card");
		doctor_evidence(finding, "%s: BusID \"%s\"", where, busid);
		fix_display(doctor, device, finding);
	}
}

/* rom */

static bool read_rom_of(struct doctor *doctor, const struct inventory_device *device,
	struct rom *rom, struct error *err)
{
	cleanup_free uint8_t *data = NULL;
	size_t size;

	if (rom_read_device(doctor->host, &device->device, &data, &size, err))
		return false;
	rom_parse(rom, data, size, &device->device);
	return true;
}

/* Only of a graphics card that is asked about: reading a ROM is no trifle for a device. */
void doctor_check_rom(struct doctor *doctor, const struct inventory_device *device)
{
	char name[BDF_TEXT], path[PATH_MAX];
	struct error err = { 0 };
	struct finding *finding;
	struct rom rom;

	doctor_name_of(device, name);
	if (!host_device_is_display(&device->device) || !doctor_is_asked(doctor, device) ||
		host_path(doctor->host, path, D "%s/rom", name) || access(path, F_OK))
		return;
	if (device->device.driver[0] && !host_driver_is_viable(device->device.driver)) {
		doctor_add(doctor, FINDING_UNKNOWN, device,
			"its ROM can be read when its driver %s does not have it: penstock bind %s",
			device->device.driver, name);
		return;
	}
	if (!read_rom_of(doctor, device, &rom, &err)) {
		finding = doctor_add(doctor, FINDING_WARNING, device, "its ROM cannot be read");
		doctor_evidence(finding, D "%s/rom: %s", name, err.what);
	} else if (!rom_is_good(&rom) || !rom_has(&rom, ROM_TYPE_UEFI)) {
		finding = doctor_add(doctor, FINDING_WARNING, device, "%s",
			rom_is_good(&rom)
				? "its ROM has no UEFI image, which a guest with UEFI needs"
				: "its ROM is not sound: penstock rom check shows it");
		doctor_evidence(finding, D "%s/rom: %u images%s%s", name, rom.count,
			rom.broken[0] ? "; " : "", rom.broken);
	} else {
		return;
	}
	doctor_fix(finding,
		"take it while another card is the boot display ('penstock rom dump %s FILE'), or get "
		"the file of this very card from its maker",
		name);
}
