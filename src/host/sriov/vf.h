/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/* Making and removing virtual functions. */

/* Make count VFs, and let the host's drivers have them. All or none. */
int host_vf_create(const struct host *host, const struct bdf *pf, unsigned count, bool dry_run,
	struct error *err);

/*
 * The steps of it for one who binds them (binding/vfs.h): may they be made, with the PF as it is; and
 * making them without showing them to the host's drivers. From then on a record of the PF says that they
 * are to go, until they are bound for good and host_vf_keep() removes it.
 */
int host_vf_check(const struct host *host, const struct bdf *pf, unsigned count,
	struct host_device *device, struct error *err);
int host_vf_make_unbound(const struct host *host, const struct host_device *device, unsigned count,
	struct error *err);
int host_vf_keep(const struct host *host, const struct bdf *pf, struct error *err);

/* Remove all VFs of a PF, unless one is in use; the second where the PF's lock is had already. */
int host_vf_destroy(const struct host *host, const struct bdf *pf, bool dry_run, struct error *err);
int host_vf_remove(const struct host *host, const struct bdf *pf, int lock, struct error *err);
