/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/doctor/checks.h"

#include "base/fd.h"
#include "host/reset/way.h"
#include "host/system/distribution.h"

#include <errno.h>
#include <string.h>

/* Checks of a device: reset and power. D is its directory. */

#define D "/sys/bus/pci/devices/"

#define VENDOR_AMD 0x1002

/* reset */

#define CONFIG_IDS    4
#define CONFIG_HEADER 64

/* Not by the IDs: a VF has none there, and a device that is busy after a reset can read 0001. */
static bool is_silent(const struct host *host, const char *name)
{
	char path[PATH_MAX], bytes[CONFIG_HEADER + 1];
	ssize_t got = host_path(host, path, D "%s/config", name) == 0
			      ? fd_read_file(path, bytes, sizeof(bytes))
			      : -ENOENT;

	for (ssize_t i = CONFIG_IDS; i < got; i++)
		if ((uint8_t)bytes[i] != 0xff)
			return false;
	return got > CONFIG_IDS;
}

static bool has_failed_to_reset(
	const struct doctor *doctor, const struct inventory_device *device, char *line, size_t size)
{
	char name[BDF_TEXT];

	doctor_name_of(device, name);
	return kernel_log_find(&doctor->log, name, "giving up", line, size) ||
	       kernel_log_find(&doctor->log, "IOTLB_INV_TIMEOUT", name, line, size);
}

static void tell_bad_reset(
	struct doctor *doctor, const struct inventory_device *device, const char *line)
{
	char name[BDF_TEXT], rescan[RESET_WAY_COMMAND];
	bool silent = is_silent(doctor->host, doctor_name_of(device, name));
	struct finding *finding;

	finding = doctor_add(doctor, silent ? FINDING_PROBLEM : FINDING_WARNING, device, "%s",
		silent ? "it did not come back from a reset"
		       : "a reset of it has failed since the host started, but it answers now");
	doctor_evidence(finding, D "%s/config: %s; kernel log: %s", name,
		silent ? "reads ff" : "can be read", line);
	reset_way_rescan(&device->device, rescan);
	if (silent)
		doctor_fix(
			finding, "'%s'; else 'rtcwake -m mem -s 10', or restart the host", rescan);
	else
		doctor_fix(finding,
			"try 'penstock reset %s' while it is bound, before a guest has it", name);
}

static void tell_risky_reset(struct doctor *doctor, const struct inventory_device *device)
{
	struct finding *finding = doctor_add(doctor, FINDING_WARNING, device,
		"it can only be reset with its bus; many Radeon cards do not come back from that for "
		"a second guest");
	char name[BDF_TEXT], install[128];

	distribution_install(doctor->host, "dkms", install, sizeof(install));
	doctor_evidence(
		finding, D "%s/reset_method: %s", doctor_name_of(device, name), device->reset);
	doctor_fix(finding,
		"try 'penstock reset %s' while it is bound; chips from Polaris to Navi 14 need the "
		"module vendor-reset (%s, then its own sources), and 'echo device_specific >" D
		"%s/reset_method'",
		name, install, name);
}

void doctor_check_reset(struct doctor *doctor, const struct inventory_device *device)
{
	char name[BDF_TEXT], line[192];
	struct finding *finding;

	doctor_name_of(device, name);
	if (has_failed_to_reset(doctor, device, line, sizeof(line))) {
		tell_bad_reset(doctor, device, line);
	} else if (host_device_is_display(&device->device) && device->device.vendor == VENDOR_AMD &&
		   strcmp(device->reset, "bus") == 0) {
		tell_risky_reset(doctor, device);
	} else if (!device->reset[0] && doctor_is_asked(doctor, device)) {
		finding = doctor_add(doctor, FINDING_WARNING, device,
			"the kernel has no way to reset it: a guest leaves it as it is");
		doctor_evidence(finding, D "%s/reset_method: absent", name);
	}
}

/* power */

static void fix_power(const struct inventory_device *device, bool silent, struct finding *finding)
{
	char name[BDF_TEXT], rescan[RESET_WAY_COMMAND];

	reset_way_rescan(&device->device, rescan);
	doctor_fix(finding,
		"%s%s%sso that it stays awake: 'echo options vfio-pci disable_idle_d3=1 "
		">/etc/modprobe.d/vfio-d3.conf', and 'echo 0 >" D "%s/d3cold_allowed'",
		silent ? "'" : "", silent ? rescan : "",
		silent ? "'; else 'rtcwake -m mem -s 10'; " : "", doctor_name_of(device, name));
}

void doctor_check_power(struct doctor *doctor, const struct inventory_device *device)
{
	char name[BDF_TEXT], line[192], state[16] = "";
	struct finding *finding;
	bool silent, told, asleep;

	doctor_name_of(device, name);
	host_read(doctor->host, state, sizeof(state), D "%s/power_state", name);
	asleep = host_power_is_low(state);
	silent = is_silent(doctor->host, name);
	if (silent && has_failed_to_reset(doctor, device, line, sizeof(line))) {
		doctor_add(doctor, FINDING_UNKNOWN, device,
			"it does not answer since a reset: mend that first");
		return;
	}
	told = kernel_log_find(
		       &doctor->log, name, "Unable to change power state", line, sizeof(line)) ||
	       kernel_log_find(&doctor->log, name, "stuck in D3", line, sizeof(line));
	if (!silent && !(told && asleep))
		return;
	finding = doctor_add(doctor, silent ? FINDING_PROBLEM : FINDING_WARNING, device, "%s%s%s",
		silent ? "it does not answer" : "it has failed to wake up since the host started",
		asleep ? ", and is in " : "", asleep ? state : "");
	doctor_evidence(finding, D "%s/config: %s; power_state: %s%s%s", name,
		silent ? "reads ff" : "can be read", state[0] ? state : "not told",
		told ? "; kernel log: " : "", told ? line : "");
	fix_power(device, silent, finding);
}
