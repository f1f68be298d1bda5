/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

/*
 * The file that is guest RAM, for one start of a machine. Only the machine keeps it, so that the memory
 * is free again when that ends, and the kernel has something to gain by killing it when memory runs out.
 */
struct broker_ram {
	int fd;
	enum memory_kind kind;
	uint64_t page;
};

int broker_ram_open(struct broker_ram *ram, const struct broker_config *config, struct error *err);
