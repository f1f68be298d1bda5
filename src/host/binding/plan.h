/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/* What host_bind() is going to bind: the devices asked for, and their groups' other members. */
struct plan_entry {
	struct host_device device;
	bool companion;
};

struct plan {
	struct plan_entry *entries;
	size_t count;
};

/*
 * Check all of it and change nothing; with force also devices that the host uses are planned. The plan is freed by plan_free(), also after a failure.
 */
int plan_make(struct plan *plan, const struct host *host, const struct bdf *devices, size_t count,
	bool force, struct error *err);
void plan_free(struct plan *plan);
