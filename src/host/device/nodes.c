/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/device/nodes.h"

#include "base/fd.h"
#include "base/text.h"
#include "host/device/framebuffer.h"
#include "host/device/multipath.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLATFORM "/sys/bus/platform/devices/"

void host_nodes_add(struct host_nodes *nodes, const char *name, bool vital)
{
	struct host_node *more;

	/* Grown when the count is a power of two, or 0. */
	if (!(nodes->count & (nodes->count - 1))) {
		more = reallocarray(nodes->nodes, 2 * nodes->count + 1, sizeof(*more));
		if (!more) {
			nodes->incomplete = true;
			return;
		}
		nodes->nodes = more;
	}
	text_format(nodes->nodes[nodes->count].name, HOST_NAME, "%s", name);
	nodes->nodes[nodes->count++].vital = vital;
}

void host_nodes_free(struct host_nodes *nodes)
{
	free(nodes->nodes);
	*nodes = (struct host_nodes){ 0 };
}

static bool is_graphics(const char *name)
{
	return strncmp(name, "dri/", 4) == 0 ||
	       (strncmp(name, "fb", 2) == 0 && isdigit((unsigned char)name[2]));
}

/* NVMe's own node of a namespace, "ng0n1". */
static bool is_namespace(const char *name)
{
	return strncmp(name, "ng", 2) == 0 && isdigit((unsigned char)name[2]);
}

/* A device with a node says so in its uevent file: DEVNAME=dri/card0. */
static void add_node(
	struct host_nodes *nodes, const struct host *host, const char *kind, const char *number)
{
	char path[PATH_MAX], text[1024], *at, *save;

	if (host_path(host, path, "/sys/dev/%s/%s/uevent", kind, number) ||
		fd_read_file(path, text, sizeof(text)) < 0)
		return;
	for (at = strtok_r(text, "\n", &save); at; at = strtok_r(NULL, "\n", &save))
		if (strncmp(at, "DEVNAME=", 8) == 0)
			host_nodes_add(nodes, at + 8,
				strcmp(kind, "block") == 0 || is_graphics(at + 8) ||
					is_namespace(at + 8));
}

/* Of all nodes of the kernel, /sys/dev/KIND/MAJOR:MINOR, those of what is below directory. */
static void add_below(
	struct host_nodes *nodes, const struct host *host, const char *directory, const char *kind)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	unsigned seen = 0;
	DIR *all;

	if (host_path(host, path, "/sys/dev/%s", kind) || !(all = opendir(path)))
		return;
	while ((entry = readdir(all)) && seen++ < HOST_NODES_MAX)
		if (isdigit((unsigned char)entry->d_name[0]) &&
			host_is_below(host, directory, "/sys/dev/%s/%s", kind, entry->d_name))
			add_node(nodes, host, kind, entry->d_name);
	nodes->incomplete |= seen > HOST_NODES_MAX;
	closedir(all);
}

/* The firmware's one may be no child of the card whose it is. */
static void add_framebuffer(struct host_nodes *nodes, const struct host *host,
	const struct host_device *device, const char *card)
{
	struct host_framebuffer framebuffer;
	char link[PATH_MAX], path[PATH_MAX];

	if (host_framebuffer_find(host, device, &framebuffer) &&
		!host_is_below(host, card, PLATFORM "%s", framebuffer.device) &&
		host_path(host, link, PLATFORM "%s", framebuffer.device) == 0 &&
		realpath(link, path))
		add_below(nodes, host, path, "char");
}

/* Where the disk is a path of NVMe multipath, it is the nodes of the head that are opened. */
static void add_head(struct host_nodes *nodes, const struct host *host, const char *disk)
{
	char link[PATH_MAX], path[PATH_MAX], head[HOST_NAME], name[HOST_NAME];

	if (!host_multipath_head(disk, head))
		return;
	host_nodes_add(nodes, head, true);
	text_format(name, sizeof(name), "ng%s", head + strlen("nvme"));
	host_nodes_add(nodes, name, true);
	if (host_path(host, link, "/sys/block/%s", head) == 0 && realpath(link, path))
		add_below(nodes, host, path, "block");
}

static void add_heads(struct host_nodes *nodes, const struct host *host, const char *directory)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	DIR *blocks;

	if (host_path(host, path, "/sys/block") || !(blocks = opendir(path)))
		return;
	while ((entry = readdir(blocks)))
		if (host_is_below(host, directory, "/sys/block/%s", entry->d_name))
			add_head(nodes, host, entry->d_name);
	closedir(blocks);
}

/*
 * NVIDIA's nodes are not in sysfs, and it is the driver that most often waits for its users. Those that
 * all of its cards share, as nvidiactl, say nothing of this one.
 */
static void add_nvidia(
	struct host_nodes *nodes, const struct host *host, const struct host_device *device)
{
	char name[BDF_TEXT], line[256], node[HOST_NAME];
	unsigned minor;
	FILE *stream = host_open(
		host, "/proc/driver/nvidia/gpus/%s/information", bdf_format(&device->bdf, name));

	while (stream && fgets(line, sizeof(line), stream)) {
		if (sscanf(line, "Device Minor: %u", &minor) != 1)
			continue;
		text_format(node, sizeof(node), "nvidia%u", minor);
		host_nodes_add(nodes, node, true);
		break;
	}
	if (stream)
		fclose(stream);
}

void host_nodes_find(
	const struct host *host, const struct host_device *device, struct host_nodes *nodes)
{
	char path[PATH_MAX];

	*nodes = (struct host_nodes){ 0 };
	if (host_device_path(host, &device->bdf, path))
		return;
	add_below(nodes, host, path, "block");
	add_below(nodes, host, path, "char");
	add_framebuffer(nodes, host, device, path);
	add_heads(nodes, host, path);
	if (strcmp(device->driver, "nvidia") == 0)
		add_nvidia(nodes, host, device);
}
