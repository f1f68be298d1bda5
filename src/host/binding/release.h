/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * Devices back to the host's drivers. What host_bind() says of changes and the journal holds here too.
 */

/*
 * Give back what this process holds: one device, or with only = NULL all of them. Their VFIO
 * descriptors must have been closed, here and in the machine's process. Goes on after a failure and
 * returns the first one.
 */
int host_release_owned(const struct host *host, const struct bdf *only, struct error *err);

/* Of a device that is at VFIO as far as we know: has somebody taken it from there, or removed it? */
bool host_release_is_taken(const struct host *host, const struct bdf *bdf);

/*
 * Give back a device that a machine has had. Where somebody takes it from VFIO meanwhile, or removes it, what
 * becomes of it is his affair, and it is given to no driver; else it goes back as the others.
 */
int host_release_unless_taken(const struct host *host, const struct bdf *bdf, struct error *err);

/*
 * Give back what was held by processes that have ended without doing so, as host_release_unless_taken() does where
 * they had it at vfio-pci.
 */
int host_release_stale(const struct host *host, bool dry_run, struct error *err);

/* Give back one device, however it came to vfio-pci, with the companions that were bound for it. */
int host_release(const struct host *host, const struct bdf *bdf, bool dry_run, struct error *err);

/* As host_release() for every device in the journal. */
int host_release_all(const struct host *host, bool dry_run, struct error *err);
