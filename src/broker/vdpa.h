/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "virtio/virtio.h"

/*
 * Open a node of vhost-vdpa's, which has one user at a time and a device that is reset by that, and fill in what the
 * device is: its type, and how many queues it has. The descriptor, or a negative errno with err filled in.
 */
int broker_vdpa_open(const char *node, struct virtio_config *device, struct error *err);

/* Does the path lead to such a node? 0, or a negative errno with err filled in; nothing is opened. */
int broker_vdpa_check(const char *node, struct error *err);
