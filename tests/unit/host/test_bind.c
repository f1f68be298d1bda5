/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/binding/bind.h"
#include "host/binding/plan.h"
#include "host/binding/release.h"
#include "host/journal/binds.h"
#include "host/journal/journal.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PORT  "/sys/devices/pci0000:00/0000:00:01.0"
#define CARD  PORT "/0000:01:00.0"
#define SOUND PORT "/0000:01:00.1"

static const struct bdf card = { 0, 1, 0, 0 };
static const struct bdf sound = { 0, 1, 0, 1 };
static const struct bdf port = { 0, 0, 1, 0 };
static const struct bdf host_bridge = { 0, 0, 0, 0 };
static const struct bdf nothing = { 0, 9, 0, 0 };

static const struct bind_options plain = { .owner = "demo" };
static const struct bind_options for_good = { .owner = "bind", .persist = true };

/* A graphics card with its audio function behind a root port, all in one group. */
static void make_card(struct fixture *fixture, const char *card_driver, const char *sound_driver)
{
	fixture_device(fixture, PORT, "0x060400", "pcieport", 13);
	fixture_device(fixture, CARD, "0x030000", card_driver, 13);
	fixture_device(fixture, SOUND, "0x040300", sound_driver, 13);
}

static void mount_disk_of_sound(struct fixture *fixture)
{
	fixture_disk(fixture, SOUND "/nvme/nvme0/nvme0n1", "259:0\n");
	fixture_file(
		fixture, "/proc/self/mountinfo", "22 1 259:0 / /data rw - ext4 /dev/nvme0n1 rw\n");
}

static void assert_refused(struct fixture *fixture, const struct bdf *bdf, int code,
	const char *what, const char *hint)
{
	struct error err = { 0 };
	struct host_record record;

	assert_int_equal(host_bind(&fixture->host, bdf, 1, &plain, &err), code);
	if (!strstr(err.what, what) || !strstr(err.hint, hint))
		fail_msg("%s: %s; %s", err.object, err.what, err.hint);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -ENOENT);
}

static void the_group_comes_along(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct plan plan;

	make_card(fixture, "amdgpu", "snd_hda_intel");
	assert_int_equal(plan_make(&plan, &fixture->host, &card, 1, false, &err), 0);
	assert_int_equal(plan.count, 2);
	assert_true(bdf_equal(&plan.entries[0].device.bdf, &card));
	assert_false(plan.entries[0].companion);
	assert_true(bdf_equal(&plan.entries[1].device.bdf, &sound));
	assert_true(plan.entries[1].companion);
	plan_free(&plan);
}

static void what_was_asked_for_is_no_companion(void **state)
{
	const struct bdf asked[] = { { 0, 1, 0, 1 }, { 0, 1, 0, 0 }, { 0, 1, 0, 1 } };
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct plan plan;

	make_card(fixture, "amdgpu", "snd_hda_intel");
	assert_int_equal(plan_make(&plan, &fixture->host, asked, 3, false, &err), 0);
	assert_int_equal(plan.count, 2);
	assert_false(plan.entries[0].companion);
	assert_false(plan.entries[1].companion);
	plan_free(&plan);
}

static void viable_companions_are_left_alone(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct plan plan;

	make_card(fixture, "amdgpu", NULL);
	fixture_device(fixture, PORT "/0000:01:00.2", "0x0c0330", "vfio-pci", 13);
	fixture_device(fixture, PORT "/0000:01:00.3", "0x0c8000", "pci-stub", 13);
	assert_int_equal(plan_make(&plan, &fixture->host, &card, 1, false, &err), 0);
	assert_int_equal(plan.count, 1);
	plan_free(&plan);
}

static void an_unknown_device_is_refused(void **state)
{
	make_card(*state, "amdgpu", NULL);
	assert_refused(*state, &nothing, -ENODEV, "no such PCI device", "ls");
}

static void a_bridge_is_refused(void **state)
{
	make_card(*state, "amdgpu", NULL);
	assert_refused(*state, &port, -EINVAL, "is a PCI bridge", "behind it");
	fixture_device(*state, "/sys/devices/pci0000:00/0000:00:00.0", "0x060000", NULL, 0);
	assert_refused(*state, &host_bridge, -EINVAL, "a part of the board", "penstock ls");
}

static void a_bridge_whose_driver_keeps_the_group_is_told(void **state)
{
	make_card(*state, "amdgpu", NULL);
	fixture_device(*state, "/sys/devices/pci0000:00/0000:00:03.2", "0x060400", "shpchp", 13);
	assert_refused(*state, &card, -EBUSY,
		"the bridge 0000:00:03.2 of its IOMMU group 13 is at driver shpchp",
		"echo 0000:00:03.2 >/sys/bus/pci/drivers/shpchp/unbind");
}

static void a_companion_in_use_refuses_all(void **state)
{
	make_card(*state, "amdgpu", "nvme");
	mount_disk_of_sound(*state);
	assert_refused(*state, &sound, -EBUSY,
		"the host is using it: its disk nvme0n1 is mounted at /data", "umount '/data'");
	assert_refused(*state, &card, -EBUSY,
		"it cannot be had without 0000:01:00.1 of the same IOMMU group 13, and that one the "
		"host is using: its disk nvme0n1 is mounted at /data",
		"--force");
}

static void force_takes_what_is_in_use(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct plan plan;

	make_card(fixture, "amdgpu", "nvme");
	mount_disk_of_sound(fixture);
	assert_int_equal(plan_make(&plan, &fixture->host, &card, 1, true, &err), 0);
	assert_int_equal(plan.count, 2);
	plan_free(&plan);
}

static void a_held_companion_refuses_all(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = { .bdf = sound, .driver = "snd_hda_intel" };
	struct error err = { 0 };
	pid_t child = fixture_start_other(&record.holder);

	make_card(fixture, "amdgpu", "vfio-pci");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_refused(
		fixture, &card, -EBUSY, "it is held by penstock 'other' (pid ", "free again");
	fixture_end_other(child);
}

static void a_damaged_record_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "vfio-pci", NULL);
	fixture_file(fixture, "/run/devices/0000:01:00.0", "penstock dev");
	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), -EBADMSG);
	assert_int_equal(host_release_stale(&fixture->host, false, &(struct error){ 0 }), -EBADMSG);
}

static void firmware_without_iommu(void **state)
{
	fixture_device(*state, CARD, "0x030000", NULL, -1);
	assert_refused(*state, &card, -ENODEV, "IOMMU is not in use", "in the firmware's setup");
}

static void intel_without_the_option(void **state)
{
	fixture_device(*state, CARD, "0x030000", NULL, -1);
	fixture_file(*state, "/sys/firmware/acpi/tables/DMAR", "");
	fixture_file(*state, "/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n");
	assert_refused(*state, &card, -ENODEV, "IOMMU is not in use",
		"add intel_iommu=on in the kernel's command line");
	/* As its boot loader wants it. */
	fixture_file(*state, "/etc/kernel/cmdline", "quiet\n");
	assert_refused(*state, &card, -ENODEV, "IOMMU is not in use",
		"add intel_iommu=on in /etc/kernel/cmdline");
}

static void amd_switched_off(void **state)
{
	fixture_device(*state, CARD, "0x030000", NULL, -1);
	fixture_file(*state, "/sys/firmware/acpi/tables/IVRS", "");
	fixture_file(*state, "/proc/cmdline", "quiet amd_iommu=off\n");
	fixture_file(*state, "/etc/default/grub", "");
	assert_refused(*state, &card, -ENODEV, "IOMMU is not in use",
		"remove amd_iommu=off in GRUB_CMDLINE_LINUX_DEFAULT of /etc/default/grub");
}

static void one_device_without_a_group(void **state)
{
	fixture_device(*state, CARD, "0x030000", NULL, -1);
	fixture_device(*state, SOUND, "0x040300", NULL, 3);
	assert_refused(*state, &card, -ENODEV, "though other devices have", "another slot");
}

static void a_kernel_without_vfio(void **state)
{
	make_card(*state, NULL, NULL);
	assert_refused(*state, &card, -ENOENT, "no vfio-pci module", "");
}

static void a_dry_run_changes_nothing(void **state)
{
	const struct bind_options dry = { .owner = "demo", .dry_run = true };
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "amdgpu", "snd_hda_intel");
	assert_int_equal(host_bind(&fixture->host, &card, 1, &dry, &err), 0);
	assert_int_not_equal(access(fixture->host.run, F_OK), 0);
}

/* In a tree of plain files a device that needs no change can go through it all. */
static void a_device_at_vfio_is_held_and_left_there(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	make_card(fixture, "vfio-pci", NULL);
	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_string_equal(record.driver, "vfio-pci");
	assert_true(host_holder_is_self(&record.holder));
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -ENOENT);
}

static void what_bind_keeps_outlives_a_machine(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = { .bdf = card, .driver = "amdgpu", .persist = true };
	struct error err = { 0 };

	make_card(fixture, "vfio-pci", NULL);
	strcpy(record.holder.name, "bind");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_string_equal(record.holder.name, "demo");
	assert_string_equal(record.driver, "amdgpu");
	assert_int_equal(host_release_owned(&fixture->host, &card, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_int_equal(record.holder.pid, 0);
	assert_string_equal(record.driver, "amdgpu");
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
}

static void the_record_of_a_pulled_device_goes(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = { .bdf = nothing, .driver = "nvme", .persist = true };
	struct error err = { 0 };

	assert_int_equal(host_release(&fixture->host, &nothing, false, &err), -ENODEV);
	err = (struct error){ 0 };
	strcpy(record.holder.name, "bind");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_release(&fixture->host, &nothing, false, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &nothing, &record, &err), -ENOENT);
}

/* The card takes the audio function along; then a bind of that one and of a third device fails. */
static void a_failed_bind_leaves_an_earlier_one_alone(void **state)
{
	const struct bdf asked[] = { { 0, 1, 0, 1 }, { 0, 2, 0, 0 } };
	struct fixture *fixture = *state;
	struct host_record record = {
		.bdf = sound, .driver = "snd_hda_intel", .persist = true, .companion = true
	};
	struct error err = { 0 };

	make_card(fixture, "vfio-pci", "vfio-pci");
	fixture_device(fixture, "/sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0", "0x020000",
		"e1000e", 14);
	fixture_file(fixture, "/sys/bus/pci/drivers/vfio-pci/bind", "");
	strcpy(record.holder.name, "bind");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_true(host_bind(&fixture->host, asked, 2, &for_good, &err) < 0);
	err = (struct error){ 0 };
	assert_int_equal(host_journal_read(&fixture->host, &sound, &record, &err), 0);
	assert_true(host_binds_kept(&fixture->host, &record));
}

/* A card at a driver that does not let go: a named pipe that nobody reads hangs the writer. */
static void make_hung_card(struct fixture *fixture, const char *driver)
{
	char path[128];

	fixture_device(fixture, CARD, "0x010802", driver, 13);
	fixture_file(fixture, "/sys/bus/pci/drivers/vfio-pci/bind", "");
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/unbind", driver);
	fixture_pipe(fixture, path);
	/* Not so short that a busy host misses it at another step. */
	fixture->host.limit_ms = 2000;
}

static void a_hung_driver_costs_no_more_than_the_time_limit(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	make_hung_card(fixture, "nvme");
	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), -ETIMEDOUT);
	assert_string_equal(err.object, "0000:01:00.0");
	assert_non_null(strstr(err.what, "driver nvme to let go of it"));
	assert_non_null(strstr(err.hint, "penstock release 0000:01:00.0"));
	/* What is still to be put right when the kernel has finished is on record. */
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_string_equal(record.driver, "nvme");
	fixture_unblock(fixture, "/sys/bus/pci/drivers/nvme/unbind");
	fixture->host.limit_ms = 10000;
	/* And that has only begun: it is the override that is put back. */
	assert_int_equal(host_release_owned(&fixture->host, NULL, &(struct error){ 0 }), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -ENOENT);
}

/* What "penstock bind" leaves that was killed when it had this device, but not yet another one. */
static void leave_half_a_bind(struct fixture *fixture)
{
	struct host_record record = { .bdf = card, .driver = "vfio-pci", .persist = true };
	struct error err = { 0 };
	char marker[64];

	fixture_end_other(fixture_start_other(&record.holder));
	strcpy(record.holder.name, "bind");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	snprintf(marker, sizeof(marker), "/run/binds/%d-%llu", record.holder.pid,
		(unsigned long long)record.holder.start);
	fixture_file(fixture, marker, "");
}

static void a_bind_that_finds_half_of_another_keeps_its_own(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	make_card(fixture, "vfio-pci", NULL);
	leave_half_a_bind(fixture);
	assert_int_equal(host_bind(&fixture->host, &card, 1, &for_good, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_true(host_binds_kept(&fixture->host, &record));
}

static void half_a_bind_is_not_kept_after_a_machine(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	make_card(fixture, "vfio-pci", NULL);
	leave_half_a_bind(fixture);
	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), 0);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -ENOENT);
}

static void half_a_bind_is_stale(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	make_card(fixture, "vfio-pci", NULL);
	leave_half_a_bind(fixture);
	/* Whoever looks for what is over must not forget it while its devices are not back. */
	host_binds_forget(&fixture->host);
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -ENOENT);
}

static void a_companion_is_one_after_a_machine_too(void **state)
{
	const struct bdf both[] = { { 0, 1, 0, 0 }, { 0, 1, 0, 1 } };
	struct fixture *fixture = *state;
	struct host_record record = {
		.bdf = sound, .driver = "snd_hda_intel", .persist = true, .companion = true
	};
	struct error err = { 0 };

	make_card(fixture, "vfio-pci", "vfio-pci");
	strcpy(record.holder.name, "bind");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_bind(&fixture->host, both, 2, &plain, &err), 0);
	assert_int_equal(host_release_owned(&fixture->host, NULL, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &sound, &record, &err), 0);
	assert_true(record.companion);
}

static void a_bind_that_hung_is_stale(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };
	pid_t child;
	int status;

	make_hung_card(fixture, "nvme");
	child = fork();
	if (child == 0)
		_exit(host_bind(&fixture->host, &card, 1, &for_good, &err) != -ETIMEDOUT);
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	fixture_unblock(fixture, "/sys/bus/pci/drivers/nvme/unbind");
	fixture->host.limit_ms = 10000;
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), -ENOENT);
}

/* The record of a killed machine, whose device the user has given to another driver since. */
static void it_goes_back_to_the_driver_that_it_had_last(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = { .bdf = card, .driver = "nouveau", .override = "nouveau" };
	struct error err = { 0 };

	fixture_end_other(fixture_start_other(&record.holder));
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	make_hung_card(fixture, "nvidia");
	assert_int_equal(host_bind(&fixture->host, &card, 1, &plain, &err), -ETIMEDOUT);
	err = (struct error){ 0 };
	assert_int_equal(host_journal_read(&fixture->host, &card, &record, &err), 0);
	assert_string_equal(record.driver, "nvidia");
	assert_string_equal(record.override, "");
	fixture_unblock(fixture, "/sys/bus/pci/drivers/nvidia/unbind");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_group_comes_along),
		TEST(what_was_asked_for_is_no_companion),
		TEST(viable_companions_are_left_alone),
		TEST(an_unknown_device_is_refused),
		TEST(a_bridge_is_refused),
		TEST(a_bridge_whose_driver_keeps_the_group_is_told),
		TEST(a_companion_in_use_refuses_all),
		TEST(force_takes_what_is_in_use),
		TEST(a_held_companion_refuses_all),
		TEST(a_damaged_record_is_told),
		TEST(firmware_without_iommu),
		TEST(intel_without_the_option),
		TEST(amd_switched_off),
		TEST(one_device_without_a_group),
		TEST(a_kernel_without_vfio),
		TEST(a_dry_run_changes_nothing),
		TEST(a_device_at_vfio_is_held_and_left_there),
		TEST(what_bind_keeps_outlives_a_machine),
		TEST(a_bind_that_finds_half_of_another_keeps_its_own),
		TEST(half_a_bind_is_not_kept_after_a_machine),
		TEST(half_a_bind_is_stale),
		TEST(a_companion_is_one_after_a_machine_too),
		TEST(a_failed_bind_leaves_an_earlier_one_alone),
		TEST(a_bind_that_hung_is_stale),
		TEST(it_goes_back_to_the_driver_that_it_had_last),
		TEST(the_record_of_a_pulled_device_goes),
		TEST(a_hung_driver_costs_no_more_than_the_time_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
