/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "host/system/host.h"

/*
 * A card of the guest's that stands by for a passed one: the guest takes both as one, by their common MAC address
 * (virtio 1.2, 5.1.3, VIRTIO_NET_F_STANDBY), and goes on by this one while the passed one is away.
 */

/* Is the other a network card? And mac, where none was said, becomes its address. Before it is taken from its driver. */
int broker_failover_settle(const struct host *host, const struct broker_net *net,
	uint8_t mac[static VIRTIO_MAC_SIZE], struct error *err);
