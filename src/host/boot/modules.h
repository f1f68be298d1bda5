/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/boot/plan.h"

/* Whatever loads a driver of these devices loads vfio-pci before it. */
void boot_modules_plan(struct boot_plan *plan, const struct host *host);
