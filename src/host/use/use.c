/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/use/use.h"

#include "host/device/device.h"

bool host_use_find(const struct host *host, const struct bdf *bdf, struct host_use *use)
{
	struct host_device device;
	struct error ignored = { 0 };
	char path[PATH_MAX];

	*use = (struct host_use){ 0 };
	if (host_device_path(host, bdf, path) || host_device_read(host, bdf, &device, &ignored))
		return false;
	/* Nothing of the host is below a device that VFIO has, nor does the host show anything
	 * there. */
	if (device.driver[0] && host_driver_is_viable(device.driver))
		return false;
	return host_use_find_disk(host, path, use) || host_use_find_network(host, path, use) ||
	       (device.boot_display && host_use_find_display(host, path, use));
}
