/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "fuzz.h"

/*
 * The kernel's KVM and VFIO as the code under test meets them, with what must be true of each call.
 * A fuzzer that uses it is linked with --wrap for ioctl, mmap, munmap and eventfd.
 */

struct kernel {
	struct fuzz_input
		*answers; /* what VFIO tells of a device and of the IOMMU is read from here */
	unsigned fail_in; /* the call that fails, counted from 1; 0: none */
	int fail_code;
	unsigned vectors; /* that the host has left for MSI or MSI-X */
	/* In place of KVM_RUN. */
	int (*run)(int fd);
	/* Counted for the goals. */
	unsigned failed, slots, irqfds, enabled, chains;
};

extern struct kernel kernel;

/* Starts an input. */
void kernel_reset(struct fuzz_input *answers);

/* A device's descriptor, as a group gives it or as its own node is. */
int kernel_open_device(void);

/* Whether an interrupt that arrives at the eventfd reaches the guest, and by which message. */
bool kernel_delivers(int eventfd, uint64_t *address, uint32_t *data);

/* The level of a line of the interrupt controllers. */
bool kernel_line(unsigned gsi);

/* What must be true when all devices are given back: no irqfd, no vector, no mapping. */
void kernel_check_idle(void);
