/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/doctor/checks.h"

#include "host/device/processes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Checks of a device: who has it. D is its directory. */

#define D "/sys/bus/pci/devices/"

/* in-use */

void doctor_check_use(struct doctor *doctor, const struct inventory_device *device)
{
	char holder[192], name[BDF_TEXT];
	struct finding *finding;
	enum host_user user;

	if (!doctor_is_asked(doctor, device))
		return;
	doctor_name_of(device, name);
	if (device->used) {
		finding = doctor_add(doctor, FINDING_PROBLEM, device, "the host is using it: %s",
			device->use.reason);
		doctor_evidence(finding, "%s", device->use.reason);
		doctor_fix(finding, "%s", device->use.hint);
	}
	if (device->holder[0] && strcmp(device->holder, "penstock bind")) {
		finding = doctor_add(doctor, FINDING_PROBLEM, device, "%s has it", device->holder);
		doctor_evidence(finding, "%s/devices/%s", device->journal, name);
		doctor_fix(finding, "end that machine; if it has died: 'penstock release --stale'");
	}
	if (host_device_is_bridge(&device->device))
		return;
	user = host_processes_using(doctor->host, &device->device, holder, sizeof(holder));
	if (user == HOST_USER_DEPENDS) {
		finding = doctor_add(
			doctor, FINDING_PROBLEM, device, "a process is using it: %s", holder);
		doctor_evidence(finding, "/proc/*/fd: %s", holder);
		doctor_fix(finding, "end that process");
	} else if (user == HOST_USER_HAS_OPEN) {
		finding = doctor_add(doctor, FINDING_WARNING, device,
			"a process has it open, and its driver may wait for that: %s", holder);
		doctor_evidence(finding, "/proc/*/fd: %s", holder);
		doctor_fix(finding, "end that process first");
	}
}

/* vfio-nodes */

void doctor_check_nodes(struct doctor *doctor, const struct inventory_device *device)
{
	char node[64], path[PATH_MAX], holder[192], name[BDF_TEXT];
	struct finding *finding;

	if (device->device.group < 0 || !host_driver_is_vfio(device->device.driver))
		return;
	doctor_name_of(device, name);
	snprintf(node, sizeof(node), "/dev/vfio/%d", device->device.group);
	if (host_path(doctor->host, path, "%s", node))
		return;
	if (access(path, F_OK)) {
		finding = doctor_add(doctor, doctor_if_asked(doctor), device,
			"it is at %s, and its group has no file", device->device.driver);
		doctor_evidence(finding, "%s: absent", node);
		doctor_fix(finding,
			"'modprobe vfio_iommu_type1; penstock release %s; penstock bind %s'", name,
			name);
	} else if (host_is_live(doctor->host) && access(path, R_OK | W_OK)) {
		finding = doctor_add(doctor, doctor_if_asked(doctor), device,
			"you may not open its group's file");
		doctor_evidence(finding, "%s: %s", node, strerror(errno));
		doctor_fix(finding, "'sudo penstock bind --user $USER %s'", name);
	} else if (host_is_live(doctor->host) && host_processes_using_vfio(doctor->host,
							 &device->device, holder, sizeof(holder))) {
		finding = doctor_add(doctor, doctor_if_asked(doctor), device,
			"another program has its group: %s", holder);
		doctor_evidence(finding, "%s", node);
		doctor_fix(finding, "end that program first");
	}
}
