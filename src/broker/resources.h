/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "broker/firmware.h"
#include "broker/tpm.h"
#include "host/system/host.h"

/*
 * What a machine needs of the host, opened or checked before any device is touched, so that most
 * mistakes cost nothing.
 */

struct broker_files {
	int kvm;
	int kernel; /* -1: none, as firmware runs first */
	int initrd; /* -1: none */
	struct broker_firmware firmware;
	struct broker_tpm tpm;
};

#define BROKER_FILES_NONE                                                              \
	{                                                                              \
		.kvm = -1, .kernel = -1, .initrd = -1,                                 \
		.firmware = { .code_fd = -1, .nvram_fd = -1 }, .tpm = BROKER_TPM_NONE, \
	}

/* files starts out as BROKER_FILES_NONE. */
int broker_files_open(
	struct broker_files *files, const struct broker_config *config, struct error *err);
void broker_files_close(struct broker_files *files);

/*
 * There is as much memory as the guest is to have, and it may be pinned where devices need that. Warns where running
 * out of it would leave devices at vfio-pci.
 */
int broker_check_memory(
	const struct broker_config *config, const struct host *host, struct error *err);
