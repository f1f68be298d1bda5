/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

#include <stdint.h>

/* Read a ROM file whole, to be freed. */
int rom_read_file(const char *path, uint8_t **data, size_t *size, struct error *err);

/*
 * Read the ROM of a device that nobody else is using, to be freed: in a child with a time limit, and
 * with the device awake and its decoding of memory and of its ROM enabled for that time only. -EBUSY
 * where a program or a driver of the host has it.
 */
int rom_read_device(const struct host *host, const struct host_device *device, uint8_t **data,
	size_t *size, struct error *err);
