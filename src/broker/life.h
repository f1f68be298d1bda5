/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/loop.h"
#include "broker/commands.h"
#include "broker/devices.h"
#include "broker/display.h"
#include "broker/job.h"
#include "broker/resources.h"
#include "broker/serial.h"
#include "broker/virtio.h"
#include "host/system/cgroup.h"
#include "host/system/host.h"

#include <signal.h>
#include <stdbool.h>

struct broker {
	const struct broker_config *config;
	struct host host;
	struct broker_files files;
	struct broker_virtio virtio;
	struct broker_display display;
	struct broker_console console;
	struct loop *loop;
	struct monitor *monitor;
	struct broker_request requests[BROKER_REQUESTS_MAX];
	struct passthrough_rom roms[MACHINE_DEVICES_MAX]; /* of the configuration's devices */
	struct broker_device devices[MACHINE_DEVICES_MAX];
	struct broker_job job;
	enum vfio_iommu_kind iommu; /* of this life of the machine */
	int signal_fd;              /* where signals arrive instead of at a handler */
	int notify_fd;              /* who has started us is told here; -1: nobody asks */
	int stopped_by;             /* the signal that asked for the end; 0 */
	bool quit;                  /* a client of the monitor has asked for it */
	bool reset_by_host;         /* the same for this life's reset */
	bool over;                  /* there will be no further life */
	bool paused;                /* the vCPUs are held */
	enum machine_end held_for;  /* for this the machine holds them itself; else MACHINE_OFF */
	struct host_cgroup_counts memory_before; /* at this life's begin */
	struct watch *watch; /* of the machine's process; NULL while there is none */
};

/* What has become of one process that ran the machine. */
struct broker_life {
	pid_t pid;
	int status;      /* as wait(2) tells it */
	uint64_t ran_ms; /* from the guest's start on; 0: it did not start */
};

/*
 * One life of the machine: its process from the start to the end, which a signal or the guest brings
 * about. A machine that does not end in time is killed. -ETIMEDOUT: not even then does it end, as the
 * kernel waits for a device; the process is left behind.
 */
int broker_life(struct broker *broker, struct broker_life *life, struct error *err);

/* Let the machine end, or not start again. */
void broker_quit(struct broker *broker);
bool broker_is_to_end(const struct broker *broker);

/* What the guest has done, for messages; NULL where this is no crash. */
const char *broker_crash_text(uint32_t end);

/* The guest's state, in the words of QMP's RunState. */
const char *broker_life_state(const struct broker *broker);

/* There is a guest, held or not. */
bool broker_life_runs(const struct broker *broker);

/* 0; -ENOTCONN: no machine is there, or it is about to end; -EAGAIN: it reads nothing. */
int broker_life_send(struct broker *broker, const struct message *message);

/* The handler of signal_fd in the loop, whether or not there is a machine. */
void broker_on_signal(void *opaque, uint32_t events);
