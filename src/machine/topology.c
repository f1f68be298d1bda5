/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/topology.h"

#include "base/size.h"
#include "machine/layout.h"
#include "machine/platform/bochs.h"
#include "virtio/virtio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MEMORY_GRAIN MIB /* of a bridge's windows */
#define IO_GRAIN     (4 * KIB)
#define MEM32_SHARE  (256 * MIB) /* no device needs more that is not prefetchable */
#define ADDRESS_BITS 47          /* which four levels of page tables reach */

int topology_windows(unsigned address_bits, uint64_t memory_end, bool firmware,
	struct pci_windows *windows, struct error *err)
{
	unsigned bits = min_u64(address_bits, ADDRESS_BITS);
	uint64_t half = 1ULL << (bits - 1);
	char text[24];

	if (memory_end > half)
		return error_set(err, -ENOSPC, NULL,
			"guest RAM reaches beyond %s, half of what this host's %u address bits allow",
			size_format(half, text), bits);
	*windows = (struct pci_windows){
		.io = { LAYOUT_IO_BASE, LAYOUT_IO_SIZE, LAYOUT_IO_BASE },
		.mem32 = { LAYOUT_MEM32_BASE, LAYOUT_MEM32_SIZE, LAYOUT_MEM32_BASE },
		.mem64 = { half, half, half },
	};
	if (firmware)
		windows->mem32.size = LAYOUT_CHIPS - LAYOUT_MEM32_BASE;
	return 0;
}

void topology_widen(struct pci_windows *windows, uint64_t memory_end)
{
	uint64_t end = windows->mem64.base + windows->mem64.size;

	windows->io.base = LAYOUT_IO_LOW;
	windows->io.size = LAYOUT_IO_END - LAYOUT_IO_LOW;
	windows->mem32.size = LAYOUT_IOAPIC - LAYOUT_MEM32_BASE;
	windows->mem64.base = max_u64(memory_end, LAYOUT_4G);
	windows->mem64.size = end - windows->mem64.base;
}

/* Another function of device i's slot that is passed too; its function 0 where number is 0. */
static bool has_sibling(const struct topology *topology, unsigned i, bool function_0)
{
	const struct topology_device *devices = topology->devices;

	for (unsigned j = 0; j < topology->device_count; j++)
		if (j != i && bdf_same_slot(&devices[i].bdf, &devices[j].bdf) &&
			(!function_0 || devices[j].bdf.function == 0))
			return true;
	return false;
}

/* The device that decides where device i goes: function 0 of its slot, or itself. */
static unsigned leader(const struct topology *topology, unsigned i)
{
	const struct topology_device *devices = topology->devices;

	for (unsigned j = 0; j < topology->device_count; j++)
		if (devices[j].bdf.function == 0 && bdf_same_slot(&devices[i].bdf, &devices[j].bdf))
			return j;
	return i;
}

static int next_slot(
	const struct topology *topology, unsigned *slot, uint8_t *devfn, struct error *err)
{
	unsigned end = topology->firmware ? TOPOLOGY_SLOTS - 1 : TOPOLOGY_SLOTS;

	if (*slot == end)
		return error_set(err, -ENOSPC, NULL,
			"the guest's root bus has no slot left: devices and empty ports (--ports) "
			"must be %u at most",
			end - 1);
	*devfn = (*slot)++ << 3;
	return 0;
}

static int add_port(struct topology *topology, unsigned *slot, struct error *err)
{
	struct topology_port *port = &topology->ports[topology->port_count];

	if (next_slot(topology, slot, &port->devfn, err))
		return err->code;
	topology->port_count++;
	return 0;
}

static int give_slot(struct topology *topology, unsigned i, unsigned *slot, struct error *err)
{
	struct topology_device *device = &topology->devices[i];
	unsigned first = leader(topology, i);

	device->multifunction = has_sibling(topology, i, device->bdf.function != 0);
	device->devfn = device->multifunction ? device->bdf.function : 0;
	for (unsigned j = 0; j < i; j++)
		if (leader(topology, j) == first && device->multifunction) {
			device->port = topology->devices[j].port;
			device->devfn |= topology->devices[j].devfn & ~7;
			return 0;
		}
	device->port = -1;
	if (!topology->devices[first].endpoint) {
		uint8_t devfn = 0;

		next_slot(topology, slot, &devfn, err);
		device->devfn |= devfn;
		return err->code;
	}
	device->port = topology->port_count;
	return add_port(topology, slot, err);
}

/* Which of the three windows of a bus a BAR is placed in: see pci_windows. */
enum which { IO, MEM32, MEM64 };

static enum which window_of(const struct topology_device *device, const struct pci_bar *bar)
{
	if (bar->kind == PCI_BAR_IO)
		return IO;
	if (bar->kind == PCI_BAR_MEM32 || (device->port >= 0 && !bar->prefetchable))
		return MEM32;
	return MEM64;
}

static struct pci_window *window_in(struct pci_windows *windows, enum which which)
{
	return which == IO ? &windows->io : which == MEM32 ? &windows->mem32 : &windows->mem64;
}

static uint64_t power_of_two_from(uint64_t size)
{
	uint64_t power = 1;

	while (power < size)
		power *= 2;
	return power;
}

/*
 * Where placing a device's BARs ends that begins at next: the largest first, as pci_bus_place() does. At most
 * TOO_MUCH, which no window has.
 */
#define TOO_MUCH (1ULL << 62)

static uint64_t place_after(uint64_t next, const struct topology_device *device, enum which which)
{
	for (uint64_t size = TOO_MUCH; size; size /= 2)
		for (unsigned j = 0; j < PCI_RANGES; j++) {
			const struct pci_bar *bar = &device->bars[j];

			if (bar->kind != PCI_BAR_NONE && window_of(device, bar) == which &&
				min_u64(bar->size, TOO_MUCH) == size)
				next = min_u64(align_up(next, size) + size, TOO_MUCH);
		}
	return next;
}

/* What each port needs of one kind of window: a power of two, by which its base is aligned as well. */
struct demand {
	enum which which;
	uint64_t ports[TOPOLOGY_SLOTS];
};

static struct demand find_demand(const struct topology *topology, enum which which)
{
	struct demand demand = { .which = which };
	uint64_t grain = which == IO ? IO_GRAIN : MEMORY_GRAIN;

	for (unsigned i = 0; i < topology->device_count; i++) {
		const struct topology_device *device = &topology->devices[i];

		if (device->port >= 0)
			demand.ports[device->port] =
				place_after(demand.ports[device->port], device, which);
	}
	for (unsigned i = 0; i < topology->port_count; i++)
		if (demand.ports[i])
			demand.ports[i] = max_u64(power_of_two_from(demand.ports[i]), grain);
	return demand;
}

static bool take(struct pci_window *window, uint64_t size, uint64_t *base)
{
	uint64_t at = align_up(window->next, size);

	if (at < window->next || at - window->base > window->size ||
		size > window->size - (at - window->base))
		return false;
	*base = at;
	window->next = at + size;
	return true;
}

/* The root bus's devices come first. */
static bool place_on_root(
	const struct topology *topology, enum which which, struct pci_window *window)
{
	for (unsigned i = 0; i < topology->device_count; i++)
		if (topology->devices[i].port < 0)
			window->next = place_after(window->next, &topology->devices[i], which);
	if (which == MEM64 && topology->virtio_count)
		window->next = align_up(window->next, VIRTIO_BAR_SIZE) +
			       topology->virtio_count * (uint64_t)VIRTIO_BAR_SIZE;
	if (which == MEM32 && topology->display)
		window->next = align_up(window->next, DISPLAY_MEMORY) + DISPLAY_MEMORY +
			       DISPLAY_ROM + BOCHS_REGISTERS_SIZE;
	return window->next - window->base <= window->size;
}

/*
 * Then the ports, the largest first, so that none leaves a gap. I/O ports are few, and a PCI Express device
 * has to do without (PCI Express Base, 7.5.1.2.1): what does not fit gets none.
 */
static bool cut_ports(struct topology *topology, const struct demand *demand, uint64_t share,
	struct pci_window window)
{
	for (unsigned i = 0; i < topology->port_count; i++)
		*window_in(&topology->ports[i].windows, demand->which) = (struct pci_window){ 0 };
	for (uint64_t size = 1ULL << 62; size; size /= 2)
		for (unsigned i = 0; i < topology->port_count; i++) {
			uint64_t base;

			if (max_u64(demand->ports[i], share) != size)
				continue;
			if (take(&window, size, &base))
				*window_in(&topology->ports[i].windows, demand->which) =
					(struct pci_window){ base, size, base };
			else if (demand->which != IO)
				return false;
		}
	return true;
}

static int does_not_fit(const struct topology *topology, enum which which, struct error *err)
{
	static const char *const names[] = { "I/O ports", "32-bit addresses (below 4 GiB)",
		"64-bit addresses" };
	struct pci_windows windows = topology->windows;
	const struct topology_device *largest = NULL;
	uint64_t most = 0;
	char name[BDF_TEXT] = "", wanted[24], there[24];

	for (unsigned i = 0; i < topology->device_count; i++)
		for (unsigned j = 0; j < PCI_RANGES; j++) {
			const struct topology_device *device = &topology->devices[i];
			const struct pci_bar *bar = &device->bars[j];

			if (bar->kind != PCI_BAR_NONE && window_of(device, bar) == which &&
				bar->size > most) {
				most = bar->size;
				largest = device;
			}
		}
	if (largest)
		bdf_format(&largest->bdf, name);
	error_set(err, -ENOSPC, name,
		"the devices' BARs do not fit into the guest's %s: the largest one, of this "
		"device, has %s, and there are %s for all",
		names[which], size_format(most, wanted),
		size_format(window_in(&windows, which)->size, there));
	error_hint(err,
		"pass fewer devices, or let the firmware or /sys/bus/pci/devices/%s/resourceN_resize "
		"make its BARs smaller",
		name);
	return err->code;
}

/* Every port gets what it needs, and a share, the largest that leaves room for all. */
static int share_out(struct topology *topology, enum which which, uint64_t share, struct error *err)
{
	struct demand demand = find_demand(topology, which);
	struct pci_window window = *window_in(&topology->windows, which);

	if (!place_on_root(topology, which, &window))
		return does_not_fit(topology, which, err);
	while (!cut_ports(topology, &demand, share, window)) {
		if (!share)
			return does_not_fit(topology, which, err);
		share = share > MEMORY_GRAIN ? share / 2 : 0;
	}
	return 0;
}

int topology_plan(struct topology *topology, unsigned empty, struct error *err)
{
	unsigned slot = 1;

	topology->port_count = 0;
	memset(topology->ports, 0, sizeof(topology->ports));
	for (unsigned i = 0; i < topology->device_count; i++)
		if (give_slot(topology, i, &slot, err))
			return err->code;
	for (unsigned i = 0; i < topology->virtio_count; i++)
		if (next_slot(topology, &slot, &topology->virtio_devfns[i], err))
			return err->code;
	if (topology->display && next_slot(topology, &slot, &topology->display_devfn, err))
		return err->code;
	for (unsigned i = 0; i < empty; i++)
		if (add_port(topology, &slot, err))
			return err->code;
	/* Of I/O ports a port has what its device needs: there are too few for a share. */
	if (share_out(topology, IO, 0, err) || share_out(topology, MEM32, MEM32_SHARE, err))
		return err->code;
	return share_out(topology, MEM64, topology->windows.mem64.size / 2, err);
}
