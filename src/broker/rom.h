/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "host/system/host.h"

/*
 * Option ROMs that guests see in place of devices' own. They are in memory that the machine inherits, for a file
 * could change, or become shorter, under the guest.
 */

#define BROKER_ROM_OFF "off" /* in place of a file: the guest sees none */

/*
 * By the configuration's devices. Read and check the files, before any device is touched; with bios the
 * configuration's firmware is one, and not UEFI's.
 */
int broker_roms_open(struct passthrough_rom roms[static MACHINE_DEVICES_MAX],
	const struct host *host, const struct broker_config *config, bool bios, struct error *err);
void broker_roms_close(struct passthrough_rom roms[static MACHINE_DEVICES_MAX]);

/* The devices are bound: say of which graphics card firmware finds nothing to run in its own. */
void broker_roms_tell(const struct host *host, const struct broker_config *config, bool bios);
