/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "machine/memory.h"
#include "vfio/iommu.h"

#include <stdbool.h>

/*
 * Guest RAM is made present, and mapped for DMA, by threads of its own while the guest already runs,
 * lowest addresses first. A guest that touches a page before its turn has it by a fault. Its devices
 * cannot wait so, but none may do DMA before its driver sets Bus Master (PCI Local Bus 3.0, 6.2.2):
 * that write waits for what is missing.
 */

struct fill;

struct fill_ops {
	/* RAM cannot be had, or not be mapped: the guest must end. Called once, by any thread. */
	void (*failed)(void *opaque, const struct error *failure);
	void *opaque;
};

/*
 * Start to fill all of memory, which must outlive the fill, for the devices behind iommu (NULL: none).
 * NULL and err where not even one thread can be had.
 */
struct fill *fill_start(struct memory *memory, struct vfio_iommu *iommu, const struct fill_ops *ops,
	struct error *err);

/* All is there and mapped. Any thread; costs next to nothing. */
bool fill_is_done(const struct fill *fill);

/*
 * Return when all is, and take part in the work until then; tell the user where it takes more than a
 * second. 0, -ETIMEDOUT after some seconds (0: no limit), -ECANCELED where it has failed or was stopped.
 * Any thread, many at once.
 */
int fill_wait(struct fill *fill, unsigned seconds);

/*
 * A range that has become present, each once and in their order, so that the caller can fill the
 * second-level tables for it. False: none now. Any thread; costs next to nothing.
 */
bool fill_next(struct fill *fill, struct memory_range *range);

/* No further piece is begun, and whoever waits returns: for the machine's end. Any thread. */
void fill_stop(struct fill *fill);

/* Nobody waits any more. NULL is nothing to do. */
void fill_free(struct fill *fill);
