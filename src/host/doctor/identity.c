/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/doctor/checks.h"

#include "base/size.h"
#include "base/text.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* Checks of a device: will the right one go to vfio-pci. D is its directory. */

#define D "/sys/bus/pci/devices/"

/* identity */

static bool names_id(const struct host *host, const char *path, const char *id)
{
	FILE *stream = host_open(host, "%s", path);
	char buffer[1024];
	bool found = false;

	while (stream && !found && fgets(buffer, sizeof(buffer), stream)) {
		const char *ids = strstr(buffer, "ids=");

		found = buffer[0] != '#' && ids && strcasestr(ids, id);
	}
	if (stream)
		fclose(stream);
	return found;
}

/* Where vfio-pci is told to take all devices of this ID; "" nowhere. */
static void find_binding_by_id(const struct host *host, const char *id, char *where, size_t size)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	DIR *directory;

	where[0] = '\0';
	if (names_id(host, "/proc/cmdline", id)) {
		snprintf(where, size, "/proc/cmdline");
		return;
	}
	if (host_path(host, path, "/etc/modprobe.d") || !(directory = opendir(path)))
		return;
	while ((entry = readdir(directory))) {
		snprintf(path, sizeof(path), "/etc/modprobe.d/%s", entry->d_name);
		if (names_id(host, path, id))
			text_format(where, size, "%s", path);
	}
	closedir(directory);
}

void doctor_check_identity(struct doctor *doctor, const struct inventory_device *device)
{
	char id[16], where[256], name[BDF_TEXT], twin[BDF_TEXT];
	struct finding *finding;

	snprintf(id, sizeof(id), "%04x:%04x", device->device.vendor, device->device.device);
	find_binding_by_id(doctor->host, id, where, sizeof(where));
	if (where[0] && device->has_twin) {
		finding = doctor_add(doctor, FINDING_WARNING, device,
			"vfio-pci is told to take every %s, and so takes %s as well", id,
			bdf_format(&device->twin, twin));
		doctor_evidence(finding, "%s: ids= with %s", where, id);
		doctor_fix(finding,
			"remove it there, and bind by address: 'penstock boot-config %s --write'",
			doctor_name_of(device, name));
	}
	if (device->device.override[0] && device->device.driver[0] &&
		strcmp(device->device.override, device->device.driver)) {
		finding = doctor_add(doctor, FINDING_WARNING, device,
			"it is meant for %s and is at %s", device->device.override,
			device->device.driver);
		doctor_evidence(finding, D "%s/driver_override: %s", doctor_name_of(device, name),
			device->device.override);
		doctor_fix(finding, "'penstock release %s', or 'penstock bind %s'", name, name);
	}
	/* One of two that are the same is a trap only for who binds by ID. */
	if (!where[0] && device->has_twin && doctor_is_asked(doctor, device)) {
		finding = doctor_add(doctor, FINDING_OK, device,
			"%s has the same ID %s: bind by address, as penstock does",
			bdf_format(&device->twin, twin), id);
		doctor_evidence(finding, D "%s/device", twin);
	}
}
