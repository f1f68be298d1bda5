/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * Show a machine's display to VNC's clients, by libvncserver, and take its picture for the broker. One thread: a client that
 * stops in the midst of what it sends or is sent has the others wait for ten seconds, and then loses its connection;
 * one that sends a byte now and then has them wait for longer, until the broker, which wants a picture, ends all of it.
 */

struct vnc_config {
	const char *name; /* of the machine, as clients see it */
	int listen_fd;    /* a socket that listens, and does not block */
	int event_fd;     /* to the machine: display_mode.h. Does not block */
	int control_fd;   /* to the broker: requests; its end is ours */
	const void *memory;
};

/* Until the broker is gone: 0; or a negative errno. */
int vnc_serve(const struct vnc_config *config);
