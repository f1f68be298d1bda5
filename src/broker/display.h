/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/backend.h"
#include "broker/broker.h"
#include "broker/firmware.h"
#include "control/socket.h"
#include "host/system/host.h"

/*
 * The process that shows the machine's display (src/display): confined, and there from before the first life of the machine
 * to the end of the last, so that a reboot cuts nobody off. One that dies is started anew: what it needs is all here.
 */

#define BROKER_PICTURES_MAX 8

struct broker_picture {
	uint32_t id; /* 0: none */
	int bytes;   /* a memfd for them, which the process has, too */
	int file;    /* which becomes path when all is there; until then it has a longer name */
	char *path, *file_path;
};

struct broker_display {
	const char *name; /* of the machine */
	struct broker_backend backend;
	char address[PATH_MAX + 8];   /* where it listens, for messages */
	struct control_socket socket; /* of a path; -1 */
	int port_fd;                  /* which listens at a port; -1 */
	int shown_fd;                 /* the card's memory, which it can only read */
	int event_fd;                 /* its end of the socket to the machine */
	int control;                  /* to it; -1: it does not run, or is about to end */
	unsigned starts;              /* within an hour, */
	uint64_t starts_since;        /* which began then */
	struct broker_picture pictures[BROKER_PICTURES_MAX]; /* that it has been asked for */
	int patience; /* a timer: until when one has to be there; -1 */
	struct loop *loop;
	/* A picture that has been asked for is there, or not. */
	void (*taken)(void *opaque, uint32_t id, int code);
	void *opaque;
	struct display_config machine; /* for its process; memory_fd -1: there is no display */
};

#define BROKER_DISPLAY_NONE                                                            \
	{                                                                              \
		.backend = BROKER_BACKEND_NONE, .socket = { .fd = -1 }, .port_fd = -1, \
		.shown_fd = -1, .event_fd = -1, .control = -1, .patience = -1,         \
		.machine = { -1, -1, NULL },                                           \
	}

/* What can be had without a name; nothing where the machine has no display. */
int broker_display_open(struct broker_display *display, const struct broker_config *config,
	const struct broker_firmware *firmware, struct error *err);
/* Listen, and start it. The machine has its name; loop, taken and opaque are filled in. */
int broker_display_start(struct broker_display *display, const struct broker_config *config,
	const struct host *host, struct error *err);
void broker_display_close(struct broker_display *display);

/* Ask for a picture in a file, which is made or replaced when it is there; taken() tells the end of it. */
int broker_display_take(
	struct broker_display *display, uint32_t id, const char *path, struct error *err);
