/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/log.h"
#include "base/size.h"
#include "host/boot/parts.h"
#include "host/use/use.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"

static bool list_add_v(struct boot_list *list, const char *format, va_list args)
{
	char **more = reallocarray(list->items, list->count + 1, sizeof(*more));

	if (!more)
		return false;
	list->items = more;
	if (vasprintf(&more[list->count], format, args) < 0)
		return false;
	list->count++;
	return true;
}

bool boot_list_add(struct boot_list *list, const char *format, ...)
{
	va_list args;
	bool added;

	va_start(args, format);
	added = list_add_v(list, format, args);
	va_end(args);
	return added;
}

bool boot_list_has(const struct boot_list *list, const char *item)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->items[i], item) == 0)
			return true;
	return false;
}

void boot_list_free(struct boot_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct boot_list){ 0 };
}

void boot_plan_note(struct boot_plan *plan, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	plan->out_of_memory |= !list_add_v(&plan->notes, format, args);
	va_end(args);
}

void boot_plan_next(struct boot_plan *plan, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	plan->out_of_memory |= !list_add_v(&plan->next, format, args);
	va_end(args);
	if (!plan->out_of_memory)
		plan->out_of_memory =
			!boot_list_add(&plan->undo, "%s", plan->next.items[plan->next.count - 1]);
}

void boot_plan_word(struct boot_plan *plan, const char *word)
{
	size_t used = strlen(plan->words);

	snprintf(plan->words + used, sizeof(plan->words) - used, "%s%s", used ? " " : "", word);
}

void boot_plan_file(struct boot_plan *plan, const struct boot_file *file)
{
	plan->out_of_memory |= !file->text;
	if (file->text && plan->file_count < BOOT_FILES_MAX)
		plan->files[plan->file_count++] = *file;
}

/* Devices. */

/* What the host uses now it will use after the next boot: a host without its disk does not boot. */
static int check_use(
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

bool boot_plan_has(const struct boot_plan *plan, const struct bdf *bdf)
{
	for (size_t i = 0; i < plan->device_count; i++)
		if (bdf_equal(&plan->devices[i].device.bdf, bdf))
			return true;
	return false;
}

static int add_device(
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
	if (host_device_read(host, bdf, &device, err) || check_use(host, &device, force, err) ||
		host_device_check_bridge(&device, err))
		return err->code;
	return add_device(plan, &device, false, err);
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
		if (check_use(host, &device, force, err) || add_device(plan, &device, true, err))
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

/* Modules. */

static bool is_name(const char *text)
{
	return text[0] && !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					     "0123456789_-")];
}

/* All modules that may take the device, as depmod wrote them down: "alias PATTERN MODULE". */
static void find_modules(
	struct boot_list *modules, const struct host *host, const struct host_device *device)
{
	char name[BDF_TEXT], modalias[128], release[HOST_NAME], line[512];
	FILE *stream = NULL;

	host_read_kernel(host, release);
	bdf_format(&device->bdf, name);
	if (host_read(host, modalias, sizeof(modalias), DEVICES "/%s/modalias", name) > 0)
		stream = host_open(host, "/lib/modules/%s/modules.alias", release);
	while (stream && fgets(line, sizeof(line), stream)) {
		char pattern[256], module[64];

		if (sscanf(line, "alias %255s %63s", pattern, module) == 2 && is_name(module) &&
			fnmatch(pattern, modalias, 0) == 0 && !boot_list_has(modules, module))
			boot_list_add(modules, "%s", module);
	}
	if (stream)
		fclose(stream);
}

void boot_plan_modules(struct boot_plan *plan, const struct host *host)
{
	struct boot_file soft = {
		.path = "/etc/modprobe.d/penstock.conf",
		.why = "whatever loads a driver of these devices loads vfio-pci before it, so a device "
		       "that is set aside is taken",
		.edit = BOOT_WHOLE,
		.mode = 0644,
	};
	struct boot_file load = {
		.path = "/etc/modules-load.d/penstock.conf",
		.why = "loads vfio-pci from the root file system, should the initramfs lack it",
		.edit = BOOT_WHOLE,
		.mode = 0644,
		.text = strdup(BOOT_COMMENT "vfio-pci\n"),
	};
	struct boot_list modules = { 0 };
	size_t size;
	FILE *stream;

	for (size_t i = 0; i < plan->device_count; i++)
		find_modules(&modules, host, &plan->devices[i].device);
	stream = modules.count ? open_memstream(&soft.text, &size) : NULL;
	if (stream) {
		fputs(BOOT_COMMENT, stream);
		for (size_t i = 0; i < modules.count; i++)
			fprintf(stream, "softdep %s pre: vfio-pci\n", modules.items[i]);
		fclose(stream);
		boot_plan_file(plan, &soft);
	}
	boot_plan_file(plan, &load);
	boot_list_free(&modules);
}

int boot_plan_make(struct boot_plan *plan, const struct host *host, const struct bdf *devices,
	size_t count, bool force, struct error *err)
{
	*plan = (struct boot_plan){ 0 };
	if (add_devices(plan, host, devices, count, force, err) ||
		boot_plan_initramfs(plan, host, err))
		return err->code;
	boot_plan_modules(plan, host);
	note_all_others(plan, host);
	plan_iommu(plan, host);
	boot_plan_display(plan, host);
	boot_plan_loader(plan, host);
	if (plan->out_of_memory)
		return error_sys(err, -ENOMEM, NULL, "cannot plan the binding");
	return 0;
}

void boot_plan_free(struct boot_plan *plan)
{
	for (size_t i = 0; i < plan->file_count; i++)
		free(plan->files[i].text);
	free(plan->devices);
	boot_list_free(&plan->entries);
	boot_list_free(&plan->notes);
	boot_list_free(&plan->next);
	boot_list_free(&plan->undo);
	*plan = (struct boot_plan){ 0 };
}
