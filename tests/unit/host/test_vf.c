/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "host/binding/bind.h"
#include "host/binding/release.h"
#include "host/binding/vfs.h"
#include "host/device/vfs.h"
#include "host/journal/journal.h"
#include "host/sriov/settings.h"
#include "host/sriov/vf.h"
#include "host/system/guard.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PORT "/sys/devices/pci0000:00/0000:00:01.0"
#define PF   PORT "/0000:01:00.0"
#define VF0  PORT "/0000:01:10.0"
#define VF1  PORT "/0000:01:10.1"

static const struct bdf pf = { 0, 1, 0, 0 };
static const struct bdf vf0 = { 0, 1, 0x10, 0 };
static const struct bdf vf1 = { 0, 1, 0x10, 1 };

#define ROW  "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
#define BARS "0x00000000fe000000 0x00000000fe01ffff 0x0000000000040200\n" ROW ROW ROW ROW ROW ROW
#define ROOM "0x00000000fe800000 0x00000000fe83ffff 0x0000000000140204\n" ROW ROW ROW ROW ROW

/* In a tree of plain files the VFs are there before they are made: only their number changes. */
static void make_card(
	struct fixture *fixture, const char *driver, const char *number, const char *vf_driver)
{
	fixture_device(fixture, PF, "0x020000", driver, 13);
	fixture_file(fixture, PF "/sriov_totalvfs", "8\n");
	fixture_file(fixture, PF "/sriov_numvfs", number);
	fixture_file(fixture, PF "/sriov_drivers_autoprobe", "1\n");
	fixture_file(fixture, PF "/resource", BARS ROOM);
	fixture_device(fixture, VF0, "0x020000", vf_driver, 14);
	fixture_device(fixture, VF1, "0x020000", vf_driver, 15);
	fixture_link(fixture, PF "/virtfn0", VF0);
	fixture_link(fixture, PF "/virtfn1", VF1);
	fixture_link(fixture, VF0 "/physfn", PF);
	fixture_link(fixture, VF1 "/physfn", PF);
}

static void assert_content(struct fixture *fixture, const char *file, const char *wanted)
{
	char text[64];

	host_read(&fixture->host, text, sizeof(text), "%s", file);
	assert_string_equal(text, wanted);
}

static void assert_error(const struct error *err, const char *what, const char *hint)
{
	if (!strstr(err->what, what) || !strstr(err->hint, hint))
		fail_msg("%s: %s; %s", err->object, err->what, err->hint);
}

static void assert_not_created(struct fixture *fixture, const struct bdf *bdf, unsigned count,
	int code, const char *what, const char *hint)
{
	struct error err = { 0 };

	assert_int_equal(host_vf_create(&fixture->host, bdf, count, false, &err), code);
	assert_error(&err, what, hint);
}

static void lists_them(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct bdf *vfs, parent;
	unsigned number;

	make_card(fixture, "igb", "2\n", NULL);
	assert_int_equal(host_vfs_list(&fixture->host, &pf, &vfs, &err), 2);
	assert_true(bdf_equal(&vfs[0], &vf0));
	assert_true(bdf_equal(&vfs[1], &vf1));
	free(vfs);
	assert_int_equal(host_vfs_list(&fixture->host, &vf0, &vfs, &err), 0);
	free(vfs);
	assert_int_equal(host_vfs_parent(&fixture->host, &vf1, &parent, &number), 0);
	assert_true(bdf_equal(&parent, &pf));
	assert_int_equal(number, 1);
	assert_int_equal(host_vfs_parent(&fixture->host, &pf, &parent, &number), -ENOENT);
}

static void creates_them(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "igb", "0\n", NULL);
	assert_int_equal(host_vf_create(&fixture->host, &pf, 2, false, &err), 0);
	assert_content(fixture, PF "/sriov_numvfs", "2");
	assert_content(fixture, PF "/sriov_drivers_autoprobe", "1");
}

static void creates_and_binds_them(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record;
	struct error err = { 0 };

	make_card(fixture, "igb", "0\n", "vfio-pci");
	assert_int_equal(host_bind_new_vfs(&fixture->host, &pf, 2, false, &err), 0);
	assert_content(fixture, PF "/sriov_numvfs", "2");
	assert_content(fixture, PF "/sriov_drivers_autoprobe", "1");
	assert_int_equal(host_journal_read(&fixture->host, &pf, &record, &err), -ENOENT);
}

/* The VFs have no IOMMU group, so that binding fails, and nothing is left of them. */
static void what_cannot_be_bound_is_removed(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	char link[128];

	make_card(fixture, "igb", "0\n", NULL);
	snprintf(link, sizeof(link), "%s" VF1 "/iommu_group", fixture->tree);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(host_bind_new_vfs(&fixture->host, &pf, 2, false, &err), -ENODEV);
	assert_error(&err, "no IOMMU", "");
	assert_content(fixture, PF "/sriov_numvfs", "0");
}

static void dry_runs_change_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "igb", "0\n", NULL);
	assert_int_equal(host_bind_new_vfs(&fixture->host, &pf, 2, true, &err), 0);
	assert_content(fixture, PF "/sriov_numvfs", "0");
	fixture_file(fixture, PF "/sriov_numvfs", "2\n");
	assert_int_equal(host_vf_destroy(&fixture->host, &pf, true, &err), 0);
	assert_content(fixture, PF "/sriov_numvfs", "2");
	assert_int_not_equal(access(fixture->host.run, F_OK), 0);
}

static void no_room(void **state)
{
	struct fixture *fixture = *state;

	make_card(fixture, "igb", "0\n", NULL);
	fixture_file(fixture, PF "/resource", BARS ROW ROW ROW ROW ROW ROW);
	assert_not_created(fixture, &pf, 2, -ENOMEM,
		"the firmware left no MMIO room for the BARs of its VFs", "pci=realloc");
	assert_content(fixture, PF "/sriov_numvfs", "0");
	/* A kernel that shows no such rows is left to judge by itself. */
	fixture_file(fixture, PF "/resource", BARS);
	assert_int_equal(host_vf_create(&fixture->host, &pf, 2, true, &(struct error){ 0 }), 0);
}

static void wrong_wishes(void **state)
{
	struct fixture *fixture = *state;

	make_card(fixture, "igb", "0\n", NULL);
	assert_not_created(fixture, &pf, 9, -ERANGE, "it can have 8 VFs, not 9", "sriov_totalvfs");
	fixture_file(fixture, PF "/sriov_numvfs", "2\n");
	assert_not_created(
		fixture, &pf, 2, -EBUSY, "has 2 VFs already", "penstock vf destroy 0000:01:00.0");
	assert_not_created(fixture, &vf0, 2, -EOPNOTSUPP,
		"it is itself a virtual function, of 0000:01:00.0", "0000:01:00.0");
	fixture_device(fixture, PORT "/0000:01:00.1", "0x020000", "igb", 13);
	assert_not_created(fixture, &(struct bdf){ 0, 1, 0, 1 }, 2, -EOPNOTSUPP, "it has no SR-IOV",
		"firmware");
}

static void no_driver(void **state)
{
	make_card(*state, NULL, "0\n", NULL);
	assert_not_created(*state, &pf, 2, -ENOENT, "it has no driver", "penstock release");
}

static void too_few_have_appeared(void **state)
{
	make_card(*state, "igb", "0\n", NULL);
	assert_not_created(
		*state, &pf, 3, -EIO, "2 VFs have appeared, not 3", "penstock vf destroy");
	/* As many as there can be are not too many. */
	fixture_file(*state, PF "/sriov_numvfs", "0\n");
	assert_not_created(
		*state, &pf, 8, -EIO, "2 VFs have appeared, not 8", "penstock vf destroy");
}

static pid_t hold(struct fixture *fixture, const struct bdf *bdf)
{
	struct host_record record = { .bdf = *bdf };
	struct error err = { 0 };
	int ends[2];
	char byte;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		host_holder_self("demo", &record.holder, &err);
		host_journal_write(&fixture->host, &record, &err);
		if (write(ends[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	close(ends[1]);
	return child;
}

static void a_vf_in_use_protects_its_pf(void **state)
{
	static const struct bind_options forced = { .owner = "demo", .force = true };
	static const char *const what =
		"its virtual function 0000:01:10.1 is in use: it is held by "
		"penstock 'demo'";
	struct fixture *fixture = *state;
	struct error err = { 0 }, again = { 0 };
	pid_t child;

	make_card(fixture, "igb", "2\n", "vfio-pci");
	child = hold(fixture, &vf1);
	assert_int_equal(host_vf_destroy(&fixture->host, &pf, false, &err), -EBUSY);
	assert_error(&err, what, "free again");
	assert_content(fixture, PF "/sriov_numvfs", "2");
	assert_int_equal(host_bind(&fixture->host, &pf, 1, &forced, &again), -EBUSY);
	assert_error(&again, what, "free again");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_int_equal(host_vf_destroy(&fixture->host, &pf, false, &(struct error){ 0 }), 0);
}

/* vfio-pci refuses it, which would show only when its driver has let go of it. */
static void a_device_with_vfs_is_not_bound(void **state)
{
	static const struct bind_options dry = { .owner = "demo", .dry_run = true };
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "igb", "2\n", NULL);
	assert_int_equal(host_bind(&fixture->host, &pf, 1, &dry, &err), -EBUSY);
	assert_error(&err, "it has 2 VFs, and vfio-pci takes no", "vf destroy 0000:01:00.0");
	fixture_file(fixture, PF "/sriov_numvfs", "0\n");
	assert_int_equal(host_bind(&fixture->host, &pf, 1, &dry, &(struct error){ 0 }), 0);
}

static void a_vf_that_the_host_uses_stays(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "igb", "2\n", "igbvf");
	fixture_interface(fixture, VF0 "/net/enp1s16");
	fixture_file(fixture, "/proc/net/route",
		"Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
		"enp1s16\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	assert_int_equal(host_vf_destroy(&fixture->host, &pf, false, &err), -EBUSY);
	assert_error(&err,
		"the host is using its virtual function 0000:01:10.0: its network interface enp1s16",
		"ip route");
	assert_content(fixture, PF "/sriov_numvfs", "2");
}

static void records_go_with_the_vfs(void **state)
{
	struct host_record record = { .bdf = vf0, .persist = true };
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "igb", "2\n", "vfio-pci");
	strcpy(record.holder.name, "bind");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_vf_destroy(&fixture->host, &pf, false, &err), 0);
	assert_content(fixture, PF "/sriov_numvfs", "0");
	assert_int_equal(host_journal_read(&fixture->host, &vf0, &record, &err), -ENOENT);
}

/* The process kills itself before this call of those that change anything. 0: it does not. */
static int stop_at;

static void step(void)
{
	if (stop_at && --stop_at == 0)
		raise(SIGKILL);
}

int __real_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new)
{
	step();
	return __real_renameat(from, old, to, new);
}

int __real_unlinkat(int directory, const char *name, int flags);
int __wrap_unlinkat(int directory, const char *name, int flags);
int __wrap_unlinkat(int directory, const char *name, int flags)
{
	step();
	return __real_unlinkat(directory, name, flags);
}

/* Linked in place of guard_call(), after which nothing but the child itself looks at the files. */
static struct fixture *hangs, *fails;

int __real_guard_call(const struct guard *guard, int (*call)(const void *), const void *argument);
int __wrap_guard_call(const struct guard *guard, int (*call)(const void *), const void *argument);
int __wrap_guard_call(const struct guard *guard, int (*call)(const void *), const void *argument)
{
	if (hangs)
		fixture_pipe(hangs, PF "/sriov_numvfs");
	if (fails) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s" PF "/sriov_numvfs", fails->tree);
		unlink(path);
		assert_int_equal(symlink("/dev/full", path), 0);
	}
	step();
	return __real_guard_call(guard, call, argument);
}

/* Given up, but under way in the kernel: nobody may have any of them meanwhile. */
static void vfs_that_go_are_locked_as_long_as_that_takes(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "igb", "2\n", NULL);
	fixture->host.limit_ms = 100;
	hangs = fixture;
	assert_int_equal(host_vf_destroy(&fixture->host, &pf, false, &err), -ETIMEDOUT);
	hangs = NULL;
	fixture_assert_changing(fixture, &pf, true);
	fixture_assert_changing(fixture, &vf0, true);
	fixture_assert_changing(fixture, &vf1, true);
	fixture_unblock(fixture, PF "/sriov_numvfs");
	fixture->host.limit_ms = 5000;
	fixture_assert_changing(fixture, &pf, false);
	fixture_assert_changing(fixture, &vf0, false);
	fixture_assert_changing(fixture, &vf1, false);
}

static void await_content(struct fixture *fixture, const char *file, const char *wanted)
{
	char text[8] = "";

	for (int i = 0; i < 1000 && strcmp(text, wanted); i++) {
		usleep(10000);
		host_read(&fixture->host, text, sizeof(text), "%s", file);
	}
	assert_string_equal(text, wanted);
}

/* While the kernel makes them; and afterwards as it was. */
static void assert_autoprobe(struct fixture *fixture, bool bind, const char *meanwhile)
{
	struct error err = { 0 };

	fixture->host.limit_ms = 100;
	hangs = fixture;
	assert_int_equal(
		(bind ? host_bind_new_vfs : host_vf_create)(&fixture->host, &pf, 2, false, &err),
		-ETIMEDOUT);
	hangs = NULL;
	assert_error(&err, "waiting for its VFs to appear", "dmesg");
	await_content(fixture, PF "/sriov_drivers_autoprobe", meanwhile);
	fixture_unblock(fixture, PF "/sriov_numvfs");
	await_content(fixture, PF "/sriov_drivers_autoprobe", "1");
}

static void drivers_do_not_see_what_is_for_vfio(void **state)
{
	make_card(*state, "igb", "0\n", NULL);
	assert_autoprobe(*state, true, "0");
}

static void drivers_see_what_is_for_the_host(void **state)
{
	make_card(*state, "igb", "0\n", NULL);
	assert_autoprobe(*state, false, "1");
}

/* True when it came to its end. */
static bool create_stopped_at(struct fixture *fixture, int n)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct error err = { 0 };

		stop_at = n;
		_exit(host_bind_new_vfs(&fixture->host, &pf, 2, false, &err) ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
	return WIFEXITED(status);
}

static void unlink_file(struct fixture *fixture, const char *file)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s%s", fixture->tree, file);
	assert_int_equal(unlink(path), 0);
}

static void assert_no_records(struct fixture *fixture)
{
	struct error err = { 0 };
	struct bdf *devices;

	assert_int_equal(host_journal_list(&fixture->host, &devices, &err), 0);
	free(devices);
}

static void assert_no_binds(struct fixture *fixture)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/run/binds", fixture->tree);
	assert_true(rmdir(path) == 0 || errno == ENOENT);
}

/* All VFs made and bound, or none: also those that were made and not bound yet. */
static void a_killed_create_is_undone(void **state)
{
	struct fixture *fixture = *state;
	unsigned undone = 0, done = 0;
	bool ended = false;

	make_card(fixture, "igb", "0\n", "vfio-pci");
	for (int n = 1; !ended; n++) {
		struct error err = { 0 };
		char made[8];

		ended = create_stopped_at(fixture, n);
		host_read(&fixture->host, made, sizeof(made), PF "/sriov_numvfs");
		assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
		assert_no_binds(fixture);
		if (strcmp(made, "2") == 0 &&
			host_read_number(&fixture->host, 0, PF "/sriov_numvfs") == 0)
			undone++;
		else if (strcmp(made, "2") == 0)
			done++;
		assert_int_equal(host_vf_destroy(&fixture->host, &pf, false, &err), 0);
		assert_no_records(fixture);
	}
	/* The journal has its end before the last file of it goes. */
	assert_true(undone > 1);
	assert_int_equal(done, 2);
}

static void what_the_driver_refuses_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 }, again = { 0 };

	make_card(fixture, "igb", "2\n", "vfio-pci");
	fails = fixture;
	assert_int_equal(host_vf_destroy(&fixture->host, &pf, false, &err), -ENOSPC);
	fails = NULL;
	assert_error(&err, "its driver cannot remove its VFs", "dmesg | grep 0000:01:00.0");
	unlink_file(fixture, PF "/sriov_numvfs");
	fixture_file(fixture, PF "/sriov_numvfs", "0\n");
	fails = fixture;
	assert_int_equal(host_bind_new_vfs(&fixture->host, &pf, 2, false, &again), -ENOSPC);
	fails = NULL;
	assert_error(&again, "its driver igb cannot make 2 VFs", "dmesg | grep 0000:01:00.0");
	assert_content(fixture, PF "/sriov_drivers_autoprobe", "1");
	assert_no_records(fixture);
	assert_no_binds(fixture);
}

static void dead_create(struct fixture *fixture)
{
	struct host_record record = { .bdf = pf, .driver = "igb", .makes_vfs = true };
	struct error err = { 0 };

	fixture_end_other(fixture_start_other(&record.holder));
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
}

static void vfs_of_a_dead_create_that_the_host_uses_stay(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "igb", "2\n", "igbvf");
	fixture_interface(fixture, VF0 "/net/enp1s16");
	fixture_file(fixture, "/proc/net/route",
		"Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
		"enp1s16\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	dead_create(fixture);
	assert_int_equal(host_release_stale(&fixture->host, false, &err), -EBUSY);
	assert_error(&err, "the host is using its virtual function 0000:01:10.0", "ip route");
	assert_content(fixture, PF "/sriov_numvfs", "2");
}

static void a_dead_create_without_vfs_is_forgotten(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	make_card(fixture, "igb", "0\n", NULL);
	dead_create(fixture);
	assert_int_equal(host_vf_destroy(&fixture->host, &pf, false, &err), 0);
	assert_no_records(fixture);
}

static void a_create_under_way_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	struct host_record record = { .bdf = pf, .driver = "igb", .makes_vfs = true };
	struct error err = { 0 };
	pid_t child = fixture_start_other(&record.holder);

	make_card(fixture, "igb", "2\n", "vfio-pci");
	assert_int_equal(host_journal_write(&fixture->host, &record, &err), 0);
	assert_int_equal(host_release_stale(&fixture->host, false, &err), 0);
	assert_content(fixture, PF "/sriov_numvfs", "2");
	assert_int_equal(host_vf_destroy(&fixture->host, &pf, false, &err), -EBUSY);
	assert_error(&err, "held by penstock 'other'", "free again");
	fixture_end_other(child);
	assert_int_equal(host_release_stale(&fixture->host, true, &(struct error){ 0 }), 0);
	assert_content(fixture, PF "/sriov_numvfs", "2");
	assert_int_equal(host_release_stale(&fixture->host, false, &(struct error){ 0 }), 0);
	assert_content(fixture, PF "/sriov_numvfs", "0");
}

static void hostile_numbers(void **state)
{
	static const char *const numbers[] = { "-1\n", "70000\n", "99999999999999999999\n", "x\n",
		"", "65535\n" };
	struct fixture *fixture = *state;
	struct error err = { 0 };
	struct bdf *vfs;

	make_card(fixture, "igb", "2\n", NULL);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		fixture_file(fixture, PF "/sriov_numvfs", numbers[i]);
		/* Those that have a link are there, however many there are said to be. */
		assert_int_equal(host_vfs_list(&fixture->host, &pf, &vfs, &err),
			strcmp(numbers[i], "65535\n") ? 0 : 2);
		free(vfs);
	}
}

/* rtnetlink. */

static const struct rtattr *find(const struct rtattr *at, int size, unsigned short type)
{
	for (; RTA_OK(at, size); at = RTA_NEXT(at, size))
		if ((at->rta_type & ~NLA_F_NESTED) == type)
			return at;
	return NULL;
}

static const void *find_setting(const void *request, unsigned short type)
{
	const struct nlmsghdr *header = request;
	const struct ifinfomsg *link = NLMSG_DATA(header);
	const struct rtattr *list = find(IFLA_RTA(link), IFLA_PAYLOAD(header), IFLA_VFINFO_LIST);
	const struct rtattr *info, *setting;

	assert_non_null(list);
	info = find(RTA_DATA(list), RTA_PAYLOAD(list), IFLA_VF_INFO);
	assert_non_null(info);
	setting = find(RTA_DATA(info), RTA_PAYLOAD(info), type);
	return setting ? RTA_DATA(setting) : NULL;
}

static void a_request_with_all_settings(void **state)
{
	static const struct vf_settings settings = {
		.set_mac = true,
		.set_vlan = true,
		.set_trust = true,
		.mac = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 },
		.vlan = 100,
		.trust = true,
	};
	_Alignas(struct nlmsghdr) char request[VF_REQUEST_SIZE];
	const struct nlmsghdr *header = (void *)request;
	const struct ifla_vf_trust *trust;
	const struct ifla_vf_vlan *vlan;
	const struct ifla_vf_mac *mac;
	const struct ifinfomsg *link;

	(void)state;
	assert_true(vf_settings_request(request, 7, 3, &settings) <= sizeof(request));
	assert_int_equal(header->nlmsg_type, RTM_SETLINK);
	assert_int_equal(header->nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK);
	link = NLMSG_DATA(header);
	assert_int_equal(link->ifi_index, 7);
	mac = find_setting(request, IFLA_VF_MAC);
	assert_non_null(mac);
	assert_int_equal(mac->vf, 3);
	assert_memory_equal(mac->mac, settings.mac, 6);
	vlan = find_setting(request, IFLA_VF_VLAN);
	assert_non_null(vlan);
	assert_int_equal(vlan->vf, 3);
	assert_int_equal(vlan->vlan, 100);
	trust = find_setting(request, IFLA_VF_TRUST);
	assert_non_null(trust);
	assert_int_equal(trust->vf, 3);
	assert_int_equal(trust->setting, 1);
}

static void a_request_with_one_setting(void **state)
{
	static const struct vf_settings settings = { .set_vlan = true };
	_Alignas(struct nlmsghdr) char request[VF_REQUEST_SIZE];

	(void)state;
	vf_settings_request(request, 7, 0, &settings);
	assert_non_null(find_setting(request, IFLA_VF_VLAN));
	assert_null(find_setting(request, IFLA_VF_MAC));
	assert_null(find_setting(request, IFLA_VF_TRUST));
}

/* The kernel answers: there is no interface of that number. */
static void the_kernels_no_comes_back(void **state)
{
	static const struct vf_settings settings = { .set_trust = true };
	_Alignas(struct nlmsghdr) char request[VF_REQUEST_SIZE];
	int code;

	(void)state;
	vf_settings_request(request, 0x7ffffff0, 0, &settings);
	code = vf_settings_send(request);
	if (code == -EPERM)
		skip(); /* not asked by root */
	assert_int_equal(code, -ENODEV);
}

static void settings_need_a_card(void **state)
{
	static const struct vf_settings settings = { .set_vlan = true, .vlan = 5 };
	struct fixture *fixture = *state;
	struct error err = { 0 }, again = { 0 };

	make_card(fixture, "nvme", "2\n", NULL);
	assert_int_equal(
		vf_settings_apply(&fixture->host, &vf0, &settings, false, &err), -EOPNOTSUPP);
	assert_error(&err, "its physical function 0000:01:00.0, which has none (driver: nvme)",
		"release 0000:01:00.0");
	assert_int_equal(vf_settings_apply(&fixture->host, &pf, &settings, false, &again), -EINVAL);
	assert_error(&again, "is no virtual function", "vf create");
	fixture_file(fixture, PF "/net/enp1s0/ifindex", "2147483632\n");
	fixture_link(fixture, "/sys/class/net/enp1s0", PF "/net/enp1s0");
	assert_int_equal(
		vf_settings_apply(&fixture->host, &vf0, &settings, true, &(struct error){ 0 }), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lists_them),
		TEST(creates_them),
		TEST(creates_and_binds_them),
		TEST(what_cannot_be_bound_is_removed),
		TEST(dry_runs_change_nothing),
		TEST(no_room),
		TEST(wrong_wishes),
		TEST(no_driver),
		TEST(too_few_have_appeared),
		TEST(a_vf_in_use_protects_its_pf),
		TEST(a_device_with_vfs_is_not_bound),
		TEST(a_vf_that_the_host_uses_stays),
		TEST(records_go_with_the_vfs),
		TEST(vfs_that_go_are_locked_as_long_as_that_takes),
		TEST(drivers_do_not_see_what_is_for_vfio),
		TEST(drivers_see_what_is_for_the_host),
		TEST(a_killed_create_is_undone),
		TEST(what_the_driver_refuses_is_told),
		TEST(vfs_of_a_dead_create_that_the_host_uses_stay),
		TEST(a_dead_create_without_vfs_is_forgotten),
		TEST(a_create_under_way_is_left_alone),
		TEST(hostile_numbers),
		TEST(a_request_with_all_settings),
		TEST(a_request_with_one_setting),
		TEST(the_kernels_no_comes_back),
		TEST(settings_need_a_card),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
