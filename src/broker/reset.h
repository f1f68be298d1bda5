/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/bdf.h"
#include "host/system/host.h"

/*
 * A device is bound, and the machine of this name is to have it: say so if nothing resets it and another machine had
 * it before, whose guest has left there what it liked.
 */
void broker_reset_tell(const struct host *host, const struct bdf *bdf, const char *machine);

/*
 * A machine has closed it, and so nobody on the host hears its interrupt line (INTx): switch that off if nothing resets
 * the device, which may go on to raise it. Whatever opens it next, or a driver, has the kernel switch it on.
 */
void broker_reset_mute(const struct host *host, const struct bdf *bdf);
