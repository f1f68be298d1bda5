/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host whose files in /sys, /proc and /etc, and whose journal, hold anything: missing, huge, binary,
 * directories, links that loop, pipes that hang, devices that never end. What reads them must end, and
 * without harm.
 */
#include "tree.h"

#include "host/binding/bind.h"
#include "host/binding/release.h"
#include "host/boot/apply.h"
#include "host/boot/boot.h"
#include "host/device/address.h"
#include "host/device/vfs.h"
#include "host/doctor/doctor.h"
#include "host/inventory/inventory.h"
#include "host/journal/journal.h"
#include "host/reset/reset.h"
#include "host/sriov/vf.h"

#include <stdlib.h>
#include <string.h>

#define CHANGES_MAX 40

enum { DEVICES, FINDINGS, NAMES, RECORDS, PLANS, FAILURES };

struct fuzz_goal fuzz_goals[] = {
	[DEVICES] = { "devices seen", 2, 0 },
	[FINDINGS] = { "reports of the doctor's", 2, 0 },
	[NAMES] = { "names found", 2, 0 },
	[RECORDS] = { "records read", 10, 0 },
	[PLANS] = { "plans for the boot", 10, 0 },
	[FAILURES] = { "errors told", 10, 0 },
	{ 0 },
};

static void read_all(const struct host *host)
{
	static const struct bdf card = { .bus = 1 }, disk = { .bus = 2 };
	static const char *const words[] = { "01:00", "1002:73df", "eth0", "nvme0n1",
		"/sys/block" };
	struct bdf found[HOST_ADDRESS_MAX], *list = NULL;
	struct inventory inventory;
	struct doctor doctor;
	struct host_reset reset;
	struct host_record record;
	struct error err;

	err = (struct error){ 0 };
	inventory_read(host, &inventory, &err);
	fuzz_goals[DEVICES].count += inventory.count;
	inventory_free(&inventory);
	for (unsigned i = 0; i < 3; i++) {
		err = (struct error){ 0 };
		doctor_run(&doctor, host, i == 1 ? &card : &disk, i > 0, &err);
		fuzz_goals[FINDINGS].count += doctor.count > 0;
		fuzz_goals[FAILURES].count += err.code != 0;
		doctor_free(&doctor);
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		err = (struct error){ 0 };
		fuzz_goals[NAMES].count += host_address_find(host, words[i], found, &err) > 0;
	}
	host_reset_read(host, &card, &reset, &(struct error){ 0 });
	if (host_vfs_list(host, &card, &list, &(struct error){ 0 }) >= 0)
		free(list);
	if (host_journal_read(host, &card, &record, &(struct error){ 0 }) == 0)
		fuzz_goals[RECORDS].count++;
	host_release_stale(host, true, &(struct error){ 0 });
}

static void plan_boot(const struct host *host)
{
	static const struct bdf card = { .bus = 1 };
	struct boot_result result = { 0 };
	struct boot_plan plan;
	struct error err = { 0 };

	if (boot_make_plan(&plan, host, &card, 1, true, &err) == 0 &&
		boot_apply(host, &plan, true, &result, &err) == 0)
		fuzz_goals[PLANS].count++;
	boot_result_free(&result);
	boot_plan_free(&plan);
}

void fuzz_one(struct fuzz_input *input)
{
	struct error err = { 0 };
	struct host host;

	tree_make();
	for (unsigned i = 0; i < CHANGES_MAX && input->size; i++)
		tree_change(input, false);
	fuzz_check(host_init(&host, tree_root, NULL, &err) == 0);
	host.limit_ms = 5000;
	read_all(&host);
	plan_boot(&host);
}
