/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/backend.h"
#include "broker/broker.h"

/*
 * A card on a network of its own, by passt: for each life of the machine a process of no privileges, which answers DHCP
 * and opens on the host what sockets the guest's connections need.
 */

struct broker_passt {
	const struct broker_net *net;
	struct broker_backend backend;
	int machine_fd; /* a socket to it, for the machine's process; -1 */
};

#define BROKER_PASST_NONE                                         \
	{                                                         \
		.backend = BROKER_BACKEND_NONE, .machine_fd = -1, \
	}

/* Find a passt that can serve a card. passt starts out as BROKER_PASST_NONE. */
int broker_passt_open(struct broker_passt *passt, const char *label, const struct broker_net *net,
	struct error *err);
/* Has ended before. */
void broker_passt_close(struct broker_passt *passt);

/* For the next life of the machine, until it has its ports and answers. Nothing where it runs. */
int broker_passt_start(struct broker_passt *passt, struct error *err);
/* The machine's process has its descriptor. */
void broker_passt_handed_over(struct broker_passt *passt, struct loop *loop);
/* That process has ended. */
void broker_passt_end(struct broker_passt *passt);
