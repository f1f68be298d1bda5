/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/reset.h"

#include "base/fd.h"
#include "base/log.h"
#include "host/journal/used.h"
#include "host/reset/reset.h"
#include "host/reset/way.h"

#include <fcntl.h>
#include <linux/pci_regs.h>

/* The last one does it whatever the device is. */
static void find_way(const struct host_device *device, struct reset_way *way)
{
	for (unsigned n = 0; reset_way_out(device, n, way); n++)
		if (way->resets)
			return;
}

void broker_reset_tell(const struct host *host, const struct bdf *bdf, const char *machine)
{
	struct error ignored = { 0 };
	char name[BDF_TEXT], earlier[HOST_NAME];
	struct host_reset reset;
	struct reset_way way;

	if (host_reset_read(host, bdf, &reset, &ignored) || host_reset_is_sure(host, &reset))
		return;
	if (host_used_by(host, bdf, earlier)) {
		find_way(&reset.device, &way);
		log_warning(
			"%s: it cannot be reset, so this guest finds it as that of '%s' has left it; if "
			"it does not work so: end the machine, and then '%s' (%s), or restart the host",
			bdf_format(bdf, name), earlier, way.command, way.what);
	}
	/* Without a note nothing but this line is missing at the next start. */
	(void)host_used_note(host, bdf, machine);
}

void broker_reset_mute(const struct host *host, const struct bdf *bdf)
{
	struct error ignored = { 0 };
	struct host_reset reset;
	char path[PATH_MAX], name[BDF_TEXT];
	cleanup_fd int config = -1;
	uint16_t command;

	if (host_reset_read(host, bdf, &reset, &ignored) || host_reset_is_sure(host, &reset) ||
		host_path(host, path, "/sys/bus/pci/devices/%s/config", bdf_format(bdf, name)))
		return;
	config = open(path, O_RDWR | O_CLOEXEC);
	if (config < 0 || fd_pread_all(config, &command, sizeof(command), PCI_COMMAND))
		return;
	command |= PCI_COMMAND_INTX_DISABLE;
	/* A user who is not root has no right to, and what has left the bus no line. */
	(void)!pwrite(config, &command, sizeof(command), PCI_COMMAND);
}
