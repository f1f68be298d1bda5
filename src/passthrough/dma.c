/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/log.h"
#include "passthrough/passthrough.h"

/*
 * DMA is direct: the IOMMU translates the guest's physical addresses, which the guest's drivers put
 * into the device, by a table that holds guest RAM at the same addresses (IOVA = GPA), and what the guest
 * has decoded of other passed devices' BARs. The kernel pins the pages of what goes in by one call, and
 * takes the largest the IOMMU can.
 */
int passthrough_map_memory(
	struct vfio_iommu *iommu, uint64_t gpa, uint64_t size, void *hva, struct error *err)
{
	return iommu->ops->map(iommu, gpa, size, hva, err);
}

static uint64_t window_gpa(
	const struct passthrough *device, unsigned bar, const struct passthrough_window *window)
{
	return device->pci.bars[bar].address + window->offset;
}

/*
 * With nobody there who would reach it, a machine has neither the cost nor the line of a kernel that cannot.
 * Of a BAR smaller than a page the rest of the page is not the device's.
 */
static bool is_worth_it(
	const struct passthrough *device, unsigned bar, const struct passthrough_window *window)
{
	const struct vfio_iommu *iommu = device->vfio.iommu;

	return !window->reached && window->size <= device->vfio.regions[bar].size &&
	       vfio_iommu_has_peers(iommu) &&
	       vfio_iommu_has_range(iommu, window_gpa(device, bar, window), window->size);
}

void passthrough_reach_window(
	struct passthrough *device, unsigned bar, struct passthrough_window *window)
{
	struct vfio_iommu *iommu = device->vfio.iommu;
	const struct vfio_part part = { &device->vfio, bar, window->offset, window->size,
		window->hva };
	struct error err = { 0 };

	if (!is_worth_it(device, bar, window))
		return;
	if (iommu->ops->map_part(iommu, window_gpa(device, bar, window), &part, &err) == 0)
		window->reached = true;
	else if (!__atomic_exchange_n(&iommu->told_of_part, true, __ATOMIC_RELAXED))
		log_warning("%s: %s%s%s", err.object, err.what, *err.hint ? "; " : "", err.hint);
}

void passthrough_unreach_window(
	struct passthrough *device, unsigned bar, struct passthrough_window *window)
{
	struct vfio_iommu *iommu = device->vfio.iommu;

	if (window->reached)
		(void)iommu->ops->unmap(iommu, window_gpa(device, bar, window), window->size);
	window->reached = false;
}

void passthrough_reach(struct passthrough *device)
{
	struct pci_device *pci = &device->pci;

	pthread_mutex_lock(&pci->lock);
	for (unsigned i = 0; i < PCI_BARS; i++)
		for (unsigned j = 0; j < device->bars[i].count; j++)
			if (pci->bars[i].decoded && !pci->asleep)
				passthrough_reach_window(device, i, &device->bars[i].windows[j]);
	pthread_mutex_unlock(&pci->lock);
}
