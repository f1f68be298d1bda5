/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/reset/way.h"

#include "base/size.h"

#include <stdio.h>

#define VENDOR_AMD 0x1002

/* The graphics chips that the kernel module vendor-reset knows how to reset. */
static const struct {
	uint16_t first, last;
} vendor_reset[] = {
	{ 0x66a0, 0x66af }, /* Vega 20 */
	{ 0x6860, 0x687f }, /* Vega 10 */
	{ 0x67c0, 0x67ff }, /* Polaris 10 and 11 */
	{ 0x6980, 0x699f }, /* Polaris 12 */
	{ 0x6fdf, 0x6fdf }, /* Polaris 20 */
	{ 0x7310, 0x731f }, /* Navi 10 */
	{ 0x7340, 0x734f }, /* Navi 14 */
	{ 0x7360, 0x7362 }, /* Navi 12 */
	{ 0x738c, 0x738c }, /* Arcturus */
	{ 0x73ff, 0x73ff }, /* Navi 23 */
};

static bool needs_vendor_reset(const struct host_device *device)
{
	if (device->vendor != VENDOR_AMD)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(vendor_reset); i++)
		if (device->device >= vendor_reset[i].first &&
			device->device <= vendor_reset[i].last)
			return true;
	return false;
}

static void set_what(struct reset_way *way, const char *what)
{
	snprintf(way->what, sizeof(way->what), "%s", what);
}

void reset_way_rescan(const struct host_device *device, char command[static RESET_WAY_COMMAND])
{
	bool vfio = host_driver_is_vfio(device->driver);
	char name[BDF_TEXT], bind[96];

	bdf_format(&device->bdf, name);
	snprintf(bind, sizeof(bind), "; penstock bind %s; echo 1 >/sys/bus/pci/drivers_autoprobe",
		name);
	snprintf(command, RESET_WAY_COMMAND,
		"%secho 1 >/sys/bus/pci/devices/%s/remove; sleep 1; echo 1 >/sys/bus/pci/rescan%s",
		vfio ? "echo 0 >/sys/bus/pci/drivers_autoprobe; " : "", name, vfio ? bind : "");
}

bool reset_way_out(const struct host_device *device, unsigned n, struct reset_way *way)
{
	char name[BDF_TEXT];

	bdf_format(&device->bdf, name);
	if (!needs_vendor_reset(device))
		n++;
	way->resets = n != 1;
	switch (n) {
	case 0:
		set_what(
			way, "this chip has a reset of its own, in the kernel module vendor-reset");
		snprintf(way->command, sizeof(way->command),
			"modprobe vendor-reset && "
			"echo device_specific >/sys/bus/pci/devices/%s/reset_method && "
			"penstock reset %s",
			name, name);
		return true;
	case 1:
		set_what(way,
			host_driver_is_vfio(device->driver)
				? "let the kernel find the device anew; before Linux 6.19, its "
				  "host driver has it for a moment"
				: "let the kernel find the device anew");
		reset_way_rescan(device, way->command);
		return true;
	case 2:
		set_what(way, "take its power away for a moment: the host sleeps for ten seconds");
		snprintf(way->command, sizeof(way->command), "rtcwake -m mem -s 10");
		return true;
	default:
		return false;
	}
}
