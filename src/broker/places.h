/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

/* Before a device is touched: all have a slot in the guest, and their BARs fit into its addresses. */
int broker_places_check(const struct broker_config *config, const struct passthrough_rom *roms,
	int kvm_fd, struct error *err);
