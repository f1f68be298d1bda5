/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/sriov/vf.h"

#include "base/fd.h"
#include "base/log.h"
#include "host/device/vfs.h"
#include "host/journal/journal.h"
#include "host/journal/lock.h"
#include "host/system/guard.h"
#include "host/use/use.h"
#include "host/use/vfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DEVICES  "/sys/bus/pci/devices/"
#define VF_BAR_0 7 /* rows of "resource": 6 BARs, the ROM, then the VFs' 6 BARs */
#define VF_BARS  6

static long read_total(const struct host *host, const struct bdf *pf)
{
	char name[BDF_TEXT];

	return host_read_number(host, 0, DEVICES "%s/sriov_totalvfs", bdf_format(pf, name));
}

/* Not even a driver of the host's may lose one with a mounted disk or a route. */
static int check_vfs_use(const struct host *host, const char *name, const struct bdf *vfs,
	ssize_t count, struct error *err)
{
	struct host_use use;
	char vf[BDF_TEXT];

	for (ssize_t i = 0; i < count; i++) {
		if (!host_use_find(host, &vfs[i], &use))
			continue;
		error_set(err, -EBUSY, name, "the host is using its virtual function %s: %s",
			bdf_format(&vfs[i], vf), use.reason);
		error_hint(err, "%s", use.hint);
		return -EBUSY;
	}
	return 0;
}

static int refuse_no_sriov(
	const struct host *host, const struct bdf *pf, const char *name, struct error *err)
{
	char parent[BDF_TEXT];
	unsigned number;
	struct bdf bdf;

	if (host_vfs_parent(host, pf, &bdf, &number) == 0) {
		error_set(err, -EOPNOTSUPP, name, "it is itself a virtual function, of %s",
			bdf_format(&bdf, parent));
		error_hint(err, "give the address of its physical function, %s", parent);
	} else {
		error_set(err, -EOPNOTSUPP, name, "it has no SR-IOV, so it cannot have VFs");
		error_hint(err,
			"where its data sheet says otherwise: SR-IOV may be off in the firmware's "
			"setup or in the card's own");
	}
	return -EOPNOTSUPP;
}

static int check_pf(const struct host *host, const struct bdf *pf, struct host_device *device,
	struct error *err)
{
	char name[BDF_TEXT];
	int code = host_device_read(host, pf, device, err);

	if (code)
		return code;
	if (read_total(host, pf) <= 0)
		return refuse_no_sriov(host, pf, bdf_format(pf, name), err);
	return host_use_check_vfs(host, pf, err);
}

/* Has any BAR of the VFs an address? The kernel leaves those that got no room at 0. */
static bool has_room(const struct host *host, const char *name)
{
	char path[PATH_MAX], text[4096], *line, *save;
	unsigned row = 0;
	uint64_t start;

	if (host_path(host, path, DEVICES "%s/resource", name) ||
		fd_read_file(path, text, sizeof(text)) < 0)
		return true; /* unknown, so the kernel is to judge */
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (row >= VF_BAR_0 && row < VF_BAR_0 + VF_BARS &&
			sscanf(line, "%" SCNx64, &start) == 1 && start)
			return true;
		row++;
	}
	return row < VF_BAR_0 + VF_BARS;
}

static int refuse_no_room(const char *name, struct error *err)
{
	error_set(err, -ENOMEM, name,
		"the firmware left no MMIO room for the BARs of its VFs (rows 7 to 12 of "
		"/sys/bus/pci/devices/%s/resource are empty)",
		name);
	error_hint(err,
		"in the firmware's setup switch on 'SR-IOV' and 'Above 4G Decoding'; or add "
		"'pci=realloc' to the kernel's command line and reboot");
	return -ENOMEM;
}

static int check_count(const struct host *host, const struct bdf *pf, unsigned count,
	const char *name, struct error *err)
{
	long total = read_total(host, pf);
	long now = host_vfs_count(host, pf);

	if (now > 0) {
		error_set(err, -EBUSY, name, "it has %ld VFs already", now);
		error_hint(err,
			"the kernel can only make all at once: 'penstock vf destroy %s' first",
			name);
		return -EBUSY;
	}
	if (count <= total)
		return 0;
	error_set(err, -ERANGE, name, "it can have %ld VFs, not %u", total, count);
	error_hint(err, "the most is what /sys/bus/pci/devices/%s/sriov_totalvfs says", name);
	return -ERANGE;
}

static int check_pf_driver(const struct host_device *device, const char *name, struct error *err)
{
	if (device->driver[0])
		return 0;
	error_set(err, -ENOENT, name, "it has no driver, and it is the driver that makes the VFs");
	error_hint(err, "'penstock release %s' where penstock has it; or load its driver", name);
	return -ENOENT;
}

/*
 * In a child, so that also a killed penstock leaves sriov_drivers_autoprobe as it was. VFs that are
 * for vfio-pci are not shown to the host's drivers first: those would start what then has to stop.
 */
struct create {
	char count[16];
	char numvfs[PATH_MAX];
	char autoprobe[PATH_MAX];
	char previous[8]; /* of autoprobe; "": leave it */
};

static int write_count(const void *argument)
{
	const struct create *create = argument;
	int code, again;

	if (create->previous[0]) {
		code = fd_write_file(create->autoprobe, "0");
		if (code)
			return code;
	}
	code = fd_write_file(create->numvfs, create->count);
	again = create->previous[0] ? fd_write_file(create->autoprobe, create->previous) : 0;
	return code ? code : again;
}

static const char *doing_with(unsigned count)
{
	return count ? "its VFs to appear" : "its VFs to go";
}

/* 0 or a negative errno. */
static int set_count(const struct host *host, const char *name, unsigned count, bool probe,
	const int *locks, size_t lock_count)
{
	struct guard guard = {
		.host = host,
		.object = name,
		.doing = doing_with(count),
		.locks = locks,
		.lock_count = lock_count,
	};
	struct create create = { 0 };
	int code;

	snprintf(create.count, sizeof(create.count), "%u", count);
	if (!probe)
		host_read(host, create.previous, sizeof(create.previous),
			DEVICES "%s/sriov_drivers_autoprobe", name);
	code = host_path(host, create.numvfs, DEVICES "%s/sriov_numvfs", name);
	if (code == 0)
		code = host_path(
			host, create.autoprobe, DEVICES "%s/sriov_drivers_autoprobe", name);
	return code ? code : guard_call(&guard, write_count, &create);
}

static int explain_hung(
	const struct host *host, unsigned count, const char *name, struct error *err)
{
	error_set(err, -ETIMEDOUT, name, "gave up after %u seconds of waiting for %s",
		host->limit_ms / 1000, doing_with(count));
	error_hint(err, "'dmesg | tail' may tell what its driver waits for");
	return -ETIMEDOUT;
}

static int explain_create(const struct host *host, int code, const struct host_device *device,
	unsigned count, const char *name, struct error *err)
{
	if (code == -ETIMEDOUT)
		return explain_hung(host, count, name, err);
	if (code == -ENOMEM && !has_room(host, name))
		return refuse_no_room(name, err);
	if (code == -ENOENT || code == -EOPNOTSUPP) {
		error_set(err, code, name, "its driver %s makes no VFs", device->driver);
		error_hint(err, "%s",
			host_driver_is_vfio(device->driver)
				? "'penstock release' gives it back to its own driver; or load "
				  "vfio-pci with enable_sriov=1"
				: "a newer driver, or one of the maker, may");
		return code;
	}
	error_sys(err, code, name, "its driver %s cannot make %u VFs", device->driver, count);
	if (code == -EACCES || code == -EPERM)
		error_hint(err, "run this as root, as with sudo");
	else if (code == -ENOMEM)
		error_hint(err,
			"there is too little MMIO room ('Above 4G Decoding' in the firmware's setup, or "
			"'pci=realloc' on the kernel's command line), or there are too few bus numbers "
			"('pci=assign-busses'): 'dmesg | grep %s' tells which",
			name);
	else
		error_hint(err, "'dmesg | grep %s' may tell why", name);
	return code;
}

/*
 * Until the VFs are bound for good, a record of the PF says that they are to go. One that penstock has at
 * vfio-pci itself (enable_sriov) is in the journal for that, and stays so.
 */
static int begin_making(
	const struct host *host, const struct host_device *device, struct error *err)
{
	struct host_record record;
	int code = host_journal_read(host, &device->bdf, &record, err);

	if (code == 0 && !record.makes_vfs)
		return 0;
	if (code && code != -ENOENT)
		return code;
	record = (struct host_record){ .bdf = device->bdf, .persist = true, .makes_vfs = true };
	strcpy(record.driver, device->driver);
	strcpy(record.override, device->override);
	code = host_holder_self("bind", &record.holder, err);
	return code ? code : host_journal_write(host, &record, err);
}

int host_vf_keep(const struct host *host, const struct bdf *pf, struct error *err)
{
	struct host_record record;
	int code = host_journal_read(host, pf, &record, err);

	if (code == 0 && record.makes_vfs)
		return host_journal_remove(host, pf, err);
	return code == -ENOENT ? 0 : code;
}

static int make_vfs(const struct host *host, const struct host_device *device, unsigned count,
	bool probe, struct error *err)
{
	const struct bdf *pf = &device->bdf;
	cleanup_fd int lock = host_journal_lock(host, pf, err);
	cleanup_free struct bdf *vfs = NULL;
	char name[BDF_TEXT];
	ssize_t made;
	int code;

	if (lock < 0)
		return lock;
	if (!probe && begin_making(host, device, err))
		return err->code;
	bdf_format(pf, name);
	code = set_count(host, name, count, probe, &lock, 1);
	if (code)
		return explain_create(host, code, device, count, name, err);
	made = host_vfs_list(host, pf, &vfs, err);
	if (made == (ssize_t)count || made < 0)
		return made < 0 ? (int)made : 0;
	error_set(err, -EIO, name, "%zd VFs have appeared, not %u", made, count);
	error_hint(
		err, "'dmesg | grep %s' may tell why; then 'penstock vf destroy %s'", name, name);
	return -EIO;
}

int host_vf_check(const struct host *host, const struct bdf *pf, unsigned count,
	struct host_device *device, struct error *err)
{
	char name[BDF_TEXT];

	if (check_pf(host, pf, device, err) ||
		check_count(host, pf, count, bdf_format(pf, name), err) ||
		check_pf_driver(device, name, err))
		return err->code;
	return has_room(host, name) ? 0 : refuse_no_room(name, err);
}

int host_vf_make_unbound(const struct host *host, const struct host_device *device, unsigned count,
	struct error *err)
{
	return make_vfs(host, device, count, false, err);
}

int host_vf_create(const struct host *host, const struct bdf *pf, unsigned count, bool dry_run,
	struct error *err)
{
	struct host_device device;
	char name[BDF_TEXT];
	int code = host_vf_check(host, pf, count, &device, err);

	if (code == 0 && dry_run)
		log_info("%s: would have %u VFs", bdf_format(pf, name), count);
	return code || dry_run ? code : make_vfs(host, &device, count, true, err);
}

/* A VF's record goes with it, or the next one at its address would be taken for it. */
static int remove_locked(const struct host *host, const struct bdf *pf, const struct bdf *vfs,
	ssize_t count, const int *locks, struct error *err)
{
	char name[BDF_TEXT];
	int code = set_count(host, bdf_format(pf, name), 0, true, locks, count + 1);

	if (code == -ETIMEDOUT)
		return explain_hung(host, 0, name, err);
	if (code == -EACCES || code == -EPERM) {
		error_sys(err, code, name, "cannot remove its VFs");
		error_hint(err, "run this as root, as with sudo");
	} else if (code) {
		error_sys(err, code, name, "its driver cannot remove its VFs");
		error_hint(err, "'dmesg | grep %s' may tell why", name);
	}
	for (ssize_t i = 0; i < count && code == 0; i++)
		code = host_journal_remove(host, &vfs[i], err);
	return code;
}

/* Lock the VFs too; then nobody can begin to use one. */
static int remove_all(const struct host *host, const struct bdf *pf, const struct bdf *vfs,
	ssize_t count, int lock, struct error *err)
{
	cleanup_free int *all = malloc((count + 1) * sizeof(*all));
	struct host_locks locks;
	char name[BDF_TEXT];
	int code;

	if (!all)
		return error_sys(err, -ENOMEM, bdf_format(pf, name), "cannot lock its VFs");
	code = host_journal_lock_all(host, vfs, count, &locks, err);
	if (code)
		return code;
	memcpy(all, locks.fds, count * sizeof(*all));
	all[count] = lock;
	/* Again, as one could have been taken in between. */
	code = host_use_check_vfs(host, pf, err);
	if (code == 0)
		code = check_vfs_use(host, bdf_format(pf, name), vfs, count, err);
	if (code == 0)
		code = remove_locked(host, pf, vfs, count, all, err);
	host_journal_unlock(&locks);
	return code;
}

int host_vf_remove(const struct host *host, const struct bdf *pf, int lock, struct error *err)
{
	cleanup_free struct bdf *vfs = NULL;
	ssize_t count = host_vfs_list(host, pf, &vfs, err);
	char name[BDF_TEXT];
	int code = count > 0 ? remove_all(host, pf, vfs, count, lock, err) : (int)count;

	if (code == 0 && count)
		log_info("%s: its %zd VFs are gone", bdf_format(pf, name), count);
	else if (code == 0)
		log_info("%s: has no VFs", bdf_format(pf, name));
	return code ? code : host_vf_keep(host, pf, err);
}

int host_vf_destroy(const struct host *host, const struct bdf *pf, bool dry_run, struct error *err)
{
	cleanup_free struct bdf *vfs = NULL;
	cleanup_fd int lock = -1;
	struct host_device device;
	char name[BDF_TEXT];
	ssize_t count;
	int code = check_pf(host, pf, &device, err);

	if (code)
		return code;
	count = host_vfs_list(host, pf, &vfs, err);
	if (count < 0)
		return count;
	code = check_vfs_use(host, bdf_format(pf, name), vfs, count, err);
	if (code == 0 && dry_run)
		log_info("%s: %zd VFs would go", name, count);
	if (code || dry_run)
		return code;
	lock = host_journal_lock(host, pf, err);
	return lock < 0 ? lock : host_vf_remove(host, pf, lock, err);
}
