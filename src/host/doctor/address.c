/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/doctor/checks.h"

#include "base/fd.h"
#include "base/size.h"
#include "host/system/distribution.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Checks of a device: room for its BARs and those of its VFs. D is its directory. */

#define D "/sys/bus/pci/devices/"

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

	for (unsigned i = 0; i < HOST_BARS; i++)
		if (device->bars[i].kind != HOST_BAR_IO)
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

	doctor_name_of(device, name);
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
	for (*bar = 0; *bar < HOST_BARS; ++*bar) {
		const struct host_bar *is = &device->bars[*bar];

		if (is->address)
			continue;
		line[0] = '\0';
		if (log_tells_no_space(doctor, device, *bar, line, size) ||
			(is->size && is->kind != HOST_BAR_IO))
			return true;
	}
	return false;
}

void doctor_check_addresses(struct doctor *doctor, const struct inventory_device *device)
{
	unsigned bits = physical_bits(doctor->host), bar;
	char name[BDF_TEXT], line[192], size[24], half[24];
	struct finding *finding;

	doctor_name_of(device, name);
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

	doctor_name_of(device, name);
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
