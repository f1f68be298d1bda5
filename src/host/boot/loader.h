/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/boot/plan.h"

/* The kernel's command line, last: the plan's words go there. */
void boot_loader_plan(struct boot_plan *plan, const struct host *host);
