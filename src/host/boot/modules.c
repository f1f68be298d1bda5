/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/modules.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES "/sys/bus/pci/devices"

static bool is_name(const char *text)
{
	return text[0] && !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					     "0123456789_-")];
}

/*
 * All modules that may take the device, as depmod wrote them down: "alias PATTERN MODULE". False: there is
 * no memory.
 */
static bool find_modules(
	struct boot_list *modules, const struct host *host, const struct host_device *device)
{
	char name[BDF_TEXT], modalias[128], release[HOST_NAME], line[512];
	FILE *stream = NULL;
	bool added = true;

	host_read_kernel(host, release);
	bdf_format(&device->bdf, name);
	if (host_read(host, modalias, sizeof(modalias), DEVICES "/%s/modalias", name) > 0)
		stream = host_open(host, "/lib/modules/%s/modules.alias", release);
	while (stream && added && fgets(line, sizeof(line), stream)) {
		char pattern[256], module[64];

		if (sscanf(line, "alias %255s %63s", pattern, module) == 2 && is_name(module) &&
			fnmatch(pattern, modalias, 0) == 0 && !boot_list_has(modules, module))
			added = boot_list_add(modules, "%s", module);
	}
	if (stream)
		fclose(stream);
	return added;
}

/* To be freed; NULL: there is no memory. */
static char *list_softdeps(const struct boot_list *modules)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	bool failed;

	if (!stream)
		return NULL;
	fputs(BOOT_COMMENT, stream);
	for (size_t i = 0; i < modules->count; i++)
		fprintf(stream, "softdep %s pre: vfio-pci\n", modules->items[i]);
	failed = ferror(stream);
	if (fclose(stream) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}

void boot_modules_plan(struct boot_plan *plan, const struct host *host)
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

	for (size_t i = 0; i < plan->device_count; i++)
		plan->out_of_memory |= !find_modules(&modules, host, &plan->devices[i].device);
	if (modules.count) {
		soft.text = list_softdeps(&modules);
		boot_plan_file(plan, &soft);
	}
	boot_plan_file(plan, &load);
	boot_list_free(&modules);
}
