/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/bdf.h"
#include "base/error.h"
#include "vfio/iommu.h"

#include <linux/vfio.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A PCI device as the kernel gives it to user space (linux/vfio.h): regions to read, write and map,
 * and interrupts that arrive at eventfds. Knows no KVM and no guest.
 */

#define VFIO_REGIONS   (VFIO_PCI_VGA_REGION_INDEX + 1) /* BARs 0 to 5, ROM, config, VGA */
#define VFIO_AREAS_MAX 8

/* A part of a region, in bytes from its start. */
struct vfio_area {
	uint64_t offset;
	uint64_t size;
};

struct vfio_region {
	uint64_t size; /* 0: the device has no such region */
	uint64_t fd_offset;
	bool readable;
	bool writable;
	struct vfio_area areas[VFIO_AREAS_MAX]; /* that may be mapped */
	unsigned area_count;
};

struct vfio_irq {
	unsigned count; /* 0: none of this kind */
	bool can_grow;  /* vectors can be added while others are in use (dynamic MSI-X) */
};

struct vfio_device {
	int fd; /* -1: not open */
	struct vfio_iommu *iommu;
	struct vfio_group *group; /* for the IOMMU's use */
	char name[BDF_TEXT];
	struct vfio_region regions[VFIO_REGIONS];
	struct vfio_irq irqs[VFIO_PCI_NUM_IRQS];
};

/*
 * Join the device to the IOMMU, open it and read what it has; the kernel resets it, which takes its
 * time. The source's descriptor is no longer the caller's, whatever comes of it. Its interrupt line
 * (INTx) is off, by the command register: what no reset has silenced would raise it, and before
 * vfio_irq_set() nobody on the host has a handler for it. Where others share the line the kernel then
 * switches it off for all of them ("nobody cared").
 */
int vfio_device_open(struct vfio_device *device, struct vfio_iommu *iommu,
	const struct vfio_source *source, struct error *err);
/* Also for one that did not open, or is closed already. */
void vfio_device_close(struct vfio_device *device);

/*
 * Access a region in user space; size is 1, 2, 4 or 8. What the device does not answer reads as
 * all ones, and such a write is lost, as on the bus.
 */
uint64_t vfio_region_read(
	struct vfio_device *device, unsigned region, uint64_t offset, unsigned size);
void vfio_region_write(struct vfio_device *device, unsigned region, uint64_t offset, unsigned size,
	uint64_t value);

/* The first size bytes of a readable region. 0 or a negative errno. */
int vfio_region_copy(struct vfio_device *device, unsigned region, void *bytes, uint64_t size);

/*
 * Map part of a region into this process, at an address that is congruent to the region's offset
 * modulo the region's size up to 1 GiB, so that the kernel can use large pages. NULL on failure.
 */
void *vfio_region_map(struct vfio_device *device, unsigned region, uint64_t offset, uint64_t size);

/*
 * Interrupts; index is VFIO_PCI_INTX_IRQ_INDEX and so on. vfio_irq_set() connects vectors first to
 * first + count - 1 to eventfds (-1: to none); the first call for an index enables it with as many
 * vectors. vfio_irq_disable() switches the whole index off. 0 or a negative errno; from the call that
 * enables MSI or MSI-X also the number of vectors that the host has left, where that is too small: then
 * none is enabled.
 */
int vfio_irq_set(struct vfio_device *device, unsigned index, unsigned first, unsigned count,
	const int *eventfds);
int vfio_irq_disable(struct vfio_device *device, unsigned index);

/* INTx alone: mask or unmask it, or let an eventfd unmask it in the kernel (-1: no more). */
int vfio_intx_mask(struct vfio_device *device, bool masked);
int vfio_intx_unmask_by(struct vfio_device *device, int eventfd);
