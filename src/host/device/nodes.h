/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

#define HOST_NODES_MAX 100000 /* of the host, of a kind: a hostile tree ends here */

/* Device nodes. */
struct host_nodes {
	struct host_node {
		char name[HOST_NAME]; /* below /dev: "dri/card0" */
		bool vital;           /* who has it open depends on the device */
	} * nodes;
	size_t count;
	bool incomplete; /* there may be more */
};

/* The nodes through which a device is used, its own and those of what is below it. To be freed. */
void host_nodes_find(
	const struct host *host, const struct host_device *device, struct host_nodes *nodes);
void host_nodes_free(struct host_nodes *nodes);

/* One more, by its name. Without memory the list is incomplete. */
void host_nodes_add(struct host_nodes *nodes, const char *name, bool vital);
