/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

/* "52:54:00:12:34:56", which is no group's address. */
bool cmd_mac_parse(const char *text, uint8_t mac[static VIRTIO_MAC_SIZE]);

/*
 * The value of --net: "tap=NAME[,mac=ADDRESS][,failover-for=ADDRESS]", the same with bridge=, or
 * "user[,hostfwd=FORWARD]...[,mac=ADDRESS]". 0 or -EINVAL. The name is a part of text, which is changed.
 */
int cmd_net_parse(char *text, struct broker_net *net, struct error *err);
/* What they say of devices is so: 0 or -EINVAL. */
int cmd_net_check(const struct broker_config *config, struct error *err);
