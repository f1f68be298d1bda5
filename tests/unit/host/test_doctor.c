/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/doctor/checks.h"
#include "host/doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Each check fires on a host that has the trouble, and is silent on one that has not. */

static void run(struct fixture *fixture, struct doctor *doctor, const char *device)
{
	static struct bdf bdf;
	struct error err = { 0 };

	if (device)
		assert_int_equal(bdf_parse(device, &bdf), 0);
	if (doctor_run(doctor, &fixture->host, &bdf, device ? 1 : 0, &err))
		fail_msg("%s: %s", err.object, err.what);
}

static void dump(const struct doctor *doctor)
{
	char name[BDF_TEXT];

	for (size_t i = 0; i < doctor->count; i++) {
		const struct finding *finding = &doctor->findings[i];

		print_message("%d %s %s: %s\n  %s\n  %s\n", finding->status, finding->check,
			finding->has_device ? bdf_format(&finding->device, name) : "-",
			finding->what, finding->evidence, finding->fix);
	}
}

static const struct finding *find(
	const struct doctor *doctor, const char *check, const char *evidence)
{
	for (size_t i = 0; i < doctor->count; i++) {
		const struct finding *finding = &doctor->findings[i];

		if (strcmp(finding->check, check) == 0 && finding->status != FINDING_OK &&
			strstr(finding->evidence, evidence))
			return finding;
	}
	return NULL;
}

struct trouble {
	const char *check;
	const char *host;
	const char *device; /* that is asked about; NULL: the host as a whole */
	enum finding_status status;
	const char *evidence;
	const char *fix;
};

static const struct trouble troubles[] = {
	{ "iommu", "intel-no-vtd", NULL, FINDING_PROBLEM, "DMAR and IVRS: absent", "VT-d" },
	{ "iommu", "intel-iommu-off", NULL, FINDING_PROBLEM, "/proc/cmdline: intel_iommu=off",
		"add intel_iommu=on and remove intel_iommu=off in GRUB_CMDLINE_LINUX_DEFAULT of "
		"/etc/default/grub, run 'update-grub'" },
	{ "kvm", "intel-no-vtd", NULL, FINDING_PROBLEM, "/dev/kvm: absent", "VT-x" },
	{ "group", "shared-group", NULL, FINDING_WARNING, "0000:01:00.0/iommu_group/devices",
		"penstock bind --group 0000:01:00.0" },
	{ "group", "shared-group", "0000:02:00.0", FINDING_WARNING, "iommu_group",
		"pcie_acs_override is unsafe" },
	{ "group", "intel-iommu-off", "0000:01:00.0", FINDING_UNKNOWN, "", "" },
	{ "group", "ryzen-5900x", "0000:00:00.0", FINDING_PROBLEM, "", "penstock ls" },
	{ "interrupt-remapping", "intel-no-intremap", NULL, FINDING_PROBLEM,
		"/proc/interrupts: no IR- chip", "allow_unsafe_interrupts=1" },
	{ "reserved-memory", "intel-rmrr", NULL, FINDING_WARNING,
		"groups/10/reserved_regions: 0x00000000791ee000 0x00000000791eefff direct",
		"another slot" },
	{ "reserved-memory", "intel-rmrr", "0000:07:00.0", FINDING_PROBLEM, "direct", "firmware" },
	{ "framebuffer", "shared-group", "0000:01:00.0", FINDING_PROBLEM,
		"BAR 1: can't reserve [mem", "initcall_blacklist=sysfb_init" },
	{ "framebuffer", "shared-group", NULL, FINDING_WARNING, "BOOTFB", "update-grub" },
	{ "boot-display", "ryzen-5900x", "0000:32:00.0", FINDING_WARNING, "boot_vga: 1",
		"BusID \"PCI:47:0:0\"" },
	{ "boot-display", "shared-group", "0000:01:00.0", FINDING_WARNING,
		"/etc/X11/xorg.conf.d/10-gpu.conf: BusID \"PCI:1:0:0\"", "no other graphics card" },
	{ "in-use", "ryzen-5900x", "0000:01:00.0", FINDING_PROBLEM, "mounted at /", "" },
	{ "in-use", "ryzen-5900x", "0000:26:00.0", FINDING_PROBLEM, "default route", "" },
	{ "reset", "intel-rmrr", NULL, FINDING_PROBLEM,
		"reads ff; kernel log: vfio-pci 0000:07:00.0: not ready 65535ms after bus reset; "
		"giving up",
		"/sys/bus/pci/rescan; penstock bind 0000:07:00.0" },
	{ "power", "intel-rmrr", NULL, FINDING_UNKNOWN, "", "" },
	{ "reset", "ryzen-5900x", "0000:2f:00.0", FINDING_WARNING, "reset_method: bus",
		"pacman -S" },
	{ "power", "laptop-d3", NULL, FINDING_PROBLEM, "reads ff; power_state: D3cold",
		"disable_idle_d3=1" },
	{ "memory-lock", "shared-group", NULL, FINDING_WARNING, "Max locked memory 65536",
		"LimitMEMLOCK=infinity" },
	{ "sr-iov", "sriov-no-mmio", NULL, FINDING_WARNING, "not enough MMIO resources for SR-IOV",
		"pci=realloc" },
};

static void troubles_are_found(void **state)
{
	for (size_t i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++) {
		const struct trouble *trouble = &troubles[i];
		const struct finding *finding;
		struct doctor doctor;

		fixture_load(*state, trouble->host);
		run(*state, &doctor, trouble->device);
		finding = find(&doctor, trouble->check, trouble->evidence);
		if (!finding || finding->status != trouble->status ||
			!strstr(finding->fix, trouble->fix)) {
			dump(&doctor);
			fail_msg("%s on %s: not found", trouble->check, trouble->host);
		}
		doctor_free(&doctor);
		fixture_teardown(state);
		fixture_setup(state);
	}
}

/* Hosts where a check has nothing to say, one for each of them. */
static void what_is_well_is_ok(void **state)
{
	static const struct {
		const char *check, *host;
	} well[] = {
		{ "iommu", "ryzen-5900x" },
		{ "kvm", "ryzen-5900x" },
		{ "group", "ryzen-5900x" },
		{ "interrupt-remapping", "ryzen-5900x" },
		{ "reserved-memory", "ryzen-5900x" },
		{ "identity", "ryzen-5900x" },
		{ "framebuffer", "ryzen-5900x" },
		{ "boot-display", "sriov-no-mmio" },
		{ "in-use", "ryzen-5900x" },
		{ "reset", "sriov-no-mmio" },
		{ "power", "ryzen-5900x" },
		{ "memory-lock", "sriov-no-mmio" },
		{ "rom", "ryzen-5900x" },
		{ "address-space", "ryzen-5900x" },
		{ "vfio-nodes", "laptop-d3" },
		{ "sr-iov", "shared-group" },
	};

	assert_null(doctor_check_id(sizeof(well) / sizeof(well[0])));
	for (size_t i = 0; i < sizeof(well) / sizeof(well[0]); i++) {
		struct doctor doctor;

		assert_string_equal(doctor_check_id(i), well[i].check);
		fixture_load(*state, well[i].host);
		run(*state, &doctor, NULL);
		if (find(&doctor, well[i].check, "")) {
			dump(&doctor);
			fail_msg("%s fires on %s", well[i].check, well[i].host);
		}
		doctor_free(&doctor);
		fixture_teardown(state);
		fixture_setup(state);
	}
}

static const struct finding *find_on(struct fixture *fixture, struct doctor *doctor,
	const char *device, const char *check, const char *evidence)
{
	const struct finding *finding;

	run(fixture, doctor, device);
	finding = find(doctor, check, evidence);
	if (!finding) {
		dump(doctor);
		fail_msg("%s: not found", check);
	}
	return finding;
}

static void binding_by_id_takes_the_twin(void **state)
{
	const struct finding *finding;
	struct doctor doctor;

	fixture_load(*state, "ryzen-5900x");
	fixture_file(
		*state, "/etc/modprobe.d/vfio.conf", "options vfio-pci ids=1002:73df,1002:ab28\n");
	finding = find_on(*state, &doctor, NULL, "identity", "/etc/modprobe.d/vfio.conf");
	assert_int_equal(finding->status, FINDING_WARNING);
	assert_non_null(strstr(finding->fix, "penstock boot-config 0000:2f:00.1 --write"));
	doctor_free(&doctor);
}

static void set_age(struct fixture *fixture, const char *path, time_t time)
{
	const struct timespec times[2] = { { time, 0 }, { time, 0 } };
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s%s", fixture->tree, path);
	assert_int_equal(utimensat(AT_FDCWD, full, times, 0), 0);
}

static void an_old_initramfs_is_told(void **state)
{
	const struct finding *finding;
	struct doctor doctor;

	fixture_load(*state, "intel-rmrr");
	fixture_file(*state, "/etc/modprobe.d/vfio.conf", "options vfio-pci disable_vga=1\n");
	fixture_file(*state, "/boot/initrd.img-6.12.43", "");
	set_age(*state, "/etc/modprobe.d/vfio.conf", 2000);
	set_age(*state, "/boot/initrd.img-6.12.43", 3000);
	run(*state, &doctor, NULL);
	assert_null(find(&doctor, "identity", ""));
	doctor_free(&doctor);
	set_age(*state, "/boot/initrd.img-6.12.43", 1000);
	finding = find_on(*state, &doctor, NULL, "identity", "initrd.img-6.12.43");
	assert_string_equal(finding->fix, "update-initramfs -u -k all");
	doctor_free(&doctor);
	/* Both are installed, and dracut makes those of new kernels. */
	fixture_file(*state, "/usr/bin/dracut", "");
	fixture_file(*state, "/etc/kernel/postinst.d/dracut", "");
	finding = find_on(*state, &doctor, NULL, "identity", "initrd.img-6.12.43");
	assert_string_equal(finding->fix, "dracut --force --regenerate-all");
	doctor_free(&doctor);
}

/* What has the kernel's command line is not always what the boot loader reads. */
static void the_command_fits_the_boot_loader(void **state)
{
	static const struct {
		const char *file, *command;
	} hosts[] = {
		{ "/etc/kernel/cmdline", "in /etc/kernel/cmdline, take it over into the boot" },
		{ "/usr/bin/kernel-install",
			"run 'kernel-install add 6.12.43 /usr/lib/modules/6.12.43/vmlinuz'" },
		{ "/boot/vmlinuz-6.12.43", "'kernel-install add 6.12.43 /boot/vmlinuz-6.12.43'" },
		{ "/etc/kernel/proxmox-boot-uuids", "run 'proxmox-boot-tool refresh', then" },
	};
	struct fixture *fixture = *state;
	struct doctor doctor;
	char path[PATH_MAX];

	fixture_load(fixture, "intel-iommu-off");
	snprintf(path, sizeof(path), "%s/etc/default/grub", fixture->tree);
	assert_int_equal(unlink(path), 0);
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		const struct finding *finding;

		fixture_file(fixture, hosts[i].file, "");
		finding = find_on(fixture, &doctor, NULL, "iommu", "intel_iommu=off");
		if (!strstr(finding->fix, hosts[i].command))
			fail_msg("with %s: %s", hosts[i].file, finding->fix);
		doctor_free(&doctor);
	}
}

static void a_bad_rom_is_told(void **state)
{
	const struct finding *finding;
	struct doctor doctor;

	fixture_load(*state, "laptop-d3");
	fixture_file(*state, "/sys/bus/pci/devices/0000:01:00.0/rom", "no ROM at all, but text\n");
	finding = find_on(*state, &doctor, "0000:01:00.0", "rom", "0000:01:00.0/rom");
	assert_int_equal(finding->status, FINDING_WARNING);
	assert_non_null(strstr(finding->fix, "penstock rom dump 0000:01:00.0 FILE"));
	doctor_free(&doctor);
}

static void set_bars(
	struct fixture *fixture, const char *device, const char *bar0, const char *bar1)
{
	static const char none[] = "0x0 0x0 0x0";
	char path[PATH_MAX], text[1024];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", device);
	snprintf(
		text, sizeof(text), "%s\n%s\n%s\n%s\n%s\n%s\n", bar0, bar1, none, none, none, none);
	fixture_file(fixture, path, text);
}

static void bars_without_addresses_are_told(void **state)
{
	static const char memory[] = "0xfc000000 0xfcffffff 0x40200", none[] = "0x0 0x0 0x0";
	static const struct {
		const char *bar0, *bar1, *log;
		bool told;
	} hosts[] = {
		{ memory, none,
			"[ 0.5] pci 0000:01:00.0: BAR 1 [mem size 0x10000000 64bit pref]: can't "
			"assign; no space\n",
			true },
		/* Before Linux 6.9. */
		{ memory, none,
			"[ 0.5] pci 0000:01:00.0: BAR 1: no space for [mem size 0x10000000]\n"
			"[ 0.5] pci 0000:01:00.0: BAR 1: failed to assign [mem size 0x10000000]\n",
			true },
		/* Without a log. */
		{ "0x0 0xffffff 0x20040200", memory, "", true },
		/* The second time there was room. */
		{ memory, "0x8400000000 0x840fffffff 0x14220c",
			"[ 0.5] pci 0000:01:00.0: BAR 1 [mem size 0x10000000 64bit pref]: can't "
			"assign; no space\n"
			"[ 0.6] pci 0000:01:00.0: BAR 1 [mem 0x8400000000-0x840fffffff 64bit "
			"pref]: assigned\n",
			false },
		/* That is sr-iov's to tell. */
		{ memory, none,
			"[ 0.5] pci 0000:01:00.0: VF BAR 1 [mem size 0x4000]: can't assign; no "
			"space\n"
			"[ 0.5] pci 0000:01:00.0: BAR 10: no space for [mem size 0x4000]\n",
			false },
		/* No driver of a guest needs ports. */
		{ memory, "0x0 0x7f 0x40101",
			"[ 0.5] pci 0000:01:00.0: BAR 1 [io size 0x0080]: can't assign; no space\n",
			false },
	};
	struct doctor doctor;

	fixture_load(*state, "intel-iommu-off");
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		const struct finding *finding;

		set_bars(*state, "0000:01:00.0", hosts[i].bar0, hosts[i].bar1);
		fixture_file(*state, "/dmesg", hosts[i].log);
		run(*state, &doctor, "0000:01:00.0");
		finding = find(&doctor, "address-space", "0000:01:00.0/resource: BAR");
		if (hosts[i].told != (finding && finding->status == FINDING_PROBLEM))
			fail_msg("%zu: %s", i, finding ? finding->evidence : "not told");
		doctor_free(&doctor);
	}
	/* And a guest has half of what the CPU addresses. */
	fixture_file(
		*state, "/proc/cpuinfo", "address sizes	: 25 bits physical, 48 bits virtual\n");
	set_bars(*state, "0000:01:00.0", "0xfc000000 0xfdffffff 0x40200", none);
	find_on(*state, &doctor, "0000:01:00.0", "address-space", "25 bits physical");
	doctor_free(&doctor);
}

/* The log remembers until the next boot what has been mended since. */
static void what_the_log_remembers_is_no_problem(void **state)
{
	static const struct {
		const char *check, *log;
	} lines[] = {
		{ "reset", "not ready 65535ms after FLR; giving up" },
		{ "framebuffer",
			"BAR 0: can't reserve [mem 0x7c00000000-0x7dffffffff 64bit pref]" },
		{ "power", "Unable to change power state from D3hot to D0, device inaccessible" },
	};
	struct bdf card;
	char text[256];

	assert_int_equal(bdf_parse("0000:2f:00.0", &card), 0);
	fixture_load(*state, "ryzen-5900x");
	fixture_file(*state, "/sys/bus/pci/devices/0000:2f:00.0/power_state", "D3hot\n");
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		const struct finding *finding;
		struct doctor doctor;

		snprintf(text, sizeof(text), "[ 90.1] vfio-pci 0000:2f:00.0: %s\n", lines[i].log);
		fixture_file(*state, "/dmesg", text);
		finding = find_on(*state, &doctor, "0000:2f:00.0", lines[i].check, lines[i].log);
		assert_int_equal(finding->status, FINDING_WARNING);
		assert_true(doctor_can_pass(&doctor, &card));
		doctor_free(&doctor);
	}
}

/* Its IDs are those of its physical function, and are not in its configuration space. */
static void a_virtual_function_answers(void **state)
{
	struct doctor doctor;

	fixture_load(*state, "ryzen-5900x");
	fixture_file(*state, "/sys/bus/pci/devices/0000:2f:00.0/config",
		"\377\377\377\377\4\1\20\1\1\1\1\2\20\20\200");
	run(*state, &doctor, "0000:2f:00.0");
	assert_null(find(&doctor, "power", ""));
	doctor_free(&doctor);
}

static void a_missing_group_node_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct doctor doctor;
	char path[PATH_MAX];

	fixture_load(fixture, "laptop-d3");
	snprintf(path, sizeof(path), "%s/dev/vfio/2", fixture->tree);
	assert_int_equal(unlink(path), 0);
	find_on(*state, &doctor, "0000:01:00.0", "vfio-nodes", "/dev/vfio/2: absent");
	doctor_free(&doctor);
}

static void a_bridge_whose_driver_keeps_the_group(void **state)
{
	static const struct bdf card = { 0, 1, 0, 0 };
	struct fixture *fixture = *state;
	struct doctor doctor;

	fixture_load(fixture, "shared-group");
	fixture_device(fixture, "/sys/devices/pci0000:00/0000:00:02.0", "0x060400", "shpchp", 1);
	find_on(*state, &doctor, "0000:01:00.0", "group", "0000:00:02.0/driver");
	assert_false(doctor_can_pass(&doctor, &card));
	doctor_free(&doctor);
}

static void a_device_that_no_iommu_covers(void **state)
{
	static const char name[] = "0000:2f:00.0";
	struct fixture *fixture = *state;
	struct doctor doctor;
	char link[PATH_MAX];
	struct bdf bdf;

	fixture_load(fixture, "ryzen-5900x");
	assert_int_equal(bdf_parse(name, &bdf), 0);
	snprintf(link, sizeof(link), "%s/sys/bus/pci/devices/%s/iommu_group", fixture->tree, name);
	assert_int_equal(unlink(link), 0);
	find_on(*state, &doctor, name, "group", "iommu_group: absent");
	assert_false(doctor_can_pass(&doctor, &bdf));
	doctor_free(&doctor);
}

/* Without the log nobody knows; that is not ok. */
static void a_log_that_may_not_be_read_makes_it_unknown(void **state)
{
	struct fixture *fixture = *state;
	const struct finding *finding;
	struct doctor doctor;
	char path[PATH_MAX];

	fixture_load(fixture, "intel-no-intremap");
	snprintf(path, sizeof(path), "%s/dmesg", fixture->tree);
	assert_int_equal(unlink(path), 0);
	finding = find_on(*state, &doctor, NULL, "interrupt-remapping", "may not be read");
	assert_int_equal(finding->status, FINDING_UNKNOWN);
	doctor_free(&doctor);
}

static void it_says_whether_a_device_can_be_passed(void **state)
{
	struct bdf free_card, used_disk;
	struct doctor doctor;

	assert_int_equal(bdf_parse("0000:2f:00.0", &free_card), 0);
	assert_int_equal(bdf_parse("0000:01:00.0", &used_disk), 0);
	fixture_load(*state, "ryzen-5900x");
	run(*state, &doctor, "0000:2f:00.0");
	assert_true(doctor_can_pass(&doctor, &free_card));
	doctor_free(&doctor);
	run(*state, &doctor, "0000:01:00.0");
	assert_false(doctor_can_pass(&doctor, &used_disk));
	doctor_free(&doctor);
}

static void facts_have_their_evidence(void **state)
{
	struct doctor doctor;

	fixture_load(*state, "ryzen-5900x");
	run(*state, &doctor, NULL);
	assert_string_equal(doctor.facts[2].id, "avic");
	assert_int_equal(doctor.facts[2].value, 1);
	assert_int_equal(doctor.facts[0].value, -1);
	doctor_free(&doctor);
	fixture_file(*state, "/sys/class/iommu/dmar0/intel-iommu/cap", "8d2008c40660462\n");
	run(*state, &doctor, NULL);
	assert_int_equal(doctor.facts[0].value, 1);
	assert_non_null(strstr(doctor.facts[0].evidence, "bit 59 is 1"));
	doctor_free(&doctor);
}

static void a_device_that_is_not_there_is_an_error(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct doctor doctor;
	struct bdf bdf;

	fixture_load(fixture, "laptop-d3");
	assert_int_equal(bdf_parse("0000:7f:00.0", &bdf), 0);
	assert_int_equal(doctor_run(&doctor, &fixture->host, &bdf, 1, &err), -ENODEV);
	doctor_free(&doctor);
}

static void only_the_hard_limit_of_locked_memory_counts(void **state)
{
	struct fixture *fixture = *state;
	struct doctor doctor;

	fixture_load(fixture, "shared-group");
	fixture_file(fixture, "/proc/self/limits", "Max locked memory   65536   4194304   bytes\n");
	run(fixture, &doctor, NULL);
	assert_non_null(find(&doctor, "memory-lock", "Max locked memory 4194304"));
	doctor_free(&doctor);
	fixture_file(
		fixture, "/proc/self/limits", "Max locked memory   65536   unlimited   bytes\n");
	run(fixture, &doctor, NULL);
	assert_null(find(&doctor, "memory-lock", ""));
	doctor_free(&doctor);
}

/* Of one who asks whether he can pass a device; -1 where this may not be tried. */
static int verdict_with_memory_lock(rlim_t most)
{
	static const struct bdf card = { 0, 1, 0, 0 };
	struct host host;
	struct error err = { 0 };
	struct doctor doctor = { .host = &host, .devices = &card, .device_count = 1 };
	struct rlimit limit = { most < 65536 ? most : 65536, most };
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (setrlimit(RLIMIT_MEMLOCK, &limit) || setuid(54321) ||
			host_init(&host, "/", NULL, &err))
			_exit(77);
		doctor_check_memory_lock(&doctor);
		_exit(doctor_can_pass(&doctor, &card) ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == 77 ? -1 : !WEXITSTATUS(status);
}

/* penstock raises the limit as far as it may, and a guest has 512 MiB if nothing else is said. */
static void too_little_memory_to_lock_is_in_the_way_of_a_user(void **state)
{
	(void)state;
	if (verdict_with_memory_lock(0) < 0)
		skip();
	assert_int_equal(verdict_with_memory_lock(0), 0);
	assert_int_equal(verdict_with_memory_lock(8 << 20), 0);
	/* Where this process may have as much. */
	assert_int_not_equal(verdict_with_memory_lock(511 << 20), 1);
	assert_int_not_equal(verdict_with_memory_lock(4ULL << 30), 0);
	assert_int_not_equal(verdict_with_memory_lock(RLIM_INFINITY), 0);
}

#define DOCTOR_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOCTOR_TEST(troubles_are_found),
		DOCTOR_TEST(what_is_well_is_ok),
		DOCTOR_TEST(binding_by_id_takes_the_twin),
		DOCTOR_TEST(an_old_initramfs_is_told),
		DOCTOR_TEST(the_command_fits_the_boot_loader),
		DOCTOR_TEST(a_bad_rom_is_told),
		DOCTOR_TEST(bars_without_addresses_are_told),
		DOCTOR_TEST(what_the_log_remembers_is_no_problem),
		DOCTOR_TEST(a_virtual_function_answers),
		DOCTOR_TEST(a_missing_group_node_is_told),
		DOCTOR_TEST(a_bridge_whose_driver_keeps_the_group),
		DOCTOR_TEST(a_device_that_no_iommu_covers),
		DOCTOR_TEST(a_log_that_may_not_be_read_makes_it_unknown),
		DOCTOR_TEST(it_says_whether_a_device_can_be_passed),
		DOCTOR_TEST(facts_have_their_evidence),
		DOCTOR_TEST(only_the_hard_limit_of_locked_memory_counts),
		DOCTOR_TEST(too_little_memory_to_lock_is_in_the_way_of_a_user),
		DOCTOR_TEST(a_device_that_is_not_there_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
