/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/doctor/checks.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

/* Checks of a device: its IOMMU group. D is its directory. */

#define D "/sys/bus/pci/devices/"

/* group */

/* The others of the group that go along, and whether one of them is not a function of the same card. */
static unsigned list_companions(const struct doctor *doctor, const struct inventory_device *device,
	char *text, size_t size, const struct inventory_device **used, bool *strange)
{
	unsigned count = 0;
	size_t at = 0;

	text[0] = '\0';
	for (size_t i = 0; i < doctor->inventory.count; i++) {
		const struct inventory_device *other = &doctor->inventory.devices[i];
		char name[BDF_TEXT];

		if (other == device || other->device.group != device->device.group ||
			host_device_is_bridge(&other->device))
			continue;
		count++;
		*strange |= !bdf_same_slot(&other->device.bdf, &device->device.bdf);
		if (other->used)
			*used = other;
		if (at < size)
			at += snprintf(text + at, size - at, "%s%s (%s)", at ? ", " : "",
				doctor_name_of(other, name),
				other->device.driver[0] ? other->device.driver : "no driver");
	}
	return count;
}

static bool has_groups(const struct doctor *doctor)
{
	for (size_t i = 0; i < doctor->inventory.count; i++)
		if (doctor->inventory.devices[i].device.group >= 0)
			return true;
	return false;
}

void doctor_check_groups(struct doctor *doctor)
{
	if (!has_groups(doctor))
		doctor_add(doctor, FINDING_UNKNOWN, NULL,
			"without an IOMMU there are no groups: mend that first");
}

static void tell_no_group(struct doctor *doctor, const struct inventory_device *device)
{
	struct finding *finding;
	char name[BDF_TEXT];

	finding = doctor_add(doctor, doctor_if_asked(doctor), device,
		"it has no IOMMU group, though others have: no IOMMU covers it");
	doctor_evidence(finding, D "%s/iommu_group: absent", doctor_name_of(device, name));
	doctor_fix(finding, "put it into another slot, or look for a firmware update");
}

static void tell_shared(struct doctor *doctor, const struct inventory_device *device)
{
	const struct inventory_device *used = NULL;
	char others[FINDING_TEXT / 2], name[BDF_TEXT], used_name[BDF_TEXT];
	struct finding *finding;
	bool strange = false;
	enum finding_status status;

	if (!list_companions(doctor, device, others, sizeof(others), &used, &strange))
		return;
	/* The functions of one card belong together anyhow. */
	if (!strange && !used && !doctor->device_count)
		return;
	status = used ? doctor_if_asked(doctor) : strange ? FINDING_WARNING : FINDING_OK;
	finding = doctor_add(doctor, status, device, "it shares IOMMU group %d with %s%s%s",
		device->device.group, others, used ? ", and the host uses " : "",
		used ? doctor_name_of(used, used_name) : "");
	doctor_evidence(finding, D "%s/iommu_group/devices", doctor_name_of(device, name));
	if (strange || used)
		doctor_fix(finding,
			"'penstock bind --group %s' shows and takes all of the group; to split it, "
			"try another slot, or ACS in the firmware's setup (pcie_acs_override is "
			"unsafe: devices could reach each other's memory)",
			name);
}

/* One is enough: the doctor is asked again. */
static void tell_kept_by_bridge(struct doctor *doctor, const struct inventory_device *device)
{
	char name[BDF_TEXT], bridge[BDF_TEXT];
	struct error err = { 0 };
	struct finding *finding;

	doctor_name_of(device, name);
	for (size_t i = 0; i < doctor->inventory.count; i++) {
		const struct host_device *other = &doctor->inventory.devices[i].device;

		if (other->group != device->device.group || !host_device_is_bridge(other) ||
			host_device_check_group_bridge(other, name, &err) == 0)
			continue;
		finding = doctor_add(doctor, doctor_if_asked(doctor), device, "%s", err.what);
		doctor_evidence(finding, D "%s/driver", bdf_format(&other->bdf, bridge));
		doctor_fix(finding, "%s", err.hint);
		return;
	}
}

void doctor_check_group(struct doctor *doctor, const struct inventory_device *device)
{
	struct error err = { 0 };

	if (host_device_check_bridge(&device->device, &err)) {
		if (doctor_is_asked(doctor, device))
			doctor_fix(doctor_add(doctor, FINDING_PROBLEM, device, "%s", err.what),
				"%s", err.hint);
	} else if (device->device.group >= 0) {
		tell_kept_by_bridge(doctor, device);
		tell_shared(doctor, device);
	} else if (has_groups(doctor)) {
		tell_no_group(doctor, device);
	}
}

/* reserved-memory */

static bool find_reserved(const struct host *host, int group, char *line, size_t size)
{
	FILE *stream = host_open(host, "/sys/kernel/iommu_groups/%d/reserved_regions", group);
	char buffer[128];
	bool found = false;

	while (stream && !found && fgets(buffer, sizeof(buffer), stream)) {
		buffer[strcspn(buffer, "\n")] = '\0';
		found = strlen(buffer) > 7 && strcmp(buffer + strlen(buffer) - 7, " direct") == 0;
		if (found)
			text_format(line, size, "%s", buffer);
	}
	if (stream)
		fclose(stream);
	return found;
}

void doctor_check_reserved(struct doctor *doctor, const struct inventory_device *device)
{
	struct finding *finding;
	char line[128];

	if (device->device.group < 0 ||
		!find_reserved(doctor->host, device->device.group, line, sizeof(line)))
		return;
	finding = doctor_add(doctor, doctor_if_asked(doctor), device,
		"the firmware keeps memory for it (RMRR), and the kernel refuses to give it away");
	doctor_evidence(finding, "/sys/kernel/iommu_groups/%d/reserved_regions: %s",
		device->device.group, line);
	doctor_fix(finding, "another slot, or the firmware's setting for it (HPE: 'conrep' with "
			    "RMRDS_Slot set to Endpoints_Excluded); see dmesg for 'RMRR'");
}
