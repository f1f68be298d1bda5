/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/bdf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What broker and machine say to each other: a struct message a datagram, over a pair of sockets of type
 * SOCK_SEQPACKET, with descriptors where the type has some. Neither side trusts that the other keeps to
 * this: what is not a message as described here is told apart, and its descriptors are closed.
 */

#define MESSAGE_FDS_MAX 2

enum message_type {
	/* To the machine; the end of file tells it to end. */
	MESSAGE_PRESS_BUTTON = 1,
	MESSAGE_RESET,
	/* Requests, each answered by MESSAGE_REPLY. */
	MESSAGE_STOP,       /* hold the vCPUs */
	MESSAGE_CONT,       /* let them go on */
	MESSAGE_QUERY_CPUS, /* a MESSAGE_CPU for each, then the reply */
	MESSAGE_QUERY_PCI,  /* the same with MESSAGE_FUNCTION */
	MESSAGE_ATTACH, /* attach, and a device's descriptor; the reply comes when the guest sees it */
	MESSAGE_DETACH, /* detach; replied to when the guest is asked, MESSAGE_CLOSED is the end of it */
	MESSAGE_TAKEN, /* device: it was taken from vfio-pci while it was opened; without a reply */
	MESSAGE_RESIZED, /* resized: that is the size of a disk now; without a reply */
	/* To the broker. */
	MESSAGE_READY = 64, /* the console is read, and the guest starts */
	MESSAGE_ENDING,     /* whoever may have wanted it */
	MESSAGE_HELD, /* end: for this the vCPUs are held, where the machine would have ended */
	MESSAGE_CRASH_LOADED, /* the guest's kernel has panicked, and another one in it takes over */
	MESSAGE_CLOSED, /* device: this one is closed; after a failed MESSAGE_ATTACH as well */
	MESSAGE_REPLY,  /* error: that of the request, or none */
	MESSAGE_CPU,
	MESSAGE_FUNCTION,
	MESSAGE_WANTED, /* event: the host wants this device back; it is closed some time later */
	MESSAGE_FAILED, /* event: this device reports an error */
};

struct message_cpu {
	uint32_t index;
	int32_t thread; /* its id */
};

struct message_attach {
	uint32_t device;    /* the number that it gets */
	uint32_t functions; /* of its slot on the host, each with a message, appear together */
	struct bdf bdf;
};

struct message_detach {
	uint32_t device; /* with it go the other functions of its slot */
	uint32_t force;  /* do not ask the guest */
};

struct message_resized {
	uint32_t number; /* among the devices that back ends serve */
	uint64_t size;   /* bytes */
};

/* Both included; base > limit: none. */
struct message_range {
	uint64_t base, limit;
};

/* A function of the guest's PCI, as the guest sees it now. */
struct message_function {
	uint8_t bus, devfn;
	uint8_t interrupt_pin, interrupt_line;
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint16_t class;
	int16_t number; /* of the device that is passed there, as in message.device; -1: none is */
	struct {
		uint64_t address, size; /* size 0: none */
		uint8_t is_io, is_64, prefetchable;
	} bars[7]; /* the last is the ROM */
	struct {
		uint8_t is, secondary, subordinate;
		struct message_range io, memory, prefetchable;
	} bridge;
};

struct message_event {
	uint32_t device;
	uint32_t action; /* what is done now: an enum machine_action */
};

struct message {
	uint32_t type;
	uint32_t id; /* of a request, and of what answers it; 0 otherwise */
	union {
		uint32_t device;    /* its number, by the broker's count */
		uint32_t end;       /* of enum machine_end */
		struct error error; /* texts that end within their arrays, whoever sent them */
		struct message_cpu cpu;
		struct message_function function;
		struct message_attach attach;
		struct message_detach detach;
		struct message_resized resized;
		struct message_event event;
	};
	int fds[MESSAGE_FDS_MAX]; /* as many as its type has; the receiver owns them */
};

/* 0 or a negative errno; -EAGAIN where the other end does not read and the socket does not block. */
int message_send(int socket, const struct message *message);

/*
 * 1: a message; 0: the other end is closed. -EBADMSG: what came is no message, the next may be one; or
 * another errno.
 */
int message_receive(int socket, struct message *message);
