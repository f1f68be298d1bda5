/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "host/system/host.h"

/*
 * The guest's CPUs on this host, before any device is touched: KVM takes so many and can show them, and
 * those of the host that they are pinned to are there and may be had.
 */
int broker_cpus_check(
	const struct broker_config *config, const struct host *host, int kvm_fd, struct error *err);

/*
 * Leave the CPUs that vCPUs are pinned to to them, as far as there are others: this process, and those
 * that it makes, with all of their threads. A vCPU's thread goes to its own.
 */
void broker_cpus_leave(const struct broker_config *config);
