/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * Show a machine's display to VNC's clients, by libvncserver, and take its picture for the broker. One thread; what a
 * client does not read or send in time costs the others at most some seconds, and then that client its connection.
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
