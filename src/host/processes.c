/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/processes.h"

#include "base/fd.h"
#include "base/size.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX   64
#define DEPTH_MAX   10    /* of sysfs below a PCI device: USB hubs behind hubs, SCSI, partitions */
#define ENTRIES_MAX 20000 /* a hostile tree ends here */

/* Device nodes below /dev, as "dri/card0". */
struct nodes {
	char names[NODES_MAX][HOST_NAME];
	unsigned count;
	unsigned budget;
	bool vital; /* disks and graphics only */
};

static void add(struct nodes *nodes, const char *name)
{
	if (nodes->count < NODES_MAX)
		host_text(nodes->names[nodes->count++], HOST_NAME, "%s", name);
}

static bool is_vital(const char *name, const char *type)
{
	return strcmp(type, "disk") == 0 || strcmp(type, "partition") == 0 ||
	       strncmp(name, "dri/", 4) == 0 ||
	       (name[0] == 'n' && name[1] == 'g' && isdigit((unsigned char)name[2])); /* NVMe */
}

/* A device with a node says so in its uevent file: DEVNAME=dri/card0. */
static void add_from_uevent(struct nodes *nodes, const char *path)
{
	char text[1024], *at, *save;
	const char *name = NULL, *type = "";

	if (fd_read_file(path, text, sizeof(text)) < 0)
		return;
	for (at = strtok_r(text, "\n", &save); at; at = strtok_r(NULL, "\n", &save)) {
		if (strncmp(at, "DEVNAME=", 8) == 0)
			name = at + 8;
		else if (strncmp(at, "DEVTYPE=", 8) == 0)
			type = at + 8;
	}
	if (name && (!nodes->vital || is_vital(name, type)))
		add(nodes, name);
}

static void walk(struct nodes *nodes, const char *path, unsigned depth)
{
	DIR *directory = depth < DEPTH_MAX ? opendir(path) : NULL;
	const struct dirent *entry;
	char child[PATH_MAX];

	while (directory && (entry = readdir(directory)) && nodes->budget) {
		int used = snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);

		nodes->budget--;
		if (used >= PATH_MAX || entry->d_name[0] == '.')
			continue;
		if (strcmp(entry->d_name, "uevent") == 0)
			add_from_uevent(nodes, child);
		else if (entry->d_type == DT_DIR)
			walk(nodes, child, depth + 1);
	}
	if (directory)
		closedir(directory);
}

/* An open file of /proc/PID/fd that is one of the nodes. */
static bool match(const struct nodes *nodes, const char *target)
{
	if (strncmp(target, "/dev/", 5))
		return false;
	for (unsigned i = 0; i < nodes->count; i++)
		if (strcmp(target + 5, nodes->names[i]) == 0)
			return true;
	return false;
}

static bool has_open(const struct nodes *nodes, const char *pid, char target[static PATH_MAX])
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

static bool find_process(const struct nodes *nodes, char *text, size_t size)
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
	return found;
}

static void add_nvidia(struct nodes *nodes)
{
	static const char *const names[] = { "nvidia0", "nvidia1", "nvidiactl", "nvidia-modeset",
		"nvidia-uvm" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		add(nodes, names[i]);
}

static bool find_user(const struct host *host, const struct host_device *device, bool vital,
	char *text, size_t size)
{
	struct nodes nodes = { .budget = ENTRIES_MAX, .vital = vital };
	char path[PATH_MAX];

	text[0] = '\0';
	if (!host_is_live(host) || host_device_path(host, &device->bdf, path))
		return false;
	walk(&nodes, path, 0);
	/* Its nodes are not in sysfs, and it is the driver that most often waits for its users. */
	if (strcmp(device->driver, "nvidia") == 0)
		add_nvidia(&nodes);
	return find_process(&nodes, text, size);
}

bool host_processes_using(
	const struct host *host, const struct host_device *device, char *text, size_t size)
{
	return find_user(host, device, false, text, size);
}

bool host_processes_depending(
	const struct host *host, const struct host_device *device, char *text, size_t size)
{
	return find_user(host, device, true, text, size);
}

/* vfio-dev/vfioN below the device is the node /dev/vfio/devices/vfioN (Linux 6.6 and later). */
static void add_cdev(const struct host *host, const struct host_device *device, struct nodes *nodes)
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
	struct nodes nodes = { 0 };
	char name[HOST_NAME];

	text[0] = '\0';
	if (!host_is_live(host))
		return false;
	if (device->group >= 0) {
		host_text(name, sizeof(name), "vfio/%d", device->group);
		add(&nodes, name);
	}
	add_cdev(host, device, &nodes);
	return find_process(&nodes, text, size);
}
