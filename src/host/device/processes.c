/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/device/processes.h"

#include "base/fd.h"
#include "host/device/multipath.h"
#include "host/system/text.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPENDING_TRIES 10
#define TRY_WAIT_US     100000

#define NODES_MAX 100000 /* of the host, of a kind: a hostile tree ends here */

static void add_named(struct host_nodes *nodes, const char *name, bool vital)
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
	host_text(nodes->nodes[nodes->count].name, HOST_NAME, "%s", name);
	nodes->nodes[nodes->count++].vital = vital;
}

void host_nodes_free(struct host_nodes *nodes)
{
	free(nodes->nodes);
	*nodes = (struct host_nodes){ 0 };
}

static bool is_graphics(const char *name)
{
	return strncmp(name, "dri/", 4) == 0;
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
			add_named(nodes, at + 8,
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
	while ((entry = readdir(all)) && seen++ < NODES_MAX)
		if (isdigit((unsigned char)entry->d_name[0]) &&
			host_is_below(host, directory, "/sys/dev/%s/%s", kind, entry->d_name))
			add_node(nodes, host, kind, entry->d_name);
	nodes->incomplete |= seen > NODES_MAX;
	closedir(all);
}

/* The node that an open file of /proc/PID/fd is; NULL: none of them. */
static const struct host_node *match_node(const struct host_nodes *nodes, const char *target)
{
	if (strncmp(target, "/dev/", 5))
		return NULL;
	for (size_t i = 0; i < nodes->count; i++)
		if (strcmp(target + 5, nodes->nodes[i].name) == 0)
			return &nodes->nodes[i];
	return NULL;
}

/* The node that the process has open, one that is vital if there is one. */
static const struct host_node *find_open(const struct host_nodes *nodes, const char *pid)
{
	char path[sizeof("/proc//fd") + NAME_MAX], target[PATH_MAX];
	const struct host_node *found = NULL;
	const struct dirent *entry;
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	directory = opendir(path);
	while (!(found && found->vital) && directory && (entry = readdir(directory))) {
		ssize_t got = readlinkat(dirfd(directory), entry->d_name, target, PATH_MAX - 1);
		const struct host_node *node;

		target[got < 0 ? 0 : got] = '\0';
		node = match_node(nodes, target);
		if (node && (!found || node->vital))
			found = node;
	}
	if (directory)
		closedir(directory);
	return found;
}

static void describe_opener(const char *pid, const struct host_node *node, char *text, size_t size)
{
	char path[sizeof("/proc//comm") + NAME_MAX], command[32] = "";

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	fd_read_file(path, command, sizeof(command));
	command[strcspn(command, "\n")] = '\0';
	host_text(text, size, "%s (pid %s) has /dev/%s open", command, pid, node->name);
}

/* The first one that depends on the device, else the first that has it open. */
static enum host_user find_opener(const struct host_nodes *nodes, char *text, size_t size)
{
	DIR *directory = nodes->count ? opendir("/proc") : NULL;
	enum host_user user = HOST_USER_NONE;
	const struct dirent *entry;

	while (user != HOST_USER_DEPENDS && directory && (entry = readdir(directory))) {
		const struct host_node *node;

		if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == getpid())
			continue;
		node = find_open(nodes, entry->d_name);
		if (!node || (user && !node->vital))
			continue;
		user = node->vital ? HOST_USER_DEPENDS : HOST_USER_HAS_OPEN;
		describe_opener(entry->d_name, node, text, size);
	}
	if (directory)
		closedir(directory);
	if (user == HOST_USER_DEPENDS || !nodes->incomplete)
		return user;
	host_text(text, size,
		"it cannot be told whether a process has it open, for want of memory or as the host "
		"has more than %d device nodes",
		NODES_MAX);
	return HOST_USER_DEPENDS;
}

/* Where the disk is a path of NVMe multipath, it is the nodes of the head that are opened. */
static void add_head(struct host_nodes *nodes, const struct host *host, const char *disk)
{
	char link[PATH_MAX], path[PATH_MAX], head[HOST_NAME], name[HOST_NAME];

	if (!host_multipath_head(disk, head))
		return;
	add_named(nodes, head, true);
	host_text(name, sizeof(name), "ng%s", head + strlen("nvme"));
	add_named(nodes, name, true);
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
		host_text(node, sizeof(node), "nvidia%u", minor);
		add_named(nodes, node, true);
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
	add_heads(nodes, host, path);
	if (strcmp(device->driver, "nvidia") == 0)
		add_nvidia(nodes, host, device);
}

enum host_user host_processes_using(
	const struct host *host, const struct host_device *device, char *text, size_t size)
{
	enum host_user user = HOST_USER_NONE;
	struct host_nodes nodes;

	text[0] = '\0';
	if (!host_is_live(host))
		return user;
	host_nodes_find(host, device, &nodes);
	user = find_opener(&nodes, text, size);
	for (unsigned i = 1; user == HOST_USER_DEPENDS && i < DEPENDING_TRIES; i++) {
		usleep(TRY_WAIT_US);
		user = find_opener(&nodes, text, size);
	}
	host_nodes_free(&nodes);
	return user;
}

bool host_processes_using_vfio(
	const struct host *host, const struct host_device *device, char *text, size_t size)
{
	struct host_nodes nodes = { 0 };
	char name[HOST_NAME];
	bool used;

	text[0] = '\0';
	if (!host_is_live(host))
		return false;
	if (device->group >= 0) {
		host_text(name, sizeof(name), "vfio/%d", device->group);
		add_named(&nodes, name, true);
	}
	if (host_device_vfio_node(host, &device->bdf, name) == 0)
		add_named(&nodes, name + strlen("/dev/"), true);
	used = find_opener(&nodes, text, size);
	host_nodes_free(&nodes);
	return used;
}
