/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/binding/bind.h"

#include "base/fd.h"
#include "base/log.h"
#include "host/binding/change.h"
#include "host/binding/plan.h"
#include "host/binding/release.h"
#include "host/binding/screen.h"
#include "host/journal/binds.h"
#include "host/journal/journal.h"
#include "host/journal/lock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define VFIO_PCI "vfio-pci"

static void explain_no_module(int code, struct error *err)
{
	char path[sizeof("/lib/modules/") + sizeof((struct utsname){ 0 }.release)];
	struct utsname kernel = { 0 };

	uname(&kernel);
	snprintf(path, sizeof(path), "/lib/modules/%s", kernel.release);
	if (access(path, F_OK))
		error_hint(err,
			"%s is missing: after an update of the kernel, reboot into the new one",
			path);
	else if (code == -ENOENT)
		error_hint(err,
			"kernels for cloud machines leave it out: install the full one (Debian: "
			"linux-image-amd64) and reboot");
	else
		error_hint(err, "try 'modprobe vfio-pci' as root, and see 'dmesg | tail'");
}

int host_bind_load_vfio(const struct host *host, struct error *err)
{
	char path[PATH_MAX];
	int code = host_path(host, path, "/sys/bus/pci/drivers/" VFIO_PCI);

	if (code == 0 && access(path, F_OK) == 0)
		return 0;
	code = change_load_module(host, VFIO_PCI);
	if (code == -ENOENT)
		error_set(err, code, VFIO_PCI, "the running kernel has no vfio-pci module");
	else if (code)
		error_sys(err, code, VFIO_PCI, "cannot load the kernel module");
	if (code)
		explain_no_module(code, err);
	return code;
}

/* What the device is to be again, from what it is now. */
static void note_goal(struct host_record *record, const struct host_device *device, bool known)
{
	if (known && (!device->driver[0] || host_driver_is_vfio(device->driver)))
		return;
	strcpy(record->driver, device->driver);
	/* An override for vfio-pci is what a penstock that was killed has left. */
	if (!known || strcmp(device->override, VFIO_PCI))
		strcpy(record->override, device->override);
}

/* What a bind that was killed has moved off the card is still to go back. */
static void note_screen(struct host_record *record, const struct host_screen *screen)
{
	record->screen.console |= screen->console;
	if (!screen->framebuffer[0])
		return;
	strcpy(record->screen.framebuffer, screen->framebuffer);
	strcpy(record->screen.driver, screen->driver);
}

/* Where vfio-pci has lost it by the time that its holder is dead, somebody else has taken it: host_release_stale(). */
static int note_bound(const struct host *host, const struct bdf *bdf, struct error *err)
{
	struct host_record record;
	int code = host_journal_read(host, bdf, &record, err);

	record.bound = true;
	return code ? code : host_journal_write(host, &record, err);
}

/*
 * Put the device into the journal as ours. A record that is there already knows better than a
 * device at vfio-pci, or at no driver, what that was before: its holder is dead, or is "penstock
 * bind", which has gone on purpose. A bind that did not come to its end leaves nothing to keep.
 */
static int claim_device(const struct host *host, const struct host_device *device,
	const struct host_screen *screen, bool companion, const struct bind_options *options,
	struct error *err)
{
	struct host_record record;
	int code = host_journal_read(host, &device->bdf, &record, err);
	bool known = code == 0, kept = known && host_binds_kept(host, &record);

	if (code && code != -ENOENT)
		return code;
	if (!known)
		record = (struct host_record){ .bdf = device->bdf };
	note_goal(&record, device, known);
	note_screen(&record, screen);
	/* A machine does not change why "penstock bind" has the device. */
	if (!kept)
		record.companion = companion;
	else if (options->persist)
		record.companion &= companion;
	record.persist = kept || options->persist;
	record.bound = host_driver_is_vfio(device->driver);
	record.makes_vfs = false; /* it has none, or it could not be had */
	code = host_holder_self(options->owner, &record.holder, err);
	return code ? code : host_journal_write(host, &record, err);
}

static int take_device(const struct host *host, const struct host_device *device,
	const struct host_screen *screen, int lock, struct error *err)
{
	struct change change;
	char driver[HOST_NAME];

	change_init(&change, host, device, lock);
	if (screen_leave(&change, screen, err) || change_override(&change, VFIO_PCI, err) ||
		change_unbind(&change, err) || change_probe(&change, err))
		return err->code;
	if (host_device_driver(host, &device->bdf, driver) == 0 && strcmp(driver, VFIO_PCI) == 0) {
		screen_tell_dropped(&change, screen);
		return 0;
	}
	error_set(err, -EIO, change.name, "vfio-pci did not take it%s%s",
		driver[0] ? ", but has gone to " : "", driver);
	error_hint(err, "'dmesg | grep %s' may tell why", change.name);
	return -EIO;
}

/* It is at vfio-pci already. Without a record it was not penstock who put it there. */
static int keep_device(const struct host *host, const struct host_device *device, bool companion,
	const struct bind_options *options, struct error *err)
{
	const struct host_screen none = { 0 };
	struct host_record record;
	int code = host_journal_read(host, &device->bdf, &record, err);

	if (code)
		return code == -ENOENT ? 0 : code;
	if (!host_binds_kept(host, &record))
		return claim_device(host, device, &none, companion, options, err);
	if (record.companion <= companion)
		return 0;
	/* It stays the earlier bind's: if this one fails, that one has not. */
	record.companion = false;
	return host_journal_write(host, &record, err);
}

static int bind_one(const struct host *host, const struct plan_entry *entry,
	const struct bind_options *options, struct error *err)
{
	const struct bdf *bdf = &entry->device.bdf;
	cleanup_fd int lock = host_journal_lock(host, bdf, err);
	struct host_device device;
	struct host_screen screen;
	char name[BDF_TEXT];
	int code;

	if (lock < 0)
		return lock;
	/* Again, as another process may have had it since the check. */
	code = host_device_read(host, bdf, &device, err);
	if (code)
		return code;
	bdf_format(bdf, name);
	if (host_driver_is_vfio(device.driver) && options->persist) {
		log_info("%s: is at %s already", name, device.driver);
		return keep_device(host, &device, entry->companion, options, err);
	}
	screen_find(host, &device, &screen);
	code = claim_device(host, &device, &screen, entry->companion, options, err);
	if (code || host_driver_is_vfio(device.driver))
		return code;
	code = take_device(host, &device, &screen, lock, err);
	if (code == 0)
		code = note_bound(host, bdf, err);
	if (code)
		return code;
	log_info("%s: %s -> " VFIO_PCI "%s", name, device.driver[0] ? device.driver : "no driver",
		entry->companion ? " (shares the IOMMU group)" : "");
	return 0;
}

static void undo_bind(const struct host *host, const struct plan *plan, size_t count)
{
	while (count--) {
		struct error why = { 0 };

		if (host_release_owned(host, &plan->entries[count].device.bdf, &why))
			error_print(&why);
	}
}

static int bind_all(const struct host *host, const struct plan *plan,
	const struct bind_options *options, struct error *err)
{
	for (size_t i = 0; i < plan->count; i++) {
		int code = bind_one(host, &plan->entries[i], options, err);

		if (code == 0)
			continue;
		/* Where the kernel hangs on a device, waiting for it once more helps nobody. */
		undo_bind(host, plan, code == -ETIMEDOUT ? i : i + 1);
		return code;
	}
	return 0;
}

/*
 * Until the end is in the journal, a death of this process leaves all devices stale; and so it is with
 * one that could not be put back.
 */
static int bind_for_good(const struct host *host, const struct plan *plan,
	const struct bind_options *options, struct error *err)
{
	if (host_binds_begin(host, err))
		return err->code;
	if (bind_all(host, plan, options, err)) {
		host_binds_forget(host);
		return err->code;
	}
	if (host_binds_end(host, err))
		undo_bind(host, plan, plan->count);
	return err->code;
}

static void tell_bind_plan(const struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct host_device *device = &plan->entries[i].device;
		char name[BDF_TEXT];

		bdf_format(&device->bdf, name);
		if (host_driver_is_vfio(device->driver))
			log_info("%s: is at %s already", name, device->driver);
		else
			log_info("%s: would go from %s to " VFIO_PCI "%s", name,
				device->driver[0] ? device->driver : "no driver",
				plan->entries[i].companion ? " (shares the IOMMU group)" : "");
	}
}

int host_bind(const struct host *host, const struct bdf *devices, size_t count,
	const struct bind_options *options, struct error *err)
{
	struct plan plan;
	int code = plan_make(&plan, host, devices, count, options->force, err);

	if (code == 0 && options->dry_run)
		tell_bind_plan(&plan);
	else if (code == 0 && (code = host_bind_load_vfio(host, err)) == 0)
		code = (options->persist ? bind_for_good : bind_all)(host, &plan, options, err);
	plan_free(&plan);
	return code;
}
