/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "host/system/host.h"

/*
 * The NUMA node that all of the guest's devices are at, as far as they are at one; -1: there is no such, or the
 * host has one node only.
 */
int broker_numa_node(const struct host *host, const struct broker_config *config);

/* Have guest RAM taken from that node as long as it has some, and say so. */
void broker_numa_settle(const struct host *host, const struct broker_config *config);
