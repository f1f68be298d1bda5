/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/binding/plan.h"

#include "base/log.h"
#include "base/text.h"
#include "host/device/processes.h"
#include "host/journal/journal.h"
#include "host/system/distribution.h"
#include "host/use/use.h"
#include "host/use/vfs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Why there is no IOMMU: the firmware's table of it is missing, or the kernel leaves it off. */
static void explain_no_iommu(const struct host *host, struct error *err)
{
	bool intel = host_exists(host, "/sys/firmware/acpi/tables/DMAR");
	bool amd = host_exists(host, "/sys/firmware/acpi/tables/IVRS");
	const char *off = host_iommu_off(host);
	char fix[256];

	distribution_cmdline(host, off ? NULL : "intel_iommu=on", off, fix, sizeof(fix));
	if (!intel && !amd)
		error_hint(err,
			"the firmware does not offer an IOMMU: switch on 'VT-d' (Intel) or 'IOMMU' (AMD) "
			"in the firmware's setup, or give this virtual machine one");
	else if (off)
		error_hint(err, "the kernel's command line keeps it off: %s", fix);
	else if (intel)
		error_hint(err, "the kernel has to be told to use it: %s", fix);
	else
		error_hint(err,
			"the firmware offers an AMD IOMMU, but the kernel did not start it: "
			"'dmesg | grep AMD-Vi' tells why");
}

static int check_group(const struct host *host, const struct host_device *device, const char *name,
	struct error *err)
{
	if (device->group >= 0)
		return 0;
	if (host_has_groups(host)) {
		error_set(err, -ENODEV, name,
			"it has no IOMMU group, though other devices have: no IOMMU "
			"covers it");
		error_hint(err,
			"'dmesg | grep -e DMAR -e AMD-Vi' shows the IOMMUs; put the device into "
			"another slot, or look for a firmware update");
		return -ENODEV;
	}
	error_set(err, -ENODEV, name, "it has no IOMMU group, as the host's IOMMU is not in use");
	explain_no_iommu(host, err);
	return -ENODEV;
}

/* By a living penstock, or through VFIO by any other program. */
static int check_not_taken(const struct host *host, const struct host_device *device,
	const char *name, struct error *err)
{
	struct host_record record;
	char text[160];
	int code = host_journal_read(host, &device->bdf, &record, err);

	if (code && code != -ENOENT)
		return code;
	if (code == 0 && host_holder_is_alive(&record.holder)) {
		if (host_holder_is_self(&record.holder))
			return host_use_check_no_vfs(host, device, err);
		return host_holder_refuse(&record.holder, &device->bdf, err);
	}
	if (host_driver_is_vfio(device->driver) &&
		host_processes_using_vfio(host, device, text, sizeof(text))) {
		error_set(err, -EBUSY, name, "it is in use already: %s", text);
		error_hint(err, "stop that program first");
		return -EBUSY;
	}
	return host_use_check_no_vfs(host, device, err);
}

static int check_rights(const struct host *host, const struct host_device *device, const char *name,
	struct error *err)
{
	char path[PATH_MAX];

	if (host_driver_is_vfio(device->driver) ||
		host_path(host, path, "/sys/bus/pci/devices/%s/driver_override", name) ||
		access(path, W_OK) == 0)
		return 0;
	if (errno == ENOENT)
		return error_set(err, -ENOSYS, name, "this kernel has no driver_override");
	error_sys(err, -errno, name, "cannot change its driver");
	error_hint(err, "%s",
		errno == EROFS ? "/sys is read-only here: run this on the host itself, not "
				 "in a container"
			       : "run this as root, as with sudo");
	return err->code;
}

static bool is_kept_open(
	const struct host *host, const struct host_device *device, struct host_use *use)
{
	if (host_processes_using(host, device, use->reason, sizeof(use->reason)) !=
		HOST_USER_DEPENDS)
		return false;
	text_format(use->hint, sizeof(use->hint), "%s",
		host_device_is_display(device)
			? "end that process, or bind the card before it starts, by "
			  "'penstock boot-config'"
			: "end that process");
	return true;
}

/* Of a graphics card the program that has it open tells more than that it shows a picture. */
static bool find_host_use(
	const struct host *host, const struct host_device *device, struct host_use *use)
{
	if (host_device_is_display(device) && is_kept_open(host, device, use))
		return true;
	return host_use_find(host, &device->bdf, use) || is_kept_open(host, device, use);
}

static int check_host_use(const struct host *host, const struct host_device *device,
	const struct host_device *asked, bool force, struct error *err)
{
	char name[BDF_TEXT], wanted[BDF_TEXT];
	struct host_use use;

	if (!find_host_use(host, device, &use))
		return 0;
	bdf_format(&device->bdf, name);
	if (force) {
		log_warning("%s: taken although the host uses it: %s", name, use.reason);
		return 0;
	}
	if (bdf_equal(&device->bdf, &asked->bdf))
		error_set(err, -EBUSY, name, "the host is using it: %s", use.reason);
	else
		error_set(err, -EBUSY, bdf_format(&asked->bdf, wanted),
			"it cannot be had without %s of the same IOMMU group %d, and that one the host "
			"is using: %s",
			name, device->group, use.reason);
	error_hint(err, "%s; or take it all the same with --force", use.hint);
	return -EBUSY;
}

static bool is_planned(const struct plan *plan, const struct bdf *bdf)
{
	for (size_t i = 0; i < plan->count; i++)
		if (bdf_equal(&plan->entries[i].device.bdf, bdf))
			return true;
	return false;
}

static int plan_device(
	struct plan *plan, const struct host_device *device, bool companion, struct error *err)
{
	struct plan_entry *more =
		reallocarray(plan->entries, plan->count + 1, sizeof(*plan->entries));

	if (!more)
		return error_sys(err, -ENOMEM, NULL, "cannot plan the binding");
	plan->entries = more;
	plan->entries[plan->count++] = (struct plan_entry){ *device, companion };
	return 0;
}

static int check_asked(struct plan *plan, const struct host *host, const struct bdf *bdf,
	bool force, struct error *err)
{
	struct host_device device;
	char name[BDF_TEXT];

	bdf_format(bdf, name);
	if (is_planned(plan, bdf))
		return 0;
	if (host_device_read(host, bdf, &device, err) || host_device_check_bridge(&device, err) ||
		check_group(host, &device, name, err) ||
		check_not_taken(host, &device, name, err) ||
		check_host_use(host, &device, &device, force, err) ||
		check_rights(host, &device, name, err))
		return err->code;
	return plan_device(plan, &device, false, err);
}

/* Another member of the group of asked: VFIO opens a group only when no host driver has any of it.
 */
static int check_companion(struct plan *plan, const struct host *host, const struct bdf *bdf,
	const struct host_device *asked, bool force, struct error *err)
{
	struct host_device device;
	struct error why = { 0 };
	char name[BDF_TEXT], wanted[BDF_TEXT];

	if (is_planned(plan, bdf))
		return 0;
	if (host_device_read(host, bdf, &device, err))
		return err->code;
	bdf_format(bdf, name);
	bdf_format(&asked->bdf, wanted);
	if (host_device_is_bridge(&device))
		return host_device_check_group_bridge(&device, wanted, err);
	if (check_not_taken(host, &device, name, &why)) {
		error_set(err, why.code, wanted,
			"it cannot be had without %s of the same IOMMU group %d: %s", name,
			device.group, why.what);
		error_hint(err, "%s", why.hint);
		return why.code;
	}
	if (host_driver_is_viable(device.driver))
		return 0;
	if (check_host_use(host, &device, asked, force, err) ||
		check_rights(host, &device, name, err))
		return err->code;
	return plan_device(plan, &device, true, err);
}

static int check_companions(struct plan *plan, const struct host *host,
	const struct host_device *asked, bool force, struct error *err)
{
	struct bdf members[HOST_GROUP_MAX];
	int count = host_group_devices(host, asked->group, members, err);

	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		int code = check_companion(plan, host, &members[i], asked, force, err);

		if (code)
			return code;
	}
	return 0;
}

int plan_make(struct plan *plan, const struct host *host, const struct bdf *devices, size_t count,
	bool force, struct error *err)
{
	*plan = (struct plan){ 0 };
	for (size_t i = 0; i < count; i++) {
		int code = check_asked(plan, host, &devices[i], force, err);

		if (code)
			return code;
	}
	/* Only now, so that a member that was asked for too is not taken for a companion. */
	count = plan->count;
	for (size_t i = 0; i < count; i++) {
		struct host_device asked = plan->entries[i].device;
		int code = check_companions(plan, host, &asked, force, err);

		if (code)
			return code;
	}
	return 0;
}

void plan_free(struct plan *plan)
{
	free(plan->entries);
	*plan = (struct plan){ 0 };
}
