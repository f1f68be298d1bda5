/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/backend.h"
#include "broker/broker.h"

/*
 * A directory of the host's that the guest mounts, by virtiofsd: for each life of the machine a process that sees nothing
 * but this directory, in namespaces of its own, which it makes itself, also without root.
 */

struct broker_share {
	const struct broker_share_config *config;
	int directory; /* what its path led to when the machine began; -1 */
	bool is_qemus; /* not the one in Rust, but that before it, which came with QEMU until 7.2 */
	bool squashes; /* it can make all of the guest's users one */
	struct broker_backend backend;
	int machine_fd; /* a socket to it, for the machine's process; -1 */
};

#define BROKER_SHARE_NONE                                                          \
	{                                                                          \
		.directory = -1, .backend = BROKER_BACKEND_NONE, .machine_fd = -1, \
	}

/* Of --share, to be read: a descriptor, or a negative errno with err filled in. */
int broker_share_open_directory(const char *path, struct error *err);

/* Find the directory, and a virtiofsd that can serve it. share starts out as BROKER_SHARE_NONE. */
int broker_share_open(struct broker_share *share, const char *label,
	const struct broker_share_config *config, struct error *err);
/* Has ended before. */
void broker_share_close(struct broker_share *share);

/* For the next life of the machine, until it answers. Nothing where it runs. */
int broker_share_start(struct broker_share *share, struct error *err);
/* The machine's process has its descriptor. */
void broker_share_handed_over(struct broker_share *share, struct loop *loop);
/* That process has ended. */
void broker_share_end(struct broker_share *share);
