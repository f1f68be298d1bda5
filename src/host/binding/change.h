/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

/*
 * Single changes of one device's driver. Each is one step, is made in a child with a time limit,
 * and is verified, as the kernel reports success also where nothing came of it.
 */
struct change {
	const struct host *host;
	const struct host_device *device; /* as it was before */
	char name[BDF_TEXT];
	int lock; /* the device's lock in the journal, or -1 */
};

void change_init(
	struct change *change, const struct host *host, const struct host_device *device, int lock);

/* Set driver_override, "" to clear it, unless it is so already. */
int change_override(const struct change *change, const char *driver, struct error *err);

/*
 * Put driver in the place of ours, of a device that another program has just taken: what it may have set by
 * now stays. Waits for as long as that takes the device, whose lock the kernel holds for it.
 */
int change_withdraw_override(
	const struct change *change, const char *ours, const char *driver, struct error *err);

/* Take it from its driver, if it has one. */
int change_unbind(const struct change *change, struct error *err);

/* Let the kernel look for a driver, and wait a little for one. Whether it found one is not told. */
int change_probe(const struct change *change, struct error *err);

/* Give it to this driver and no other. Whether that takes it is not told. */
int change_bind(const struct change *change, const char *driver, struct error *err);

/* Bind one of the kernel's text consoles, "vtcon1", to what it draws on, or not any more. Whether it is so is not told. */
int change_console(const struct change *change, const char *console, bool bind, struct error *err);

/* Give a platform device, the firmware's frame buffer on this card, to its driver, or take it from there. */
int change_framebuffer(const struct change *change, const char *driver, const char *framebuffer,
	bool bind, struct error *err);

/*
 * Load a kernel module by its name or by a modalias, if it is there, with the time limit. 0 or a
 * negative errno, -ENOENT where the running kernel has no such module.
 */
int change_load_module(const struct host *host, const char *alias);
