/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/cpus.h"
#include "machine/boot/files.h"
#include "machine/console.h"
#include "machine/display_mode.h"
#include "machine/memory.h"
#include "machine/platform/smbios.h"
#include "machine/platform/tpm.h"
#include "passthrough/rom.h"
#include "vfio/iommu.h"
#include "virtio/virtio.h"

#include <stdbool.h>

/*
 * A VM from its configuration to its end. Everything from outside is an open descriptor by the time
 * that it gets here: the process that runs a machine opens no path and has no privileges.
 */

#define MACHINE_DEVICES_MAX 64
#define MACHINE_PORTS_MAX   31 /* as many as the root bus has slots */
#define MACHINE_VIRTIO_MAX  24

/* What is done about a device that reports an error, or that the host wants back. */
enum machine_action {
	MACHINE_REPORT, /* nothing, but that it is told */
	MACHINE_DETACH, /* it is pulled from the guest */
	MACHINE_STOP,   /* the machine ends */
	MACHINE_ASK,    /* the guest is asked to let go of it */
	MACHINE_ACTIONS,
};

struct machine_config {
	const char *name;
	const struct smbios_config *smbios;
	struct boot_files boot;
	uint64_t memory; /* bytes, a multiple of 4 KiB; with hugetlb of a page */
	int memory_fd;   /* a file of that size, for guest RAM; the machine closes it */
	enum memory_kind memory_kind;
	uint64_t memory_page; /* MEMORY_PAGE, or with hugetlb 1 GiB */
	bool prealloc;        /* the guest does not run before all RAM is present */
	struct kvm_cpus cpus;
	bool rtc_local; /* the RTC is in the host's time zone, not in UTC */
	struct console_config console;
	struct tpm_config tpm;
	struct display_config display;
	int kvm_fd;
	enum vfio_iommu_kind iommu;
	int iommu_fd;                                     /* -1: no device, now or later */
	struct vfio_source devices[MACHINE_DEVICES_MAX];  /* theirs are closed with the devices */
	struct passthrough_rom roms[MACHINE_DEVICES_MAX]; /* theirs; bytes are the caller's */
	bool plain[MACHINE_DEVICES_MAX];                  /* of them: no quirks */
	unsigned device_count;
	struct virtio_config virtio[MACHINE_VIRTIO_MAX];
	unsigned virtio_count;
	unsigned ports;      /* empty root ports, for devices to come */
	bool hold_at_reboot; /* hold the vCPUs, and tell the broker, instead of ending */
	bool hold_at_crash;
	enum machine_action on_device_error; /* one of the first three */
	int control_fd; /* to the broker: see message.h; its end of file ends the machine */
};

/* How a machine ended; these are also the process's exit codes, so failure is 1. */
enum machine_end {
	MACHINE_OFF = 0,
	MACHINE_FAILED = 1,
	MACHINE_RESET = 10,        /* the guest asked for a reboot */
	MACHINE_QUIT = 11,         /* the user left the console, or the broker is gone */
	MACHINE_PANICKED = 12,     /* the guest's kernel says so */
	MACHINE_TRIPLE_FAULT = 13, /* a vCPU cannot go on, which resets a PC */
};

/* To a 'cont' after MACHINE_RESET or MACHINE_TRIPLE_FAULT, in QEMU's words. */
#define MACHINE_MUST_RESET      "Resetting the Virtual Machine is required"
#define MACHINE_MUST_RESET_HINT "'system_reset' does it"

/* Enter the sandbox, assemble the VM, run it to its end. On MACHINE_FAILED err says why. */
enum machine_end machine_run(const struct machine_config *config, struct error *err);
