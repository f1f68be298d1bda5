/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/machine.h"
#include "machine/pci.h"
#include "passthrough/passthrough.h"
#include "vfio/iommu.h"

/*
 * The devices that are passed through to one machine, by the broker's numbers: those that are there when
 * it starts, and (plug.c) those that come and go while the guest runs.
 *
 * A device is opened, and closed, in a thread of its own: the kernel resets it then, which takes 100 ms or,
 * where it does not come back, a minute. All else happens on the event loop's thread.
 */

struct machine_device {
	struct machine_devices *devices;
	unsigned number;
	struct vfio_source source;
	struct passthrough passthrough;
	bool attached;   /* passthrough is more than an open device */
	unsigned wishes; /* how often the host has said that it wants it back */
	struct machine_slot *slot;
	/* While the guest runs: */
	struct topology_device place;
	uint32_t request; /* to be answered when the device is plugged, or cannot be */
	pthread_t thread; /* opens or closes it */
	bool has_thread, done;
	struct error err; /* of opening */
};

enum machine_slot_state {
	SLOT_EMPTY,
	SLOT_OPENING, /* functions are being opened, or are still to come */
	SLOT_PLUGGED,
	SLOT_ASKED,   /* the guest was asked to let go: to eject, then by the button */
	SLOT_CLOSING, /* the guest cannot reach the functions any more */
};

/* A slot of the guest's root bus with what is in it, or behind the port in it: up to eight functions. */
struct machine_slot {
	struct pci_port *port; /* NULL: functions are on the root bus itself */
	enum machine_slot_state state;
	struct machine_device *functions[8];
	unsigned count;
	unsigned
		wanted; /* functions that are to come together; 0: not all of them have come in time */
	int64_t due; /* ms: a guest that is asked gets the button, or what comes may appear; 0: done */
	int64_t expires; /* ms: by then those that are wanted have come */
	int64_t announced; /* ms: since then the port shows one that is being opened; 0: it does not */
};

struct machine_devices {
	const struct machine_config *config;
	struct vfio_iommu *iommu; /* NULL without devices, now and later */
	struct machine_device *table[MACHINE_DEVICES_MAX];
	/* Once they are attached. */
	struct machine_pci *pci;
	struct machine_slot slots[TOPOLOGY_SLOTS];
	struct loop *loop;
	int news;         /* eventfd: a thread is at its end, or a guest has let go of a slot; -1 */
	uint32_t ejected; /* a bit a slot that the guest has ejected; written by vCPUs' threads */
	/* May DMA begin? As passthrough.ready. */
	bool (*ready)(void *opaque);
	/* The host wants a device back, and what is done about it. Called by the event loop. */
	void (*wanted)(void *opaque, unsigned number, enum machine_action action);
	/* A device reports an error. With MACHINE_STOP failed() is next. Called by the event loop. */
	void (*faulty)(void *opaque, unsigned number, enum machine_action action);
	void (*failed)(void *opaque, const struct error *failure);
	/* A device is closed. At the machine's end called by a thread of its own. */
	void (*closed)(void *opaque, unsigned number);
	/*
	 * A device is there, be it the first: let those behind the IOMMU reach guest RAM. Called by the event
	 * loop, and again for each device that comes.
	 */
	int (*reach)(void *opaque, struct error *err);
	/* A request to plug has come to its end: err->code is 0, or why not; the device is closed then. */
	void (*plugged)(void *opaque, uint32_t request, const struct error *err);
	/* Keep the vCPUs from running, and from any access that they are in, or let them go on. */
	void (*hold)(void *opaque, bool held);
	/* Ask the guest's system to eject what is in a slot, or not any more. */
	void (*eject)(void *opaque, unsigned slot, bool wanted);
	void *opaque;
};

/* Open all devices at once; the IOMMU then tells where guest RAM may be. */
int devices_open(struct machine_devices *devices, const struct machine_config *config,
	struct kvm_vm *vm, struct error *err);

/* Is there a VGA card among them, under a BIOS that draws on it at LAYOUT_VGA? */
bool devices_have_vga(const struct machine_devices *devices);

/* What the opened devices are, for topology_plan(). */
int devices_describe(struct machine_devices *devices, struct topology *topology, struct error *err);

/* Put them where the topology says. Both it and the PCI tree outlive the devices. */
int devices_attach(struct machine_devices *devices, struct machine_pci *pci,
	const struct topology *topology, struct loop *loop, struct error *err);

/* The number of the device that is this one of the guest's; -1: none. */
int devices_number(const struct machine_devices *devices, const struct pci_device *device);

/* All at once, as opening. The guest does not run any more. */
void devices_close(struct machine_devices *devices);

/*
 * Put a device behind an empty port of the running guest. functions of its slot come together, each by a
 * call of its own, and appear when the last of them is open; where one does not come in time, none does.
 * Takes the source's descriptor. Fails at once (the descriptor is closed), or calls plugged() later.
 */
int devices_plug(struct machine_devices *devices, unsigned number, const struct vfio_source *source,
	unsigned functions, uint32_t request, struct error *err);

/*
 * Take a device out, with the other functions of its slot: ask the guest, or, by force, pull it from the
 * guest without a word. closed() tells the end of it.
 */
int devices_unplug(struct machine_devices *devices, unsigned number, bool force, struct error *err);

/* The host wants a device back, whose wish was not heard as it was being opened. */
void devices_taken(struct machine_devices *devices, unsigned number);

/* On a vCPU's thread: the guest has ejected what is in these slots, a bit each. */
void devices_ejected(struct machine_devices *devices, uint32_t slots);

/*
 * What the clock brings: a system that does not know how to eject is asked by the slot's button, what comes
 * to a slot that another has just left appears, and functions wait no more for others. How many ms from now that may be due, -1: no slot
 * waits for it; and do what is due.
 */
int devices_patience(const struct machine_devices *devices);
void devices_keep_time(struct machine_devices *devices);

/* Between the two files. */
int devices_describe_one(
	struct machine_device *device, struct topology_device *where, struct error *err);
int devices_put(
	struct machine_device *device, const struct topology_device *where, struct error *err);
void devices_close_one(struct machine_device *device);
int devices_plug_init(struct machine_devices *devices, struct error *err);
/* Waits for what is being opened or closed. */
void devices_plug_end(struct machine_devices *devices);
