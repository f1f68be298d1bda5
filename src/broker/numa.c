/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/numa.h"

#include "base/cpulist.h"
#include "base/log.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NODES_MAX 1024 /* MAX_NUMNODES of the kernels that there are */

static bool has_nodes(const struct host *host)
{
	uint16_t nodes[NODES_MAX];
	char text[256];

	return host_read(host, text, sizeof(text), "/sys/devices/system/node/online") > 0 &&
	       cpulist_parse(text, ',', nodes, NODES_MAX) > 1;
}

int broker_numa_node(const struct host *host, const struct broker_config *config)
{
	int found = -1;

	if (!has_nodes(host))
		return -1;
	for (unsigned i = 0; i < config->device_count; i++) {
		char address[BDF_TEXT];
		int node = host_read_number(host, -1, "/sys/bus/pci/devices/%s/numa_node",
			bdf_format(&config->devices[i], address));

		if (node < 0 || node == found)
			continue;
		if (found >= 0)
			return -1;
		found = node;
	}
	return found < NODES_MAX ? found : -1;
}

void broker_numa_settle(const struct host *host, const struct broker_config *config)
{
	unsigned long mask[NODES_MAX / (8 * sizeof(unsigned long))] = { 0 };
	unsigned bits = 8 * sizeof(mask[0]);
	int node = broker_numa_node(host, config);

	if (node < 0)
		return;
	mask[node / bits] = 1UL << node % bits;
	/* The machine, and all of its threads, have it from us. A node that is used up is no reason to fail. */
	if (syscall(SYS_set_mempolicy, MPOL_PREFERRED, mask, NODES_MAX + 1) < 0)
		log_warning(
			"guest RAM cannot be had on NUMA node %d, next to its devices: %m", node);
	else
		log_info("guest RAM is on NUMA node %d, next to its devices", node);
}
