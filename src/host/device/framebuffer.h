/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * The frame buffer that the host's firmware has left on a card (BOOTFB in /proc/iomem): a platform device, whose
 * driver (simpledrm or simplefb, efifb, vesafb) draws there until the card's own one takes over.
 */

struct host_framebuffer {
	char device[HOST_NAME]; /* "simple-framebuffer.0"; "": there is none */
	char driver[HOST_NAME]; /* the platform driver that has it */
};

/*
 * The one that is on this card and that a driver has: below it, as kernels since 6.9 show it, or of the boot
 * display, which there can be one of.
 */
bool host_framebuffer_find(const struct host *host, const struct host_device *device,
	struct host_framebuffer *framebuffer);
