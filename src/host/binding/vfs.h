/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

/* Make count VFs of a PF and bind them, as "penstock bind" does. All are made and bound, or none is. */
int host_bind_new_vfs(const struct host *host, const struct bdf *pf, unsigned count, bool dry_run,
	struct error *err);
