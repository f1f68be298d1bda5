/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/clock.h"
#include "base/fd.h"
#include "base/size.h"
#include "machine/devices.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define EJECT_MS 1000 /* in which a system that can eject has done so, unless its driver is slow */
#define REST_MS  1500 /* Linux hears nothing of a slot for a second after it has switched it off */
#define COME_MS \
	2000 /* in which all functions of a slot have come: the broker sends them in one go */
#define AWAIT_MS \
	1000 /* for which a guest at the least awaits what has been announced; Linux 1120 */

/*
 * Devices that come and go, a slot at a time. The tree of PCI changes while the vCPUs are held: so no
 * access of theirs is under way, and what has been taken from its bus cannot be reached.
 */

/* A device's own thread. */

static void finish(struct machine_device *device)
{
	__atomic_store_n(&device->done, true, __ATOMIC_RELEASE);
	eventfd_write(device->devices->news, 1);
}

static void *open_device(void *opaque)
{
	struct machine_device *device = opaque;
	struct vfio_iommu *iommu = device->devices->iommu;

	if (vfio_device_open(&device->passthrough.vfio, iommu, &device->source, &device->err) == 0)
		devices_describe_one(device, &device->place, &device->err);
	finish(device);
	return NULL;
}

static void *close_device(void *opaque)
{
	struct machine_device *device = opaque;

	devices_close_one(device);
	/* Its routes are not in use; now KVM forgets them, too. */
	kvm_routes_commit(device->devices->pci->vm);
	finish(device);
	return NULL;
}

static void start_thread(struct machine_device *device, void *(*work)(void *opaque))
{
	device->done = false;
	device->has_thread = pthread_create(&device->thread, NULL, work, device) == 0;
	/* The loop then waits for it: slow, but right. */
	if (!device->has_thread)
		work(device);
}

static bool is_done(struct machine_device *device)
{
	if (!__atomic_load_n(&device->done, __ATOMIC_ACQUIRE))
		return false;
	if (device->has_thread)
		pthread_join(device->thread, NULL);
	device->has_thread = false;
	return true;
}

static bool all_done(struct machine_slot *slot)
{
	bool done = true;

	for (unsigned i = 0; i < slot->count; i++)
		done &= is_done(slot->functions[i]);
	return done;
}

static unsigned number_of(const struct machine_devices *devices, const struct machine_slot *slot)
{
	return slot - devices->slots;
}

/* Out of the guest. */

static void take_out(struct machine_devices *devices, struct machine_slot *slot)
{
	devices->hold(devices->opaque, true);
	for (unsigned i = 0; i < slot->count; i++) {
		struct passthrough *passthrough = &slot->functions[i]->passthrough;

		if (!slot->functions[i]->attached)
			continue;
		passthrough_unwatch(passthrough, devices->loop);
		pci_bus_remove(&passthrough->pci);
	}
	devices->hold(devices->opaque, false);
	devices->eject(devices->opaque, number_of(devices, slot), false);
	slot->state = SLOT_CLOSING;
	for (unsigned i = 0; i < slot->count; i++)
		start_thread(slot->functions[i], close_device);
}

static void pull(struct machine_devices *devices, struct machine_slot *slot)
{
	take_out(devices, slot);
	if (!slot->port)
		return;
	pci_port_unplug(slot->port);
	slot->due = clock_ms() + REST_MS;
}

static void forget(struct machine_devices *devices, struct machine_slot *slot)
{
	unsigned count = slot->count;

	slot->state = SLOT_EMPTY;
	slot->count = 0;
	slot->announced = 0;
	for (unsigned i = 0; i < count; i++) {
		unsigned number = slot->functions[i]->number;

		free(slot->functions[i]);
		devices->table[number] = NULL;
		devices->closed(devices->opaque, number);
	}
}

/* Into the guest. */

/* Most devices have their ports in memory, too; one that has not is of no use without them. */
static bool needs_io(const struct machine_device *device)
{
	bool io = false;

	for (unsigned i = 0; i < PCI_RANGES; i++) {
		enum pci_bar_kind kind = device->place.bars[i].kind;

		if (kind == PCI_BAR_MEM32 || kind == PCI_BAR_MEM64)
			return false;
		io |= kind == PCI_BAR_IO;
	}
	return io;
}

static int check_io(const struct machine_slot *slot, struct error *err)
{
	for (unsigned i = 0; i < slot->count && !slot->port->bridge.secondary.windows.io.size;
		i++) {
		if (!needs_io(slot->functions[i]))
			continue;
		error_set(err, -ENOSPC, slot->functions[i]->passthrough.vfio.name,
			"its BARs are I/O ports alone, and the empty port has none for it");
		error_hint(err, "give it to the machine at the start");
		break;
	}
	return err->code;
}

/* The guest puts the BARs into the port's windows, whose sizes are powers of two, as those of BARs are. */
static int check_windows(const struct machine_slot *slot, struct error *err)
{
	const struct pci_windows *windows = &slot->port->bridge.secondary.windows;
	uint64_t wanted[2] = { 0 }, there[2] = { windows->mem32.size, windows->mem64.size };
	char text[2][24];

	for (unsigned i = 0; i < slot->count * PCI_RANGES; i++) {
		const struct pci_bar *bar =
			&slot->functions[i / PCI_RANGES]->place.bars[i % PCI_RANGES];

		if (bar->kind == PCI_BAR_MEM32 || bar->kind == PCI_BAR_MEM64)
			wanted[bar->kind == PCI_BAR_MEM64 && bar->prefetchable] += bar->size;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (wanted[i] <= there[i])
			continue;
		error_set(err, -ENOSPC, slot->functions[0]->passthrough.vfio.name,
			"its BARs need %s of %s addresses, and the empty port has %s",
			size_format(wanted[i], text[0]), i ? "64-bit" : "32-bit",
			size_format(there[i], text[1]));
		error_hint(err, "give it to the machine at the start, or have fewer --ports");
	}
	return err->code;
}

/* Where function 0 has not come along the first takes its place: a guest that finds none there looks no further. */
static uint8_t function_in_guest(const struct machine_slot *slot, uint8_t function)
{
	uint8_t first = function;

	for (unsigned i = 0; i < slot->count; i++)
		first = min_u64(first, slot->functions[i]->source.bdf.function);
	return function == first ? 0 : function;
}

static int put_function(struct machine_device *device, struct error *err)
{
	struct topology_device *place = &device->place;

	place->multifunction = device->slot->count > 1;
	place->devfn = function_in_guest(device->slot, device->source.bdf.function);
	return devices_put(device, place, err);
}

/* What can take its time, and what can fail. */
static int make_ready(struct machine_devices *devices, struct machine_slot *slot, struct error *err)
{
	if (!slot->wanted)
		error_set(err, -ETIMEDOUT, slot->functions[0]->passthrough.vfio.name,
			"other functions of its slot have not come with it");
	for (unsigned i = 0; i < slot->count && !err->code; i++)
		*err = slot->functions[i]->err;
	if (!err->code && check_io(slot, err) == 0)
		check_windows(slot, err);
	if (!err->code)
		devices->reach(devices->opaque, err);
	return err->code;
}

static int put_all(struct machine_devices *devices, struct machine_slot *slot, struct error *err)
{
	const struct pci_link *link = NULL;

	devices->hold(devices->opaque, true);
	for (unsigned i = 0; i < slot->count && !err->code; i++) {
		put_function(slot->functions[i], err);
		if (slot->functions[i]->place.devfn == 0)
			link = &slot->functions[i]->place.link;
	}
	devices->hold(devices->opaque, false);
	if (!err->code)
		pci_port_plug(slot->port, link);
	return err->code;
}

/* The first two devices of a machine reach each other from here on. */
static void reach_all(struct machine_devices *devices)
{
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++) {
		struct machine_device *device = devices->table[i];

		if (device &&
			(device->slot->state == SLOT_PLUGGED || device->slot->state == SLOT_ASKED))
			passthrough_reach(&device->passthrough);
	}
}

/*
 * A guest waits for the link before it asks what there is: 120 ms in Linux. Meanwhile the device is opened, for which the
 * kernel resets it (100 ms).
 */
static void announce(struct machine_slot *slot)
{
	if (slot->due || slot->announced)
		return;
	slot->announced = clock_ms();
	pci_port_announce(slot->port);
}

/* The guest may still be looking for it, or rest since it has given up. */
static void withdraw(struct machine_slot *slot)
{
	if (!slot->announced)
		return;
	slot->announced = 0;
	pci_port_unplug(slot->port);
	slot->due = clock_ms() + AWAIT_MS + REST_MS;
}

/* Then it comes as one that has not been announced. */
static bool is_too_late(const struct machine_slot *slot)
{
	return slot->announced && clock_ms() - slot->announced > AWAIT_MS;
}

static void plug(struct machine_devices *devices, struct machine_slot *slot)
{
	struct error err = { 0 };

	make_ready(devices, slot, &err);
	if (!err.code && is_too_late(slot)) {
		withdraw(slot);
		return;
	}
	if (!err.code)
		put_all(devices, slot, &err);
	for (unsigned i = 0; i < slot->count; i++)
		devices->plugged(devices->opaque, slot->functions[i]->request, &err);
	if (err.code) {
		take_out(devices, slot);
		withdraw(slot);
	} else {
		slot->state = SLOT_PLUGGED;
	}
	reach_all(devices);
}

/* The loop's part. */

static bool waits_for_more(const struct machine_slot *slot)
{
	return slot->state == SLOT_OPENING && slot->count < slot->wanted;
}

static bool has_let_go(const struct machine_devices *devices, const struct machine_slot *slot)
{
	uint32_t ejected = __atomic_load_n(&devices->ejected, __ATOMIC_ACQUIRE);

	return ejected >> number_of(devices, slot) & 1 || !pci_port_is_powered(slot->port);
}

static void look_at(struct machine_devices *devices, struct machine_slot *slot)
{
	if (slot->state == SLOT_OPENING && !slot->due && !waits_for_more(slot) && all_done(slot))
		plug(devices, slot);
	else if (slot->state == SLOT_OPENING)
		announce(slot);
	if (slot->state == SLOT_ASKED && has_let_go(devices, slot))
		pull(devices, slot);
	if (slot->state == SLOT_CLOSING && all_done(slot))
		forget(devices, slot);
}

static void on_news(void *opaque, uint32_t events)
{
	struct machine_devices *devices = opaque;
	eventfd_t count;

	(void)events;
	eventfd_read(devices->news, &count);
	for (unsigned i = 0; i < TOPOLOGY_SLOTS; i++)
		look_at(devices, &devices->slots[i]);
}

/* On a vCPU's thread: the guest lets go of what it was asked for, if it was. */
static void on_power(void *opaque, struct pci_port *port, bool on)
{
	struct machine_devices *devices = opaque;

	(void)port;
	if (!on)
		eventfd_write(devices->news, 1);
}

void devices_ejected(struct machine_devices *devices, uint32_t slots)
{
	__atomic_fetch_or(&devices->ejected, slots, __ATOMIC_RELEASE);
	eventfd_write(devices->news, 1);
}

int devices_plug_init(struct machine_devices *devices, struct error *err)
{
	int code;

	devices->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (devices->news < 0)
		return error_sys(err, -errno, NULL, "cannot watch for devices to come");
	code = loop_add(devices->loop, devices->news, EPOLLIN, on_news, devices);
	if (code)
		return error_sys(err, code, NULL, "cannot watch for devices to come");
	for (unsigned i = 0; i < TOPOLOGY_SLOTS; i++) {
		struct pci_port *port = devices->slots[i].port;

		if (!port)
			continue;
		port->power = on_power;
		port->opaque = devices;
	}
	return 0;
}

void devices_plug_end(struct machine_devices *devices)
{
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++)
		if (devices->table[i] && devices->table[i]->has_thread)
			pthread_join(devices->table[i]->thread, NULL);
	/* Those that were closing are closed. */
	for (unsigned i = 0; i < TOPOLOGY_SLOTS; i++)
		if (devices->slots[i].state == SLOT_CLOSING)
			forget(devices, &devices->slots[i]);
	if (devices->news >= 0)
		close(devices->news);
}

/* Where other functions of its slot are on their way, else the first empty port; NULL. */
static struct machine_slot *choose_slot(struct machine_devices *devices, const struct bdf *bdf)
{
	struct machine_slot *slots = devices->slots;

	for (unsigned i = 0; i < TOPOLOGY_SLOTS; i++)
		if (waits_for_more(&slots[i]) &&
			bdf_same_slot(&slots[i].functions[0]->source.bdf, bdf))
			return &slots[i];
	for (unsigned i = 0; i < TOPOLOGY_SLOTS; i++)
		if (slots[i].port && slots[i].state == SLOT_EMPTY)
			return &slots[i];
	return NULL;
}

static int check_plug(const struct machine_devices *devices, unsigned number, const char *name,
	const struct machine_slot *slot, struct error *err)
{
	if (number >= MACHINE_DEVICES_MAX || devices->table[number])
		return error_set(err, -EINVAL, name, "the machine has no room for one more device");
	if (!devices->iommu)
		return error_set(
			err, -EOPNOTSUPP, name, "the machine was started without access to VFIO");
	if (slot)
		return 0;
	error_set(err, -ENOSPC, name, "the guest has no empty PCI port");
	error_hint(err, "detach another device, or start the machine with more ports: --ports N");
	return err->code;
}

int devices_plug(struct machine_devices *devices, unsigned number, const struct vfio_source *source,
	unsigned functions, uint32_t request, struct error *err)
{
	struct machine_slot *slot = choose_slot(devices, &source->bdf);
	struct machine_device *device = NULL;
	char name[BDF_TEXT];

	bdf_format(&source->bdf, name);
	if (check_plug(devices, number, name, slot, err) == 0) {
		device = calloc(1, sizeof(*device));
		if (!device)
			error_sys(err, -ENOMEM, name, "cannot open the device");
	}
	if (err->code) {
		close(source->fd);
		return err->code;
	}
	*device = (struct machine_device){
		.devices = devices,
		.number = number,
		.source = *source,
		.slot = slot,
		.request = request,
		.passthrough = { .vfio = { .fd = -1 } },
	};
	devices->table[number] = device;
	if (slot->state == SLOT_EMPTY) {
		slot->wanted = functions;
		slot->expires = clock_ms() + COME_MS;
	}
	slot->state = SLOT_OPENING;
	slot->functions[slot->count++] = device;
	start_thread(device, open_device);
	announce(slot);
	return 0;
}

static void ask_guest(struct machine_devices *devices, struct machine_slot *slot)
{
	unsigned number = number_of(devices, slot);

	slot->state = SLOT_ASKED;
	slot->due = clock_ms() + EJECT_MS;
	__atomic_fetch_and(&devices->ejected, ~(1U << number), __ATOMIC_RELAXED);
	devices->eject(devices->opaque, number, true);
}

/* 0: it does not wait for the clock. */
static int64_t due_of(const struct machine_slot *slot)
{
	if (waits_for_more(slot))
		return slot->expires;
	return slot->state == SLOT_ASKED || slot->state == SLOT_OPENING ? slot->due : 0;
}

int devices_patience(const struct machine_devices *devices)
{
	int64_t first = INT64_MAX;

	for (unsigned i = 0; i < TOPOLOGY_SLOTS; i++) {
		int64_t due = due_of(&devices->slots[i]);

		if (due && due < first)
			first = due;
	}
	if (first == INT64_MAX)
		return -1;
	first -= clock_ms();
	return first > 0 ? first : 0;
}

void devices_keep_time(struct machine_devices *devices)
{
	for (unsigned i = 0; i < TOPOLOGY_SLOTS; i++) {
		struct machine_slot *slot = &devices->slots[i];
		int64_t due = due_of(slot);

		if (!due || due > clock_ms())
			continue;
		if (waits_for_more(slot))
			slot->wanted = 0;
		else
			slot->due = 0;
		if (slot->state == SLOT_ASKED)
			pci_port_press_button(slot->port);
		else
			look_at(devices, slot);
	}
}

int devices_unplug(struct machine_devices *devices, unsigned number, bool force, struct error *err)
{
	struct machine_device *device =
		number < MACHINE_DEVICES_MAX ? devices->table[number] : NULL;
	struct machine_slot *slot = device ? device->slot : NULL;
	const char *name = device ? device->passthrough.vfio.name : NULL;

	if (!slot || slot->state == SLOT_OPENING || slot->state == SLOT_CLOSING)
		return error_set(err, -ENODEV, name, "the guest does not have this device now");
	if (force) {
		pull(devices, slot);
		return 0;
	}
	if (!slot->port) {
		error_set(err, -EOPNOTSUPP, name,
			"a conventional device on the root bus cannot be taken out by asking the guest");
		error_hint(err, "--force pulls it from the guest without asking");
		return err->code;
	}
	if (slot->state == SLOT_ASKED)
		return error_set(err, -EALREADY, name, "the guest has been asked already");
	/* The guest may have switched it off by itself. */
	if (!pci_port_is_powered(slot->port))
		pull(devices, slot);
	else
		ask_guest(devices, slot);
	return 0;
}
