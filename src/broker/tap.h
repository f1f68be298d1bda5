/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

/*
 * Taps of the host's: by a name, one that is there; or one that is made for a machine, is a port of a bridge, and goes
 * with its descriptor. Each has one queue pair, and before each packet the header that the guest's queues have.
 */

/* A descriptor, or a negative errno with err filled in. */
int broker_tap_open(const char *name, struct error *err);

/* The same; without root by qemu-bridge-helper, where the host's administrator lets it. */
int broker_tap_open_at_bridge(const char *bridge, struct error *err);
