/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "host/device/processes.h"
#include "host/doctor/doctor.h"
#include "host/reset/reset.h"
#include "host/rom/rom.h"
#include "host/system/distribution.h"
#include "host/system/text.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The checks that are about one device. D is its directory. */

#define D "/sys/bus/pci/devices/"

#define VENDOR_AMD 0x1002

static const char *name_of(const struct inventory_device *device, char text[static BDF_TEXT])
{
	return bdf_format(&device->device.bdf, text);
}

static bool is_asked(const struct doctor *doctor, const struct inventory_device *device)
{
	for (size_t i = 0; i < doctor->device_count; i++)
		if (bdf_equal(&doctor->devices[i], &device->device.bdf))
			return true;
	return false;
}

/* group */

static bool same_slot(const struct bdf *a, const struct bdf *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device;
}

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
		*strange |= !same_slot(&other->device.bdf, &device->device.bdf);
		if (other->used)
			*used = other;
		if (at < size)
			at += snprintf(text + at, size - at, "%s%s (%s)", at ? ", " : "",
				name_of(other, name),
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
	doctor_evidence(finding, D "%s/iommu_group: absent", name_of(device, name));
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
		used ? name_of(used, used_name) : "");
	doctor_evidence(finding, D "%s/iommu_group/devices", name_of(device, name));
	if (strange || used)
		doctor_fix(finding,
			"'penstock bind --group %s' shows and takes all of the group; to split it, "
			"try another slot, or ACS in the firmware's setup (pcie_acs_override is "
			"unsafe: devices could reach each other's memory)",
			name);
}

void doctor_check_group(struct doctor *doctor, const struct inventory_device *device)
{
	struct error err = { 0 };

	if (host_device_check_bridge(&device->device, &err)) {
		if (is_asked(doctor, device))
			doctor_fix(doctor_add(doctor, FINDING_PROBLEM, device, "%s", err.what),
				"%s", err.hint);
	} else if (device->device.group >= 0) {
		tell_shared(doctor, device);
	} else if (has_groups(doctor)) {
		tell_no_group(doctor, device);
	}
}

/* reserved-memory */

static bool find_direct(const struct host *host, int group, char *line, size_t size)
{
	FILE *stream = host_open(host, "/sys/kernel/iommu_groups/%d/reserved_regions", group);
	char buffer[128];
	bool found = false;

	while (stream && !found && fgets(buffer, sizeof(buffer), stream)) {
		buffer[strcspn(buffer, "\n")] = '\0';
		found = strlen(buffer) > 7 && strcmp(buffer + strlen(buffer) - 7, " direct") == 0;
		if (found)
			host_text(line, size, "%s", buffer);
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
		!find_direct(doctor->host, device->device.group, line, sizeof(line)))
		return;
	finding = doctor_add(doctor, doctor_if_asked(doctor), device,
		"the firmware keeps memory for it (RMRR), and the kernel refuses to give it away");
	doctor_evidence(finding, "/sys/kernel/iommu_groups/%d/reserved_regions: %s",
		device->device.group, line);
	doctor_fix(finding, "another slot, or the firmware's setting for it (HPE: 'conrep' with "
			    "RMRDS_Slot set to Endpoints_Excluded); see dmesg for 'RMRR'");
}

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
			host_text(where, size, "%s", path);
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
			name_of(device, name));
	}
	if (device->device.override[0] && device->device.driver[0] &&
		strcmp(device->device.override, device->device.driver)) {
		finding = doctor_add(doctor, FINDING_WARNING, device,
			"it is meant for %s and is at %s", device->device.override,
			device->device.driver);
		doctor_evidence(finding, D "%s/driver_override: %s", name_of(device, name),
			device->device.override);
		doctor_fix(finding, "'penstock release %s', or 'penstock bind %s'", name, name);
	}
	/* One of two that are the same is a trap only for who binds by ID. */
	if (!where[0] && device->has_twin && is_asked(doctor, device)) {
		finding = doctor_add(doctor, FINDING_OK, device,
			"%s has the same ID %s: bind by address, as penstock does",
			bdf_format(&device->twin, twin), id);
		doctor_evidence(finding, D "%s/device", twin);
	}
}

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
			host_text(line, size, "%s", buffer + depth);
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

	name_of(device, name);
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
			host_text(where, size, "/etc/X11/xorg.conf.d/%s", entry->d_name);
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
		name_of(other, name), busid);
}

void doctor_check_display(struct doctor *doctor, const struct inventory_device *device)
{
	char busid[32], where[256], name[BDF_TEXT];
	struct finding *finding;

	if (!host_device_is_display(&device->device))
		return;
	if (device->device.boot_display && (is_asked(doctor, device) || device->device.driver[0])) {
		finding =
			doctor_add(doctor, is_asked(doctor, device) ? FINDING_WARNING : FINDING_OK,
				device, "the firmware shows the boot on it");
		doctor_evidence(finding, D "%s/boot_vga: 1", name_of(device, name));
		if (is_asked(doctor, device))
			fix_display(doctor, device, finding);
	}
	format_busid(&device->device.bdf, busid, sizeof(busid));
	if (is_asked(doctor, device) && xorg_names(doctor->host, busid, where, sizeof(where))) {
		finding = doctor_add(
			doctor, FINDING_WARNING, device, "Xorg is told to use this card");
		doctor_evidence(finding, "%s: BusID \"%s\"", where, busid);
		fix_display(doctor, device, finding);
	}
}

/* in-use */

void doctor_check_use(struct doctor *doctor, const struct inventory_device *device)
{
	char holder[192], name[BDF_TEXT];
	struct finding *finding;
	enum host_user user;

	if (!is_asked(doctor, device))
		return;
	name_of(device, name);
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

	name_of(device, name);
	return kernel_log_find(&doctor->log, name, "giving up", line, size) ||
	       kernel_log_find(&doctor->log, "IOTLB_INV_TIMEOUT", name, line, size);
}

static void tell_bad_reset(
	struct doctor *doctor, const struct inventory_device *device, const char *line)
{
	char name[BDF_TEXT], rescan[HOST_RESET_COMMAND];
	bool silent = is_silent(doctor->host, name_of(device, name));
	struct finding *finding;

	finding = doctor_add(doctor, silent ? FINDING_PROBLEM : FINDING_WARNING, device, "%s",
		silent ? "it did not come back from a reset"
		       : "a reset of it has failed since the host started, but it answers now");
	doctor_evidence(finding, D "%s/config: %s; kernel log: %s", name,
		silent ? "reads ff" : "can be read", line);
	host_reset_rescan(&device->device, rescan);
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
	doctor_evidence(finding, D "%s/reset_method: %s", name_of(device, name), device->reset);
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

	name_of(device, name);
	if (has_failed_to_reset(doctor, device, line, sizeof(line))) {
		tell_bad_reset(doctor, device, line);
	} else if (host_device_is_display(&device->device) && device->device.vendor == VENDOR_AMD &&
		   strcmp(device->reset, "bus") == 0) {
		tell_risky_reset(doctor, device);
	} else if (!device->reset[0] && is_asked(doctor, device)) {
		finding = doctor_add(doctor, FINDING_WARNING, device,
			"the kernel has no way to reset it: a guest leaves it as it is");
		doctor_evidence(finding, D "%s/reset_method: absent", name);
	}
}

/* power */

static void fix_power(const struct inventory_device *device, bool silent, struct finding *finding)
{
	char name[BDF_TEXT], rescan[HOST_RESET_COMMAND];

	host_reset_rescan(&device->device, rescan);
	doctor_fix(finding,
		"%s%s%sso that it stays awake: 'echo options vfio-pci disable_idle_d3=1 "
		">/etc/modprobe.d/vfio-d3.conf', and 'echo 0 >" D "%s/d3cold_allowed'",
		silent ? "'" : "", silent ? rescan : "",
		silent ? "'; else 'rtcwake -m mem -s 10'; " : "", name_of(device, name));
}

void doctor_check_power(struct doctor *doctor, const struct inventory_device *device)
{
	char name[BDF_TEXT], line[192], state[16] = "";
	struct finding *finding;
	bool silent, told, asleep;

	name_of(device, name);
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

/* rom */

static bool read_rom(struct doctor *doctor, const struct inventory_device *device, struct rom *rom,
	struct error *err)
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

	name_of(device, name);
	if (!host_device_is_display(&device->device) || !is_asked(doctor, device) ||
		host_path(doctor->host, path, D "%s/rom", name) || access(path, F_OK))
		return;
	if (device->device.driver[0] && !host_driver_is_viable(device->device.driver)) {
		doctor_add(doctor, FINDING_UNKNOWN, device,
			"its ROM can be read when its driver %s does not have it: penstock bind %s",
			device->device.driver, name);
		return;
	}
	if (!read_rom(doctor, device, &rom, &err)) {
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

/* address-space */

static unsigned physical_bits(const struct host *host)
{
	FILE *stream = host_open(host, "/proc/cpuinfo");
	char line[1024];
	unsigned bits = 0;

	while (stream && !bits && fgets(line, sizeof(line), stream))
		sscanf(line, "address sizes : %u bits physical", &bits);
	if (stream)
		fclose(stream);
	return bits;
}

static uint64_t memory_of(const struct inventory_device *device)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < INVENTORY_BARS; i++)
		if (device->bars[i].kind != INVENTORY_IO)
			sum += device->bars[i].size;
	return sum;
}

static void fix_addresses(struct doctor *doctor, struct finding *finding)
{
	char fix[FINDING_TEXT / 2];

	distribution_cmdline(doctor->host, "pci=realloc", NULL, fix, sizeof(fix));
	doctor_fix(finding, "in the firmware's setup, switch on Above 4G Decoding; or: %s", fix);
}

static bool log_tells_no_space(const struct doctor *doctor, const struct inventory_device *device,
	unsigned bar, char *line, size_t size)
{
	char name[BDF_TEXT], now[64], before[64];

	name_of(device, name);
	snprintf(now, sizeof(now), "%s: BAR %u [mem", name, bar); /* since Linux 6.9 */
	snprintf(before, sizeof(before), "%s: BAR %u: no space for [mem", name, bar);
	return kernel_log_find(&doctor->log, now, "no space", line, size) ||
	       kernel_log_find(&doctor->log, before, NULL, line, size);
}

/*
 * A BAR for memory that has no address now. The kernel tries more than once, so that its log alone
 * does not tell; but its row of zeros for a BAR that it has given up could be that of no BAR.
 */
static bool find_unassigned(const struct doctor *doctor, const struct inventory_device *device,
	unsigned *bar, char *line, size_t size)
{
	for (*bar = 0; *bar < INVENTORY_BARS; ++*bar) {
		const struct inventory_bar *is = &device->bars[*bar];

		if (is->address)
			continue;
		line[0] = '\0';
		if (log_tells_no_space(doctor, device, *bar, line, size) ||
			(is->size && is->kind != INVENTORY_IO))
			return true;
	}
	return false;
}

void doctor_check_addresses(struct doctor *doctor, const struct inventory_device *device)
{
	unsigned bits = physical_bits(doctor->host), bar;
	char name[BDF_TEXT], line[192], size[24], half[24];
	struct finding *finding;

	name_of(device, name);
	if (find_unassigned(doctor, device, &bar, line, sizeof(line))) {
		finding = doctor_add(doctor, doctor_if_asked(doctor), device,
			"the kernel found no address for its BAR %u", bar);
		doctor_evidence(finding, D "%s/resource: BAR %u is 0%s%s", name, bar,
			line[0] ? "; kernel log: " : "", line);
		fix_addresses(doctor, finding);
	}
	/* The upper half of the guest's addresses is for BARs. */
	if (bits > 1 && bits < 64 && memory_of(device) > 1ULL << (bits - 1)) {
		finding = doctor_add(doctor, doctor_if_asked(doctor), device,
			"its BARs of %s do not fit into a guest: the CPU has %u address bits, and "
			"half of that is %s",
			size_format(memory_of(device), size), bits,
			size_format(1ULL << (bits - 1), half));
		doctor_evidence(
			finding, D "%s/resource; /proc/cpuinfo: %u bits physical", name, bits);
		doctor_fix(finding, "write a smaller size to " D "%s/resourceN_resize", name);
	}
}

/* vfio-nodes */

void doctor_check_nodes(struct doctor *doctor, const struct inventory_device *device)
{
	char node[64], path[PATH_MAX], holder[192], name[BDF_TEXT];
	struct finding *finding;

	if (device->device.group < 0 || !host_driver_is_vfio(device->device.driver))
		return;
	name_of(device, name);
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

/* sr-iov */

#define VF_ROWS_FIRST 7 /* of "resource": after six BARs and the ROM (PCI_IOV_RESOURCES) */
#define VF_ROWS       6

/* Does any VF BAR have an address? True also where the kernel shows no such lines. */
static bool vfs_have_addresses(const struct host *host, const char *name)
{
	char path[PATH_MAX], text[2048], *line, *save;
	unsigned row = 0, seen = 0;

	if (host_path(host, path, D "%s/resource", name) ||
		fd_read_file(path, text, sizeof(text)) <= 0)
		return true;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), row++) {
		unsigned long long start, end;

		if (row < VF_ROWS_FIRST || row >= VF_ROWS_FIRST + VF_ROWS ||
			sscanf(line, "%llx %llx", &start, &end) != 2)
			continue;
		seen++;
		if (start)
			return true;
	}
	return !seen;
}

void doctor_check_sriov(struct doctor *doctor, const struct inventory_device *device)
{
	char name[BDF_TEXT], line[192], fix[FINDING_TEXT / 2];
	struct finding *finding;
	bool told;

	name_of(device, name);
	if (!device->vfs_max || vfs_have_addresses(doctor->host, name))
		return;
	told = kernel_log_find(
		&doctor->log, name, "not enough MMIO resources for SR-IOV", line, sizeof(line));
	finding = doctor_add(doctor, FINDING_WARNING, device,
		"the firmware left no addresses for its virtual functions: none can be made");
	doctor_evidence(finding, D "%s/resource: VF BARs are 0%s%s", name,
		told ? "; kernel log: " : "", told ? line : "");
	distribution_cmdline(doctor->host, "pci=realloc", NULL, fix, sizeof(fix));
	doctor_fix(finding,
		"in the firmware's setup, switch on SR-IOV and Above 4G Decoding; or: %s", fix);
}
