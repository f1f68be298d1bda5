/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/backend.h"
#include "broker/image.h"
#include "broker/qmp.h"

/*
 * A disk: an image, which stays open from one life of the machine to the next, and for each life a
 * qemu-storage-daemon that serves it by vhost-user.
 */

struct broker_disk;

/* What has been asked of a disk that the guest has; done() is told how it went, once, be it that the daemon ends. */
struct broker_disk_order {
	uint32_t request; /* a client's, of the monitor */
	void (*done)(
		void *opaque, struct broker_disk *disk, uint32_t request, const struct error *why);
	void *opaque;
};

/* How the daemon has the kernel read and write, the slowest first. */
enum broker_disk_way {
	BROKER_DISK_THREADS, /* that wait, one for each request */
	BROKER_DISK_AIO,     /* io_submit(2) */
	BROKER_DISK_RING,    /* io_uring(7) */
};

struct broker_disk {
	const struct broker_disk_config *config;
	unsigned queues;
	struct broker_image image;
	enum broker_disk_way way;
	struct broker_backend backend;
	struct broker_qmp qmp;          /* the daemon's monitor */
	struct broker_disk_order order; /* that it carries out */
	uint64_t size, size_before;     /* as the guest sees it, and before that order */
	int machine_fd;                 /* a socket to it, for the machine's process; -1 */
};

#define BROKER_DISK_NONE                                                                  \
	{                                                                                 \
		.backend = BROKER_BACKEND_NONE, .qmp = BROKER_QMP_NONE, .machine_fd = -1, \
	}

/* Find the programs, open the image, see that it is one. disk starts out as BROKER_DISK_NONE. */
int broker_disk_open(struct broker_disk *disk, const char *label,
	const struct broker_disk_config *config, unsigned cpus, const struct host *host,
	struct error *err);
/* The same of a raw file that is open, and becomes the disk's: what the machine is given to read, without a name. */
int broker_disk_take(
	struct broker_disk *disk, const char *label, const char *what, int fd, struct error *err);
/* Has ended before. */
void broker_disk_close(struct broker_disk *disk);

/* For the next life of the machine, until it answers. Nothing where it runs. */
int broker_disk_start(struct broker_disk *disk, struct error *err);
/* The machine's process has its descriptor. */
void broker_disk_handed_over(struct broker_disk *disk, struct loop *loop);
/*
 * While it runs: more bytes for the guest, which the machine is yet to be told of. 0: order->done() will be called, not
 * before this returns. A daemon that has not answered in time may do it later.
 */
int broker_disk_resize(struct broker_disk *disk, uint64_t size,
	const struct broker_disk_order *order, struct loop *loop, struct error *err);
/* The same of a snapshot that is kept in the image: make it, or delete it. Of a disk alone, as a power cut would leave it. */
int broker_disk_snapshot(struct broker_disk *disk, const char *name, bool make,
	const struct broker_disk_order *order, struct loop *loop, struct error *err);
/* That process has ended. It writes out what it has not written yet, and broker_disk_end() waits for that. */
void broker_disk_ask_to_end(struct broker_disk *disk);
void broker_disk_end(struct broker_disk *disk);
