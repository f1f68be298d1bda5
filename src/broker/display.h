/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "broker/firmware.h"
#include "control/socket.h"
#include "host/system/host.h"

/*
 * The process that shows the machine's display (src/display): confined, and there from before the first life of the machine
 * to the end of the last, so that a reboot cuts nobody off. One that dies is started anew: what it needs is all here.
 */

#define BROKER_PICTURES_MAX 8

struct broker_display {
	const char *name; /* of the machine */
	char program[PATH_MAX];
	char address[PATH_MAX + 8];   /* where it listens, for messages */
	struct control_socket socket; /* of a path; -1 */
	int port_fd;                  /* which listens at a port; -1 */
	int shown_fd;                 /* the card's memory, which it can only read */
	int event_fd;                 /* its end of the socket to the machine */
	int control;                  /* to it; -1: it does not run */
	pid_t pid;
	unsigned starts;
	uint32_t pictures[BROKER_PICTURES_MAX]; /* that it has been asked for; 0: none */
	struct loop *loop;
	/* A picture that has been asked for is there, or not. */
	void (*taken)(void *opaque, uint32_t id, int code);
	void *opaque;
	struct display_config machine; /* for its process; memory_fd -1: there is no display */
};

#define BROKER_DISPLAY_NONE                                                            \
	{                                                                              \
		.socket = { .fd = -1 }, .port_fd = -1, .shown_fd = -1, .event_fd = -1, \
		.control = -1, .machine = { -1, -1, NULL },                            \
	}

/* What can be had without a name; nothing where the machine has no display. */
int broker_display_open(struct broker_display *display, const struct broker_config *config,
	const struct broker_firmware *firmware, struct error *err);
/* Listen, and start it. The machine has its name; loop, taken and opaque are filled in. */
int broker_display_start(struct broker_display *display, const struct broker_config *config,
	const struct host *host, struct error *err);
void broker_display_close(struct broker_display *display);

/* Ask for a picture in a file, which is made or replaced; taken() tells the end of it. */
int broker_display_take(
	struct broker_display *display, uint32_t id, const char *path, struct error *err);
