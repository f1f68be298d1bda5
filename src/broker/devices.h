/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/bdf.h"
#include "machine/machine.h"
#include "machine/message.h"

/*
 * The devices that a machine has, from its start on or by device_add: taken from their drivers, handed over,
 * given back when the machine says that they are closed. A device's number is its place in the table. What changes
 * drivers is a job (broker/job.h).
 */

struct broker;
struct broker_vfio;

#define BROKER_ID 64

enum broker_device_state {
	BROKER_DEVICE_NONE,
	BROKER_DEVICE_BINDING, /* on its way to vfio-pci, or waits for its turn */
	BROKER_DEVICE_COMING,  /* the machine has not said yet that the guest sees it */
	BROKER_DEVICE_THERE,
	BROKER_DEVICE_LEAVING,   /* the machine has been asked to close it, or could not take it */
	BROKER_DEVICE_RETURNING, /* on its way to the host, or waits for its turn */
};

struct broker_device {
	enum broker_device_state state;
	struct bdf bdf;
	char id[BROKER_ID];
	struct passthrough_rom rom;
	bool plain;       /* no quirks */
	uint32_t request; /* while it comes */
	bool force;       /* take it although the host uses it */
	uint64_t told[2]; /* when clients have been told that it is wanted, of an error; 0: never */
};

/* The machine has it, or is about to: its number is the machine's, too. */
bool broker_device_is_in(const struct broker_device *device);

/* Bind those of the configuration. */
int broker_devices_take(struct broker *broker, struct error *err);

/* Before a life of the machine: numbers from 0 on, and what was on its way in is there. */
unsigned broker_devices_begin(
	struct broker *broker, struct bdf devices[static MACHINE_DEVICES_MAX]);

/*
 * Bind what an address names: one device, or all functions of one. It is handed over when it is bound; where it is not,
 * broker_fail_attach() is called.
 */
int broker_devices_add(struct broker *broker, uint32_t request, const char *host, const char *id,
	bool force, struct error *err);

/* By its id or its address on the host; -1. */
int broker_devices_find(const struct broker *broker, const char *id);

/*
 * The guest sees its devices. Those that somebody unbinds while they are opened the machine is told of: it hears of
 * that from the kernel only ten seconds later.
 */
void broker_devices_seen(struct broker *broker);

/* The machine has answered an attach; with an error they are closed next. */
void broker_devices_take_reply(struct broker *broker, uint32_t request, bool failed);

/* It has been asked to let go of this one, and of the other functions of its slot. */
void broker_devices_leave(struct broker *broker, unsigned number);

/* The machine tells that the host wants one back, or that one reports an error: clients are told. */
void broker_devices_take_event(struct broker *broker, const struct message *message);

/* A life of the machine has ended: those that were leaving, or that the host has taken, do not see the next one. */
void broker_devices_end(struct broker *broker);

/* There is no next one: give all back, with what was bound for them. The first failure is told, and prevents nothing. */
int broker_devices_release(struct broker *broker, struct error *err);

/* The machine has closed it: give it back, where it was to go. */
void broker_devices_closed(struct broker *broker, unsigned number);

/* Whether a device of this request is still on its way in or out. */
bool broker_devices_pending(const struct broker *broker, uint32_t request);
