/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/text.h"
#include "host/doctor/checks.h"
#include "host/system/distribution.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The checks that are about the host as a whole. */

#define GROUPS     "/sys/kernel/iommu_groups"
#define TABLES     "/sys/firmware/acpi/tables/"
#define TYPE1      "/sys/module/vfio_iommu_type1/parameters/"
#define CPUINFO    "/proc/cpuinfo"
#define INTERRUPTS "/proc/interrupts"

static unsigned count_entries(const struct host *host, const char *directory)
{
	const struct dirent *entry;
	unsigned count = 0;
	char path[PATH_MAX];
	DIR *opened = host_path(host, path, "%s", directory) == 0 ? opendir(path) : NULL;

	while (opened && (entry = readdir(opened)))
		count += entry->d_name[0] != '.';
	if (opened)
		closedir(opened);
	return count;
}

/* The first line of a file that has the word, "" where there is none; cut. */
static bool find_line_with(
	const struct host *host, const char *path, const char *word, char *line, size_t size)
{
	FILE *stream = host_open(host, "%s", path);
	char buffer[1024];
	bool found = false;

	line[0] = '\0';
	while (stream && !found && fgets(buffer, sizeof(buffer), stream)) {
		found = strstr(buffer, word);
		buffer[strcspn(buffer, "\n")] = '\0';
		if (found)
			text_format(line, size, "%s", buffer + strspn(buffer, " "));
	}
	if (stream)
		fclose(stream);
	return found;
}

static bool is_intel(const struct host *host)
{
	char line[128];

	return find_line_with(host, CPUINFO, "GenuineIntel", line, sizeof(line));
}

static void tell_iommu_is_unused(struct doctor *doctor, const char *table)
{
	const char *off = host_iommu_off(doctor->host);
	const char *on = strcmp(table, "DMAR") == 0 ? "intel_iommu=on" : NULL;
	struct finding *finding = doctor_add(doctor, FINDING_PROBLEM, NULL,
		"the firmware offers an IOMMU, and the kernel does not use it%s%s",
		off ? ": its command line has " : "", off ? off : "");
	char fix[FINDING_TEXT];

	doctor_evidence(finding, GROUPS ": empty; " TABLES "%s: present; /proc/cmdline: %s", table,
		off ? off : "without intel_iommu=on");
	distribution_cmdline(doctor->host, on, off, fix, sizeof(fix));
	if (on || off)
		doctor_fix(finding, "%s", fix);
	else
		doctor_fix(finding, "'dmesg | grep -i AMD-Vi' tells why; update the firmware");
}

void doctor_check_iommu(struct doctor *doctor)
{
	unsigned groups = count_entries(doctor->host, GROUPS);
	struct finding *finding;

	if (groups) {
		finding = doctor_add(doctor, FINDING_OK, NULL, "the IOMMU is on");
		doctor_evidence(finding, GROUPS ": %u groups", groups);
		return;
	}
	if (host_exists(doctor->host, TABLES "DMAR") || host_exists(doctor->host, TABLES "IVRS")) {
		tell_iommu_is_unused(
			doctor, host_exists(doctor->host, TABLES "DMAR") ? "DMAR" : "IVRS");
		return;
	}
	finding = doctor_add(doctor, FINDING_PROBLEM, NULL, "the firmware does not offer an IOMMU");
	doctor_evidence(finding, GROUPS ": empty; " TABLES "DMAR and IVRS: absent");
	doctor_fix(finding, "in the firmware's setup, switch on %s",
		is_intel(doctor->host) ? "VT-d (Intel Virtualization Technology for Directed I/O)"
				       : "IOMMU (AMD-Vi)");
}

void doctor_check_kvm(struct doctor *doctor)
{
	char line[128];
	bool intel = find_line_with(doctor->host, CPUINFO, " vmx", line, sizeof(line));
	bool able = intel || find_line_with(doctor->host, CPUINFO, " svm", line, sizeof(line));
	struct finding *finding;

	if (host_exists(doctor->host, "/dev/kvm")) {
		if (!host_is_live(doctor->host) || access("/dev/kvm", R_OK | W_OK) == 0) {
			finding = doctor_add(doctor, FINDING_OK, NULL, "KVM is there");
			doctor_evidence(finding, "/dev/kvm: present");
			return;
		}
		finding = doctor_add(doctor, FINDING_PROBLEM, NULL, "you may not use KVM");
		doctor_evidence(finding, "/dev/kvm: %s", strerror(errno));
		doctor_fix(finding, "'sudo usermod -aG kvm $USER', then log in anew");
		return;
	}
	finding = doctor_add(doctor, FINDING_PROBLEM, NULL,
		able ? "the KVM module is not loaded"
		     : "the CPU's virtualisation is not available");
	doctor_evidence(finding, "/dev/kvm: absent; " CPUINFO ": flags %s",
		intel  ? "with vmx"
		: able ? "with svm"
		       : "without vmx and svm");
	if (able)
		doctor_fix(finding, "'modprobe %s'", intel ? "kvm_intel" : "kvm_amd");
	else
		doctor_fix(finding,
			"in the firmware's setup, switch on %s; inside a virtual "
			"machine, nested virtualisation",
			is_intel(doctor->host) ? "Intel Virtualization Technology (VT-x)"
					       : "SVM Mode");
}

static bool log_has_remapping(const struct doctor *doctor, char *line, size_t size)
{
	return kernel_log_find(&doctor->log, "DMAR-IR: Enabled IRQ remapping", NULL, line, size) ||
	       kernel_log_find(
		       &doctor->log, "AMD-Vi: Interrupt remapping enabled", NULL, line, size);
}

static const char *remapping_off_word(const struct host *host)
{
	if (host_cmdline_has(host, "intremap=off"))
		return "intremap=off";
	return host_cmdline_has(host, "nointremap") ? "nointremap" : NULL;
}

static void fix_remapping(struct doctor *doctor, struct finding *finding)
{
	const char *off = remapping_off_word(doctor->host);
	char fix[FINDING_TEXT / 2];

	distribution_cmdline(doctor->host, NULL, off, fix, sizeof(fix));
	if (off)
		doctor_fix(finding, "%s", fix);
	else
		doctor_fix(finding,
			"update the firmware, and switch x2APIC or interrupt remapping on in its "
			"setup; where every guest is trusted: 'echo options vfio_iommu_type1 "
			"allow_unsafe_interrupts=1 >/etc/modprobe.d/vfio-unsafe.conf'");
}

/* What VFIO asks the IOMMU driver is told nowhere; the names of interrupt chips and the log say it. */
void doctor_check_interrupts(struct doctor *doctor)
{
	char line[192], unsafe[8] = "";
	struct finding *finding;

	if (find_line_with(doctor->host, INTERRUPTS, " IR-", line, sizeof(line))) {
		finding = doctor_add(doctor, FINDING_OK, NULL, "interrupts are remapped");
		doctor_evidence(finding, INTERRUPTS ": has IR- chips");
		return;
	}
	if (log_has_remapping(doctor, line, sizeof(line))) {
		finding = doctor_add(doctor, FINDING_OK, NULL, "interrupts are remapped");
		doctor_evidence(finding, "kernel log: %s", line);
		return;
	}
	if (!count_entries(doctor->host, GROUPS)) {
		doctor_add(doctor, FINDING_UNKNOWN, NULL,
			"without an IOMMU there is no remapping of interrupts: mend that first");
		return;
	}
	host_read(doctor->host, unsafe, sizeof(unsafe), TYPE1 "allow_unsafe_interrupts");
	if (unsafe[0] == 'Y') {
		finding = doctor_add(doctor, FINDING_WARNING, NULL,
			"interrupts are not remapped, and VFIO is told to go without: a guest can "
			"send interrupts that are the host's");
		doctor_evidence(finding, TYPE1 "allow_unsafe_interrupts: Y");
		return;
	}
	finding = doctor_add(doctor, doctor->log.text ? FINDING_PROBLEM : FINDING_UNKNOWN, NULL,
		doctor->log.text ? "interrupts are not remapped, and VFIO will refuse devices"
				 : "interrupts seem not to be remapped");
	doctor_evidence(finding, INTERRUPTS ": no IR- chip; kernel log: %s",
		doctor->log.text ? "no word of it" : "may not be read (run this as root)");
	fix_remapping(doctor, finding);
}

/* The hard limit of "Max locked memory" in bytes, to which penstock raises the soft one; -1: none or not told. */
static long long locked_memory(const struct host *host)
{
	long long limit;
	char line[160];

	if (!find_line_with(host, "/proc/self/limits", "Max locked memory", line, sizeof(line)) ||
		sscanf(line, "Max locked memory %*s %lld", &limit) != 1)
		return -1;
	return limit;
}

#define ENOUGH_LOCKED (64LL << 30)  /* a limit as large is meant for this */
#define LEAST_LOCKED  (512LL << 20) /* of 'penstock run' without --memory */

void doctor_check_memory_lock(struct doctor *doctor)
{
	bool live = host_is_live(doctor->host), root = live && geteuid() == 0;
	long long limit = locked_memory(doctor->host);
	struct finding *finding;

	if (root || limit < 0 || limit >= ENOUGH_LOCKED) {
		finding = doctor_add(doctor, FINDING_OK, NULL, "guest memory may be locked");
		doctor_evidence(finding, root ? "you are root, whom no limit binds"
					      : "/proc/self/limits: Max locked memory unlimited");
		return;
	}
	/* Whose limit a recorded tree has, nobody knows. */
	finding = doctor_add(doctor,
		live && limit < LEAST_LOCKED ? doctor_if_asked(doctor) : FINDING_WARNING, NULL,
		"a guest with devices that you start without root is limited to %lld MiB of memory, "
		"as all of it is locked",
		limit >> 20);
	doctor_evidence(finding, "/proc/self/limits: Max locked memory %lld", limit);
	doctor_fix(finding,
		"'echo \"$USER - memlock unlimited\" | sudo tee /etc/security/limits.d/penstock.conf', "
		"then log in anew; in a systemd unit LimitMEMLOCK=infinity; or run penstock as root");
}

/* Is a file newer than the initramfs of the running kernel? */
static bool is_newer(const struct host *host, const char *path, const struct stat *image)
{
	char full[PATH_MAX];
	struct stat stat_;

	return host_path(host, full, "%s", path) == 0 && stat(full, &stat_) == 0 &&
	       stat_.st_mtime > image->st_mtime;
}

static bool find_initramfs(const struct host *host, char *path, size_t size, struct stat *image)
{
	char release[HOST_NAME], full[PATH_MAX];
	const char *const names[] = { "/boot/initrd.img-%s", "/boot/initramfs-%s.img" };

	host_read_kernel(host, release);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, size, i ? "/boot/initramfs-%s.img" : "/boot/initrd.img-%s", release);
		if (host_path(host, full, "%s", path) == 0 && stat(full, image) == 0)
			return true;
	}
	snprintf(path, size, "/boot/initramfs-linux.img");
	return host_path(host, full, "%s", path) == 0 && stat(full, image) == 0;
}

/* Modules' options that are about VFIO reach the initramfs only when it is made anew. */
void doctor_check_initramfs(struct doctor *doctor)
{
	const struct initramfs *other, *program;
	enum initramfs_kind kind;
	char path[PATH_MAX], image_path[HOST_NAME + 64], line[128];
	const struct dirent *entry;
	struct stat image;
	DIR *directory;

	if (!find_initramfs(doctor->host, image_path, sizeof(image_path), &image) ||
		host_path(doctor->host, path, "/etc/modprobe.d") || !(directory = opendir(path)))
		return;
	program = distribution_initramfs(doctor->host, &kind, &other);
	while ((entry = readdir(directory))) {
		struct finding *finding;

		snprintf(path, sizeof(path), "/etc/modprobe.d/%s", entry->d_name);
		if (!find_line_with(doctor->host, path, "vfio", line, sizeof(line)) ||
			!is_newer(doctor->host, path, &image))
			continue;
		finding = doctor_add(doctor, FINDING_WARNING, NULL,
			"the initramfs is older than the configuration of VFIO");
		doctor_evidence(finding, "%s: newer than %s", path, image_path);
		if (program)
			doctor_fix(finding, "%s", program->rebuild);
	}
	closedir(directory);
}

/* Facts. */

static void set_fact(struct doctor *doctor, unsigned i, const char *id, const char *what, int value,
	const char *evidence)
{
	doctor->facts[i] = (struct doctor_fact){ .id = id, .what = what, .value = value };
	snprintf(doctor->facts[i].evidence, sizeof(doctor->facts[i].evidence), "%s", evidence);
}

static int read_switch(const struct host *host, const char *path, char *evidence, size_t size)
{
	char text[8];

	if (host_read(host, text, sizeof(text), "%s", path) <= 0) {
		snprintf(evidence, size, "%s: absent", path);
		return -1;
	}
	snprintf(evidence, size, "%s: %s", path, text);
	return text[0] == 'Y' || text[0] == '1';
}

#define CAP_PI (1ULL << 59) /* VT-d 5.10, 11.4.2: posted interrupts */

void doctor_read_facts(struct doctor *doctor)
{
	char text[32], evidence[FINDING_TEXT];
	int value = -1;

	snprintf(evidence, sizeof(evidence), "/sys/class/iommu/dmar0/intel-iommu/cap: absent");
	if (host_read(doctor->host, text, sizeof(text), "/sys/class/iommu/dmar0/intel-iommu/cap") >
		0) {
		value = !!(strtoull(text, NULL, 16) & CAP_PI);
		snprintf(evidence, sizeof(evidence),
			"/sys/class/iommu/dmar0/intel-iommu/cap: %s, bit 59 is %d", text, value);
	}
	set_fact(doctor, 0, "vtd-posted-interrupts",
		"VT-d can post a device's interrupts to a running vCPU", value, evidence);
	value = read_switch(doctor->host, "/sys/module/kvm_intel/parameters/enable_apicv", evidence,
		sizeof(evidence));
	set_fact(doctor, 1, "apicv", "KVM uses APICv (Intel): interrupts without exits", value,
		evidence);
	value = read_switch(
		doctor->host, "/sys/module/kvm_amd/parameters/avic", evidence, sizeof(evidence));
	set_fact(doctor, 2, "avic", "KVM uses AVIC (AMD): interrupts without exits", value,
		evidence);
}
