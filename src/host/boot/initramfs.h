/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/boot/plan.h"

/* The hook, and the command that makes the initramfs with it. -ENOENT: the host has no program for that. */
int boot_initramfs_plan(struct boot_plan *plan, const struct host *host, struct error *err);
