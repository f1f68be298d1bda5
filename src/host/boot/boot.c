/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/boot.h"

#include "base/log.h"
#include "host/boot/display.h"
#include "host/boot/initramfs.h"
#include "host/boot/loader.h"
#include "host/boot/modules.h"
#include "host/boot/state.h"
#include "host/use/use.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#define DEVICES "/sys/bus/pci/devices"

/* Devices. */

/* What the host uses now it will use after the next boot: a host without its disk does not boot. */
static int check_later_use(
	const struct host *host, const struct host_device *device, bool force, struct error *err)
{
	char name[BDF_TEXT], path[PATH_MAX];
	struct host_use use = { 0 };

	bdf_format(&device->bdf, name);
	if (host_driver_is_vfio(device->driver) || host_device_path(host, &device->bdf, path) ||
		(!host_use_find_disk(host, path, &use) && !host_use_find_network(host, path, &use)))
		return 0;
	if (force) {
		log_warning("%s: the host uses it, and will be without it: %s", name, use.reason);
		return 0;
	}
	error_set(err, -EBUSY, name, "the host is using it, and would boot without it: %s",
		use.reason);
	error_hint(err, "%s; or take it all the same with --force", use.hint);
	return -EBUSY;
}

static int add_planned(
	struct boot_plan *plan, const struct host_device *device, bool companion, struct error *err)
{
	struct boot_device *more =
		reallocarray(plan->devices, plan->device_count + 1, sizeof(*more));

	if (!more)
		return error_sys(err, -ENOMEM, NULL, "cannot plan the binding");
	plan->devices = more;
	more[plan->device_count++] = (struct boot_device){ *device, companion };
	return 0;
}

static int add_asked(struct boot_plan *plan, const struct host *host, const struct bdf *bdf,
	bool force, struct error *err)
{
	struct host_device device;

	if (boot_plan_has(plan, bdf))
		return 0;
	if (host_device_read(host, bdf, &device, err) ||
		check_later_use(host, &device, force, err) ||
		host_device_check_bridge(&device, err))
		return err->code;
	return add_planned(plan, &device, false, err);
}

/* All others of the group: VFIO opens it only when no host driver has any of it. */
static int add_companions(
	struct boot_plan *plan, const struct host *host, int group, bool force, struct error *err)
{
	struct bdf members[HOST_GROUP_MAX];
	int count = host_group_devices(host, group, members, err);

	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		struct host_device device;

		if (boot_plan_has(plan, &members[i]))
			continue;
		if (host_device_read(host, &members[i], &device, err))
			return err->code;
		if (host_device_is_bridge(&device))
			continue;
		if (check_later_use(host, &device, force, err) ||
			add_planned(plan, &device, true, err))
			return err->code;
	}
	return 0;
}

static int add_devices(struct boot_plan *plan, const struct host *host, const struct bdf *devices,
	size_t count, bool force, struct error *err)
{
	for (size_t i = 0; i < count; i++)
		if (add_asked(plan, host, &devices[i], force, err))
			return err->code;
	/* Only now, so that a member that was asked for too is not taken for a companion. */
	count = plan->device_count;
	for (size_t i = 0; i < count; i++) {
		int group = plan->devices[i].device.group;

		if (group >= 0 && add_companions(plan, host, group, force, err))
			return err->code;
	}
	return 0;
}

/* Devices that the user may take for one of these. */
static void note_others(struct boot_plan *plan, const struct host_device *other)
{
	char name[BDF_TEXT], planned[BDF_TEXT];
	const char *driver = other->driver[0] ? other->driver : "the host";

	bdf_format(&other->bdf, name);
	for (size_t i = 0; i < plan->device_count; i++) {
		const struct host_device *device = &plan->devices[i].device;

		bdf_format(&device->bdf, planned);
		if (device->vendor == other->vendor && device->device == other->device) {
			boot_plan_note(plan,
				"%s has the same vendor and device as %s, %04x:%04x, and stays with %s, "
				"as binding is by address",
				name, planned, device->vendor, device->device, driver);
			return;
		}
		if (device->bdf.domain == other->bdf.domain && device->bdf.bus == other->bdf.bus &&
			device->bdf.device == other->bdf.device) {
			boot_plan_note(plan,
				"%s is a function of the same card as %s, and stays with %s: name it "
				"too if the guest is to have it",
				name, planned, driver);
			return;
		}
	}
}

static void note_all_others(struct boot_plan *plan, const struct host *host)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	DIR *directory = host_path(host, path, DEVICES) == 0 ? opendir(path) : NULL;

	while (directory && (entry = readdir(directory))) {
		struct host_device device;
		struct error ignored = { 0 };
		struct bdf bdf;

		if (bdf_parse(entry->d_name, &bdf) == 0 && !boot_plan_has(plan, &bdf) &&
			host_device_read(host, &bdf, &device, &ignored) == 0 &&
			!host_device_is_bridge(&device))
			note_others(plan, &device);
	}
	if (directory)
		closedir(directory);
}

/* The IOMMU. */

#define INTEL_WORD "intel_iommu=on"

static void plan_iommu(struct boot_plan *plan, const struct host *host)
{
	if (host_has_groups(host)) {
		/* What has switched it on stays. */
		if (boot_state_has_word(host, INTEL_WORD))
			boot_plan_word(plan, INTEL_WORD);
		return;
	}
	if (host_exists(host, "/sys/firmware/acpi/tables/DMAR")) {
		boot_plan_word(plan, INTEL_WORD);
		boot_plan_note(plan,
			"the IOMMU is not in use: " INTEL_WORD
			" lets the kernel start it. Which devices "
			"share a group is known only then; run this command again after the boot");
		return;
	}
	boot_plan_note(plan,
		"the IOMMU is not in use, and vfio-pci takes no device without it: 'penstock doctor' "
		"tells what to do");
}

int boot_make_plan(struct boot_plan *plan, const struct host *host, const struct bdf *devices,
	size_t count, bool force, struct error *err)
{
	*plan = (struct boot_plan){ 0 };
	if (add_devices(plan, host, devices, count, force, err) ||
		boot_initramfs_plan(plan, host, err))
		return err->code;
	boot_modules_plan(plan, host);
	note_all_others(plan, host);
	plan_iommu(plan, host);
	boot_display_plan(plan, host);
	boot_loader_plan(plan, host);
	if (plan->out_of_memory)
		return error_sys(err, -ENOMEM, NULL, "cannot plan the binding");
	return 0;
}
