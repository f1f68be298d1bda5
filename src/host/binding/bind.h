/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * Devices from the host's drivers to vfio-pci, and back. Every change is in the journal before it
 * is made, and every function here can be called again after it, or its process, was stopped at any
 * point: what is left to do is then done.
 */

struct bind_options {
	const char *owner; /* who holds the devices: a machine's name, or "bind" */
	bool force;        /* take them although the host uses them */
	bool persist;      /* they stay bound when this process ends */
	bool dry_run;      /* check, tell what would be done, and change nothing */
};

/* Have the kernel load vfio-pci, if it has not, and with it what makes VFIO's nodes. */
int host_bind_load_vfio(const struct host *host, struct error *err);

/*
 * Give devices to vfio-pci, each with those of its IOMMU group that have another driver. All are
 * checked first, and when any cannot be had, or later fails, all are as they were before.
 *
 * The calling process holds them until host_release_owned() or its end. One that was at vfio-pci
 * before stays there afterwards.
 */
int host_bind(const struct host *host, const struct bdf *devices, size_t count,
	const struct bind_options *options, struct error *err);
