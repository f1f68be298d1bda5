/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/boot/plan.h"

/* Where a boot display is among the devices: its frame buffer, and the host's own picture. */
void boot_display_plan(struct boot_plan *plan, const struct host *host);
