/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "host/system/host.h"

/*
 * What a machine needs of the host, opened or checked before any device is touched, so that most
 * mistakes cost nothing.
 */

struct broker_files {
	int kvm;
	int kernel;
	int initrd; /* -1: none */
};

/* files starts out with all descriptors -1. */
int broker_files_open(
	struct broker_files *files, const struct broker_config *config, struct error *err);
void broker_files_close(struct broker_files *files);

/*
 * There is as much memory as the guest is to have, and it may be pinned where devices need that. Warns where running
 * out of it would leave devices at vfio-pci.
 */
int broker_check_memory(
	const struct broker_config *config, const struct host *host, struct error *err);
