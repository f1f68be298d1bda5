/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/binding/release.h"

#include "base/fd.h"
#include "base/log.h"
#include "host/binding/change.h"
#include "host/binding/node.h"
#include "host/binding/screen.h"
#include "host/device/processes.h"
#include "host/journal/binds.h"
#include "host/journal/journal.h"
#include "host/journal/lock.h"
#include "host/journal/names.h"
#include "host/sriov/vf.h"
#include "host/system/guard.h"
#include "host/use/use.h"
#include "host/use/vfs.h"

#include <errno.h>
#include <string.h>

#define USER_WAIT_MS 3000 /* for a machine that is ending to close its descriptors */
#define USER_POLL_US 50000

/* On whose behalf: decides which records are touched, and how far back a device goes. */
enum scope {
	SCOPE_OWNED,   /* what this process holds */
	SCOPE_TAKEN,   /* the same, but somebody takes it from VFIO himself */
	SCOPE_STALE,   /* what a dead process held */
	SCOPE_ORDERED, /* what the user names: also what "penstock bind" keeps bound */
};

/* What a device is to be again. */
struct goal {
	bool known; /* false: whatever driver the kernel picks */
	char driver[HOST_NAME];
	char override[HOST_NAME];
};

/* VFIO lets a device go only when its last user has closed it, so a hang is seen before it starts.
 */
static int wait_for_users(
	const struct host *host, const struct host_device *device, struct error *err)
{
	uint64_t start = guard_now();
	char name[BDF_TEXT], text[160];

	while (host_processes_using_vfio(host, device, text, sizeof(text))) {
		if (guard_now() - start >= USER_WAIT_MS) {
			error_set(err, -EBUSY, bdf_format(&device->bdf, name), "it is in use: %s",
				text);
			error_hint(err,
				"stop that program, then give the device back with "
				"'penstock release %s'",
				name);
			return -EBUSY;
		}
		usleep(USER_POLL_US);
	}
	return 0;
}

static bool has_driver(const struct host *host, const char *driver)
{
	char path[PATH_MAX];

	return host_path(host, path, "/sys/bus/pci/drivers/%s", driver) == 0 &&
	       access(path, F_OK) == 0;
}

/* The kernel could have dropped the driver's module when its last device went. */
static void load_driver(const struct host *host, const struct change *change, const char *driver)
{
	char alias[256];

	if (driver[0] && has_driver(host, driver))
		return;
	if (host_read(host, alias, sizeof(alias), "/sys/bus/pci/devices/%s/modalias",
		    change->name) > 0)
		change_load_module(host, alias);
}

static int now_at(const struct change *change, char driver[static HOST_NAME], struct error *err)
{
	int code = host_device_driver(change->host, &change->device->bdf, driver);

	return code ? error_sys(err, code, change->name, "cannot tell its driver") : 0;
}

/* From no driver to the goal's. */
static int find_driver(const struct host *host, const struct change *change,
	const struct goal *goal, struct error *err)
{
	struct error ignored = { 0 };
	char driver[HOST_NAME];

	load_driver(host, change, goal->driver);
	if (change_probe(change, err) || now_at(change, driver, err))
		return err->code;
	if (!goal->known || strcmp(driver, goal->driver) == 0)
		return 0;
	if (driver[0] && !has_driver(host, goal->driver)) {
		log_warning("%s: given to %s, as this kernel has no driver %s any more",
			change->name, driver, goal->driver);
		return 0;
	}
	/* Another one was faster, or the driver takes the device only when told to. */
	if (change_unbind(change, err) || change_bind(change, goal->driver, err) ||
		now_at(change, driver, err))
		return err->code;
	if (strcmp(driver, goal->driver) == 0)
		return 0;
	change_probe(change, &ignored); /* better any driver than none */
	error_set(err, -EIO, change->name, "its driver %s did not take it back", goal->driver);
	error_hint(err, "'dmesg | grep %s' may tell why; then 'penstock release %s' once more",
		change->name, change->name);
	return -EIO;
}

/* Somebody has given it to a driver since, and uses it with that: leave that alone. */
static bool is_settled(
	const struct host *host, const struct host_device *device, const struct goal *goal)
{
	struct host_use use;
	char name[BDF_TEXT];

	if (!device->driver[0] || host_driver_is_vfio(device->driver))
		return goal->known && device->driver[0] &&
		       strcmp(device->driver, goal->driver) == 0;
	if (!goal->known || strcmp(device->driver, goal->driver) == 0)
		return true;
	if (!host_use_find(host, &device->bdf, &use))
		return false;
	log_warning("%s: left at %s, not given to %s, as the host is using it: %s",
		bdf_format(&device->bdf, name), device->driver, goal->driver, use.reason);
	return true;
}

static int move_device(const struct host *host, const struct host_device *device,
	const struct goal *goal, int lock, struct error *err)
{
	/* An override for another driver than the goal's would be in the way until that has it. */
	const char *meanwhile = strcmp(goal->override, goal->driver) ? "" : goal->override;
	struct change change;

	change_init(&change, host, device, lock);
	if (is_settled(host, device, goal))
		return change_override(&change, goal->override, err);
	if (host_driver_is_vfio(device->driver) &&
		(wait_for_users(host, device, err) || host_use_check_vfs(host, &device->bdf, err)))
		return err->code;
	if (change_override(&change, meanwhile, err) || change_unbind(&change, err))
		return err->code;
	if ((!goal->known || goal->driver[0]) && find_driver(host, &change, goal, err))
		return err->code;
	return change_override(&change, goal->override, err);
}

static void tell_moved(
	const struct host *host, const struct host_device *before, const struct goal *goal)
{
	char driver[HOST_NAME], name[BDF_TEXT];

	if (host_device_driver(host, &before->bdf, driver))
		return;
	bdf_format(&before->bdf, name);
	if (strcmp(driver, before->driver))
		log_info("%s: %s -> %s", name, before->driver[0] ? before->driver : "no driver",
			driver[0] ? driver : "no driver");
	else if (host_driver_is_vfio(driver) && goal->known)
		log_info("%s: left at %s, where it was before", name, driver);
	if (goal->known)
		return;
	if (!driver[0])
		log_warning("%s: no driver of this kernel wants it", name);
	else if (host_driver_is_vfio(driver))
		log_warning(
			"%s: the kernel itself gives it to %s: see vfio-pci.ids on its command line "
			"and /etc/modprobe.d",
			name, driver);
}

static int give_back(const struct host *host, const struct bdf *bdf, const struct goal *goal,
	int lock, struct error *err)
{
	struct host_device device;
	char name[BDF_TEXT];
	int code;

	if (!host_device_exists(host, bdf)) {
		log_info("%s: is gone from the host", bdf_format(bdf, name));
		return 0;
	}
	code = host_device_read(host, bdf, &device, err);
	if (code == 0)
		code = move_device(host, &device, goal, lock, err);
	if (code == 0)
		tell_moved(host, &device, goal);
	return code;
}

/*
 * The kernel takes the driver's link away before the driver is told, which then waits for VFIO's users. So there is
 * no link any more by the time that these hear of it.
 */
bool host_release_is_taken(const struct host *host, const struct bdf *bdf)
{
	char driver[HOST_NAME];

	return host_device_driver(host, bdf, driver) || !host_driver_is_vfio(driver);
}

/* Nothing of the device is read here that the kernel keeps behind its lock, as driver_override is. */
static int leave_taken(
	const struct host *host, const struct host_record *record, int lock, struct error *err)
{
	const struct host_device device = {
		.bdf = record->bdf,
		.group = host_device_group(host, &record->bdf),
	};
	struct change change;

	change_init(&change, host, &device, lock);
	change_withdraw_override(&change, "vfio-pci", record->override, err);
	if (!host_device_exists(host, &record->bdf)) {
		log_info("%s: is gone from the host", change.name);
		*err = (struct error){ 0 };
	} else if (err->code == 0) {
		log_info("%s: taken from vfio-pci, and left to who has done it", change.name);
	}
	return err->code;
}

static bool is_in_scope(const struct host *host, const struct host_record *record, enum scope scope)
{
	switch (scope) {
	case SCOPE_OWNED:
	case SCOPE_TAKEN:
		return host_holder_is_self(&record->holder);
	case SCOPE_STALE:
		return record->holder.pid && !host_holder_is_alive(&record->holder) &&
		       !(host_binds_kept(host, record) && strcmp(record->holder.name, "bind") == 0);
	default:
		return true;
	}
}

/*
 * Take over the record, so that a third process waits for this one, and knows of our death that it was we who took
 * the device from vfio-pci. The device's lock does that as well, so a full disk must not keep a device from its driver.
 */
static void claim_record(const struct host *host, struct host_record *record)
{
	bool is_self = host_holder_is_self(&record->holder);
	struct error why = { 0 };

	if (is_self && !record->persist && !record->bound)
		return;
	record->bound = false;
	/* Else it would be as well to leave it bound, should this process die on the way. */
	record->persist = false;
	if ((!is_self && host_holder_self("release", &record->holder, &why)) ||
		host_journal_write(host, record, &why))
		log_warning("%s: %s", why.object, why.what);
}

/* Where the card is gone, or somebody else's, the console can still be on another one's screen. */
static int return_screen(const struct host *host, const struct host_record *record, bool taken,
	int lock, struct error *err)
{
	const struct host_device device = { .bdf = record->bdf, .group = -1 };
	struct host_screen screen = record->screen;
	struct change change;

	if (taken || !host_device_exists(host, &record->bdf))
		screen.framebuffer[0] = '\0';
	change_init(&change, host, &device, lock);
	return screen_return(&change, &screen, err);
}

/* A holder that dies in the midst of a change of its own has left the device so itself. */
static bool is_taken(const struct host *host, const struct host_record *record, enum scope scope)
{
	return (scope == SCOPE_TAKEN || (scope == SCOPE_STALE && record->bound)) &&
	       host_release_is_taken(host, &record->bdf);
}

static int release_recorded(const struct host *host, struct host_record *record, enum scope scope,
	int lock, struct error *err)
{
	struct goal goal = { .known = true };
	bool kept = host_binds_kept(host, record) &&
		    (scope != SCOPE_TAKEN || host_device_exists(host, &record->bdf));
	bool taken = is_taken(host, record, scope);
	int code;

	if (kept && scope != SCOPE_ORDERED) {
		/* "penstock bind" had bound it before the machine came, and it stays so. */
		record->holder = (struct host_holder){ .name = "bind" };
		return host_journal_write(host, record, err);
	}
	claim_record(host, record);
	if (record->makes_vfs && !kept && host_vf_remove(host, &record->bdf, lock, err))
		return err->code;
	strcpy(goal.driver, record->driver);
	strcpy(goal.override, record->override);
	code = taken ? leave_taken(host, record, lock, err)
		     : give_back(host, &record->bdf, &goal, lock, err);
	if (code == 0)
		code = return_screen(host, record, taken, lock, err);
	if (code == 0 && record->user)
		code = host_node_take_back(host, &record->bdf, err);
	return code ? code : host_journal_remove(host, &record->bdf, err);
}

/* With no record, or one that makes no sense, the kernel's own choice is the best there is. */
static int release_unknown(
	const struct host *host, const struct bdf *bdf, int lock, struct error *err)
{
	struct goal goal = { .known = false };
	int code = give_back(host, bdf, &goal, lock, err);

	return code ? code : host_journal_remove(host, bdf, err);
}

static int release_unrecorded(
	const struct host *host, const struct bdf *bdf, int lock, struct error *err)
{
	struct host_device device;
	char name[BDF_TEXT];
	int code = host_device_read(host, bdf, &device, err);

	if (code)
		return code;
	if (host_driver_is_vfio(device.driver) || strcmp(device.override, "vfio-pci") == 0)
		return release_unknown(host, bdf, lock, err);
	log_info("%s: is not bound by penstock; its driver is %s", bdf_format(bdf, name),
		device.driver[0] ? device.driver : "none");
	return 0;
}

/* Without a lock for want of a place to keep one, a device is still given back when told to. */
static int lock_device(const struct host *host, const struct bdf *bdf, enum scope scope, int *lock,
	struct error *err)
{
	struct error why = { 0 };

	*lock = host_journal_lock(host, bdf, &why);
	if (*lock >= 0)
		return 0;
	if (scope != SCOPE_ORDERED || why.code == -EBUSY || why.code == -ETIMEDOUT) {
		*err = why;
		return why.code;
	}
	log_warning("%s: %s", why.object, why.what);
	*lock = -1;
	return 0;
}

static int release_locked(const struct host *host, const struct bdf *bdf, enum scope scope,
	int lock, struct error *err)
{
	struct error damage = { 0 };
	struct host_record record;
	int code = host_journal_read(host, bdf, &record, &damage);

	if (code == 0)
		return is_in_scope(host, &record, scope)
			       ? release_recorded(host, &record, scope, lock, err)
			       : 0;
	if (code == -ENOENT)
		return scope == SCOPE_ORDERED ? release_unrecorded(host, bdf, lock, err) : 0;
	if (scope == SCOPE_ORDERED) {
		log_warning("%s: %s", damage.object, damage.what);
		return release_unknown(host, bdf, lock, err);
	}
	/* Whether its holder lives is unknown too, so this one waits for the user's word. */
	*err = damage;
	return code;
}

/* Is it worth the lock, and the wait for one? */
static bool may_concern(const struct host *host, const struct bdf *bdf, enum scope scope)
{
	struct error ignored = { 0 };
	struct host_record record;
	int code = host_journal_read(host, bdf, &record, &ignored);

	return scope == SCOPE_ORDERED ||
	       (code ? code != -ENOENT : is_in_scope(host, &record, scope));
}

static int release_one(
	const struct host *host, const struct bdf *bdf, enum scope scope, struct error *err)
{
	cleanup_fd int lock = -1;
	int code;

	if (!may_concern(host, bdf, scope))
		return 0;
	code = lock_device(host, bdf, scope, &lock, err);
	return code ? code : release_locked(host, bdf, scope, lock, err);
}

/* What release_one() would do, in words. */
static int tell_one(
	const struct host *host, const struct bdf *bdf, enum scope scope, struct error *err)
{
	struct host_record record;
	char name[BDF_TEXT], driver[HOST_NAME];
	int code = host_journal_read(host, bdf, &record, err);

	if (code && code != -ENOENT)
		return code;
	bdf_format(bdf, name);
	if (code == 0 && !is_in_scope(host, &record, scope))
		return 0;
	if (code == 0 && host_holder_is_alive(&record.holder))
		return host_holder_refuse(&record.holder, bdf, err);
	if (host_device_driver(host, bdf, driver) || !host_device_exists(host, bdf))
		driver[0] = '\0';
	if (code == 0 && host_binds_kept(host, &record) && scope != SCOPE_ORDERED)
		log_info("%s: would stay at %s for 'penstock bind'", name, driver);
	else if (code == 0 && record.makes_vfs)
		log_info("%s: would lose the VFs that an unfinished 'penstock vf create' made",
			name);
	else if (code == 0 && is_taken(host, &record, scope))
		log_info("%s: would be left to who has taken it from vfio-pci", name);
	else if (code == 0)
		log_info("%s: would go from %s to %s", name, driver[0] ? driver : "no driver",
			record.driver[0] ? record.driver : "no driver");
	else if (host_driver_is_vfio(driver))
		log_info("%s: would go from %s to the driver that the kernel picks", name, driver);
	else
		log_info("%s: is not bound by penstock", name);
	return 0;
}

static int release_listed(
	const struct host *host, enum scope scope, bool dry_run, struct error *err)
{
	cleanup_free struct bdf *devices = NULL;
	ssize_t count = host_journal_list(host, &devices, err);

	for (ssize_t i = 0; i < count; i++) {
		struct error why = { 0 };

		if ((dry_run ? tell_one : release_one)(host, &devices[i], scope, &why) == 0)
			continue;
		/* The first one is the caller's to print. */
		if (err->code)
			error_print(&why);
		else
			*err = why;
	}
	return count < 0 ? (int)count : err->code;
}

int host_release_owned(const struct host *host, const struct bdf *only, struct error *err)
{
	return only ? release_one(host, only, SCOPE_OWNED, err)
		    : release_listed(host, SCOPE_OWNED, false, err);
}

int host_release_unless_taken(const struct host *host, const struct bdf *bdf, struct error *err)
{
	return release_one(host, bdf, SCOPE_TAKEN, err);
}

int host_release_stale(const struct host *host, bool dry_run, struct error *err)
{
	int code = release_listed(host, SCOPE_STALE, dry_run, err);

	if (code == 0 && !dry_run) {
		host_binds_forget(host);
		host_journal_forget_halves(host);
		host_names_forget(host);
	}
	return code;
}

int host_release_all(const struct host *host, bool dry_run, struct error *err)
{
	return release_listed(host, SCOPE_ORDERED, dry_run, err);
}

/* The records of a group: is one of them of another device that was asked for itself? */
static bool is_needed(
	const struct host *host, const struct bdf *members, int count, const struct bdf *released)
{
	struct host_record record;

	for (int i = 0; i < count; i++) {
		struct error ignored = { 0 };

		if (!bdf_equal(&members[i], released) &&
			host_journal_read(host, &members[i], &record, &ignored) == 0 &&
			!record.companion)
			return true;
	}
	return false;
}

/* Companions go back with the last device that needed them. */
static int release_companions(
	const struct host *host, const struct host_device *device, bool dry_run, struct error *err)
{
	struct bdf members[HOST_GROUP_MAX];
	struct host_record record;
	int code = 0, count = host_group_devices(host, device->group, members, err);

	if (count < 0)
		return count;
	if (is_needed(host, members, count, &device->bdf))
		return 0;
	for (int i = 0; i < count && code == 0; i++) {
		struct error ignored = { 0 };

		if (bdf_equal(&members[i], &device->bdf) ||
			host_journal_read(host, &members[i], &record, &ignored) ||
			!record.companion)
			continue;
		code = (dry_run ? tell_one : release_one)(host, &members[i], SCOPE_ORDERED, err);
	}
	return code;
}

int host_release(const struct host *host, const struct bdf *bdf, bool dry_run, struct error *err)
{
	struct host_device device;
	struct host_record record;
	struct error ignored = { 0 };
	bool there = host_device_read(host, bdf, &device, &ignored) == 0;
	int code;

	/* A device that was pulled out has left its record, and that is to go. */
	if (!there && host_journal_read(host, bdf, &record, &(struct error){ 0 }) == -ENOENT) {
		*err = ignored;
		return ignored.code;
	}
	code = (dry_run ? tell_one : release_one)(host, bdf, SCOPE_ORDERED, err);
	if (code || !there || device.group < 0)
		return code;
	return release_companions(host, &device, dry_run, err);
}
