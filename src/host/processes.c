/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/processes.h"

#include "base/fd.h"
#include "host/use.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPENDING_TRIES 10
#define TRY_WAIT_US     100000

#define NODES_MAX 100000 /* of the host, of a kind: a hostile tree ends here */

static void add(struct host_nodes *nodes, const char *name)
{
	char(*more)[HOST_NAME];

	/* Grown when the count is a power of two, or 0. */
	if (!(nodes->count & (nodes->count - 1))) {
		more = reallocarray(nodes->names, 2 * nodes->count + 1, sizeof(*more));
		if (!more) {
			nodes->incomplete = true;
			return;
		}
		nodes->names = more;
	}
	host_text(nodes->names[nodes->count++], HOST_NAME, "%s", name);
}

void host_nodes_free(struct host_nodes *nodes)
{
	free(nodes->names);
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
static void add_node(struct host_nodes *nodes, const struct host *host, const char *kind,
	const char *number, bool vital)
{
	char path[PATH_MAX], text[1024], *at, *save;

	if (host_path(host, path, "/sys/dev/%s/%s/uevent", kind, number) ||
		fd_read_file(path, text, sizeof(text)) < 0)
		return;
	for (at = strtok_r(text, "\n", &save); at; at = strtok_r(NULL, "\n", &save))
		if (strncmp(at, "DEVNAME=", 8) == 0 &&
			(!vital || is_graphics(at + 8) || is_namespace(at + 8)))
			add(nodes, at + 8);
}

/* Of all nodes of the kernel, /sys/dev/KIND/MAJOR:MINOR, those of what is below directory. */
static void add_below(struct host_nodes *nodes, const struct host *host, const char *directory,
	const char *kind, bool vital)
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
			add_node(nodes, host, kind, entry->d_name, vital);
	nodes->incomplete |= seen > NODES_MAX;
	closedir(all);
}

/* An open file of /proc/PID/fd that is one of the nodes. */
static bool match(const struct host_nodes *nodes, const char *target)
{
	if (strncmp(target, "/dev/", 5))
		return false;
	for (unsigned i = 0; i < nodes->count; i++)
		if (strcmp(target + 5, nodes->names[i]) == 0)
			return true;
	return false;
}

static bool has_open(const struct host_nodes *nodes, const char *pid, char target[static PATH_MAX])
{
	const struct dirent *entry;
	char path[sizeof("/proc//fd") + NAME_MAX];
	bool found = false;
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	directory = opendir(path);
	while (!found && directory && (entry = readdir(directory))) {
		ssize_t got = readlinkat(dirfd(directory), entry->d_name, target, PATH_MAX - 1);

		target[got < 0 ? 0 : got] = '\0';
		found = match(nodes, target);
	}
	if (directory)
		closedir(directory);
	return found;
}

static void describe(const char *pid, const char *target, char *text, size_t size)
{
	char path[sizeof("/proc//comm") + NAME_MAX], command[32] = "";

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	fd_read_file(path, command, sizeof(command));
	command[strcspn(command, "\n")] = '\0';
	host_text(text, size, "%s (pid %s) has %s open", command, pid, target);
}

/* Also true where nodes may be missing, as then it cannot be told. */
static bool find_process(const struct host_nodes *nodes, char *text, size_t size)
{
	DIR *directory = nodes->count ? opendir("/proc") : NULL;
	const struct dirent *entry;
	char target[PATH_MAX];
	bool found = false;

	while (!found && directory && (entry = readdir(directory))) {
		if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == getpid())
			continue;
		found = has_open(nodes, entry->d_name, target);
		if (found)
			describe(entry->d_name, target, text, size);
	}
	if (directory)
		closedir(directory);
	if (!found && nodes->incomplete)
		host_text(text, size,
			"it cannot be told whether a process has it open, for want of memory or as "
			"the host has more than %d device nodes",
			NODES_MAX);
	return found || nodes->incomplete;
}

/* Where the disk is a path of NVMe multipath, it is the nodes of the head that are opened. */
static void add_head(struct host_nodes *nodes, const struct host *host, const char *disk)
{
	char link[PATH_MAX], path[PATH_MAX], head[HOST_NAME], name[HOST_NAME];

	if (!host_use_head(disk, head))
		return;
	add(nodes, head);
	host_text(name, sizeof(name), "ng%s", head + strlen("nvme"));
	add(nodes, name);
	if (host_path(host, link, "/sys/block/%s", head) == 0 && realpath(link, path))
		add_below(nodes, host, path, "block", false);
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
		add(nodes, node);
		break;
	}
	if (stream)
		fclose(stream);
}

void host_nodes_find(const struct host *host, const struct host_device *device, bool vital,
	struct host_nodes *nodes)
{
	char path[PATH_MAX];

	*nodes = (struct host_nodes){ 0 };
	if (host_device_path(host, &device->bdf, path))
		return;
	add_below(nodes, host, path, "block", false);
	add_below(nodes, host, path, "char", vital);
	add_heads(nodes, host, path);
	if (strcmp(device->driver, "nvidia") == 0)
		add_nvidia(nodes, host, device);
}

/* Found each of so many times; the nodes are freed. */
static bool find_user(struct host_nodes *nodes, unsigned tries, char *text, size_t size)
{
	bool found = find_process(nodes, text, size);

	while (found && --tries) {
		usleep(TRY_WAIT_US);
		found = find_process(nodes, text, size);
	}
	host_nodes_free(nodes);
	return found;
}

static bool find_user_of(const struct host *host, const struct host_device *device, bool vital,
	unsigned tries, char *text, size_t size)
{
	struct host_nodes nodes;

	text[0] = '\0';
	if (!host_is_live(host))
		return false;
	host_nodes_find(host, device, vital, &nodes);
	return find_user(&nodes, tries, text, size);
}

bool host_processes_using(
	const struct host *host, const struct host_device *device, char *text, size_t size)
{
	return find_user_of(host, device, false, 1, text, size);
}

bool host_processes_depending(
	const struct host *host, const struct host_device *device, char *text, size_t size)
{
	return find_user_of(host, device, true, DEPENDING_TRIES, text, size);
}

/* vfio-dev/vfioN below the device is the node /dev/vfio/devices/vfioN (Linux 6.6 and later). */
static void add_cdev(
	const struct host *host, const struct host_device *device, struct host_nodes *nodes)
{
	const struct dirent *entry;
	char path[PATH_MAX], name[HOST_NAME];
	DIR *directory;

	if (host_device_path(host, &device->bdf, path) ||
		strlen(path) + sizeof("/vfio-dev") > sizeof(path))
		return;
	directory = opendir(strcat(path, "/vfio-dev"));
	while (directory && (entry = readdir(directory))) {
		host_text(name, sizeof(name), "vfio/devices/%s", entry->d_name);
		add(nodes, name);
	}
	if (directory)
		closedir(directory);
}

bool host_processes_using_vfio(
	const struct host *host, const struct host_device *device, char *text, size_t size)
{
	struct host_nodes nodes = { 0 };
	char name[HOST_NAME];

	text[0] = '\0';
	if (!host_is_live(host))
		return false;
	if (device->group >= 0) {
		host_text(name, sizeof(name), "vfio/%d", device->group);
		add(&nodes, name);
	}
	add_cdev(host, device, &nodes);
	return find_user(&nodes, 1, text, size);
}
