/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/device/processes.h"

#include "base/fd.h"
#include "base/text.h"
#include "host/device/nodes.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPENDING_TRIES 10
#define TRY_WAIT_US     100000

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
	text_format(text, size, "%s (pid %s) has /dev/%s open", command, pid, node->name);
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
	text_format(text, size,
		"it cannot be told whether a process has it open, for want of memory or as the host "
		"has more than %d device nodes",
		HOST_NODES_MAX);
	return HOST_USER_DEPENDS;
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
		text_format(name, sizeof(name), "vfio/%d", device->group);
		host_nodes_add(&nodes, name, true);
	}
	if (host_device_vfio_node(host, &device->bdf, name) == 0)
		host_nodes_add(&nodes, name + strlen("/dev/"), true);
	used = find_opener(&nodes, text, size);
	host_nodes_free(&nodes);
	return used;
}
