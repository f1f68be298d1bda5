/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/use/vfs.h"

#include "base/fd.h"
#include "base/text.h"
#include "host/device/processes.h"
#include "host/device/vfs.h"
#include "host/journal/journal.h"

#include <errno.h>

/* Use by a machine, or through VFIO, as text. */
static bool is_used(const struct host *host, const struct bdf *vf, char *text, size_t size)
{
	struct error ignored = { 0 };
	struct host_record record;
	struct host_device device;
	char holder[HOST_HOLDER_TEXT];

	if (host_journal_read(host, vf, &record, &ignored) == 0 &&
		host_holder_is_alive(&record.holder) && !host_holder_is_self(&record.holder)) {
		text_format(text, size, "it is held by %s",
			host_holder_describe(&record.holder, holder));
		return true;
	}
	return host_device_read(host, vf, &device, &ignored) == 0 &&
	       host_driver_is_vfio(device.driver) &&
	       host_processes_using_vfio(host, &device, text, size);
}

int host_use_check_vfs(const struct host *host, const struct bdf *pf, struct error *err)
{
	cleanup_free struct bdf *vfs = NULL;
	ssize_t count = host_vfs_list(host, pf, &vfs, err);
	char text[160], name[BDF_TEXT], vf[BDF_TEXT];

	for (ssize_t i = 0; i < count; i++) {
		if (!is_used(host, &vfs[i], text, sizeof(text)))
			continue;
		error_set(err, -EBUSY, bdf_format(pf, name),
			"its virtual function %s is in use: %s", bdf_format(&vfs[i], vf), text);
		error_hint(err, "it is free again when that has ended");
		return -EBUSY;
	}
	return count < 0 ? (int)count : 0;
}

int host_use_check_no_vfs(
	const struct host *host, const struct host_device *device, struct error *err)
{
	long count = host_vfs_count(host, &device->bdf);
	char name[BDF_TEXT];
	int code = host_use_check_vfs(host, &device->bdf, err);

	if (code || count <= 0 || host_driver_is_vfio(device->driver))
		return code;
	error_set(err, -EBUSY, bdf_format(&device->bdf, name),
		"it has %ld VFs, and vfio-pci takes no device that has some", count);
	error_hint(err, "'penstock vf destroy %s' removes them; or bind the VFs instead", name);
	return -EBUSY;
}
