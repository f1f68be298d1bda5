/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/text.h"
#include "host/use/use.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/ipv6_route.h>
#include <linux/route.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX   4            /* a VLAN on a bridge on a bond, and one to spare */
#define BELOW_MAX   100000       /* entries below a device that are looked at */
#define BELOW_DEPTH 16           /* behind several hubs of USB */
#define SWITCH      "ovs-system" /* of all Open vSwitches of the host */

/* Interfaces on top of interfaces; a hostile tree must not make this walk endless. */
struct walk {
	const struct host *host;
	const char *bottom; /* the interface of the device */
	struct host_use *use;
	unsigned budget;
	bool switched; /* found to be a port of Open vSwitch */
};

/* "" no route that matters, else what it carries. */
static void match_ipv4(const char *line, const char *interface, char *what, size_t size)
{
	unsigned destination, gateway, flags, mask;
	char name[HOST_NAME], text[INET_ADDRSTRLEN];

	if (sscanf(line, "%63s %x %x %x %*s %*s %*s %x", name, &destination, &gateway, &flags,
		    &mask) != 5 ||
		strcmp(name, interface) || flags & RTF_REJECT)
		return;
	if (mask == 0)
		text_format(what, size, "the default route");
	else if (flags & RTF_GATEWAY && !what[0])
		text_format(what, size, "a route through the gateway %s",
			inet_ntop(AF_INET, &(struct in_addr){ gateway }, text, sizeof(text)));
}

static void match_ipv6(const char *line, const char *interface, char *what, size_t size)
{
	unsigned prefix, flags;
	char name[HOST_NAME], destination[33], gateway[33];

	if (sscanf(line, "%32s %x %*s %*s %32s %*s %*s %*s %x %63s", destination, &prefix, gateway,
		    &flags, name) != 5 ||
		strcmp(name, interface) || flags & RTF_REJECT)
		return;
	if (prefix == 0)
		text_format(what, size, "the IPv6 default route");
	else if (flags & RTF_GATEWAY && !what[0])
		text_format(what, size, "an IPv6 route through a gateway");
}

static void read_routes(const struct host *host, const char *file, const char *interface,
	void (*match)(const char *, const char *, char *, size_t), char *what, size_t size)
{
	FILE *stream = host_open(host, "/proc/net/%s", file);
	char line[512];

	if (!stream)
		return;
	while (fgets(line, sizeof(line), stream))
		match(line, interface, what, size);
	fclose(stream);
}

static bool carries_route(struct walk *walk, const char *interface)
{
	struct host_use *use = walk->use;
	char what[96] = "";

	read_routes(walk->host, "route", interface, match_ipv4, what, sizeof(what));
	if (!what[0])
		read_routes(walk->host, "ipv6_route", interface, match_ipv6, what, sizeof(what));
	if (!what[0])
		return false;
	if (walk->switched)
		text_format(use->reason, sizeof(use->reason),
			"its network interface %s is a port of Open vSwitch, and %s, which may be "
			"another one, carries %s",
			walk->bottom, interface, what);
	else if (strcmp(interface, walk->bottom))
		text_format(use->reason, sizeof(use->reason),
			"its network interface %s is part of %s, which carries %s", walk->bottom,
			interface, what);
	else
		text_format(use->reason, sizeof(use->reason), "its network interface %s carries %s",
			interface, what);
	text_format(use->hint, sizeof(use->hint),
		"move the route to another interface ('ip route'), as the host would lose its network");
	return true;
}

static bool visit_interface(struct walk *walk, const char *interface, unsigned depth);

/* Does the interface have an entry that begins so? */
static bool has_attribute(const struct host *host, const char *interface, const char *prefix)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	bool found = false;
	DIR *directory;

	if (host_path(host, path, "/sys/class/net/%s", interface) || !(directory = opendir(path)))
		return false;
	while (!found && (entry = readdir(directory)))
		found = strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	closedir(directory);
	return found;
}

/*
 * The host's own port of an Open vSwitch, which has its addresses, stands beside the NIC and not above
 * it, and sysfs does not tell the two of it. It has no device and nothing below it.
 */
static bool visit_switch(struct walk *walk, unsigned depth)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	bool used = false;
	DIR *directory;

	if (walk->switched || host_path(walk->host, path, "/sys/class/net") ||
		!(directory = opendir(path)))
		return false;
	walk->switched = true;
	while (!used && (entry = readdir(directory)))
		used = entry->d_name[0] != '.' &&
		       !has_attribute(walk->host, entry->d_name, "device") &&
		       !has_attribute(walk->host, entry->d_name, "lower_") &&
		       !has_attribute(walk->host, entry->d_name, "upper_" SWITCH) &&
		       visit_interface(walk, entry->d_name, depth + 1);
	closedir(directory);
	return used;
}

static bool visit_interface(struct walk *walk, const char *interface, unsigned depth)
{
	const struct dirent *entry;
	char path[PATH_MAX];
	bool used = carries_route(walk, interface);
	DIR *directory;

	if (used || depth == DEPTH_MAX ||
		host_path(walk->host, path, "/sys/class/net/%s", interface))
		return used;
	directory = opendir(path);
	while (!used && directory && (entry = readdir(directory)))
		if (strncmp(entry->d_name, "upper_", 6) == 0 && walk->budget && walk->budget--)
			used = visit_interface(walk, entry->d_name + 6, depth + 1);
	if (directory)
		closedir(directory);
	return used ||
	       (has_attribute(walk->host, interface, "upper_" SWITCH) && visit_switch(walk, depth));
}

static DIR *open_at(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);

	if (!directory && fd >= 0)
		close(fd);
	return directory;
}

/* Has it a directory "net" without an interface? */
static bool is_empty(int directory)
{
	DIR *entries = open_at(directory, "net");
	const struct dirent *entry;
	bool empty = entries;

	while (entries && (entry = readdir(entries)))
		empty &= entry->d_name[0] == '.';
	if (entries)
		closedir(entries);
	return empty;
}

static bool find_hidden(int parent, const char *name, unsigned depth, unsigned *budget,
	char device[static HOST_NAME])
{
	DIR *directory = open_at(parent, name);
	const struct dirent *entry;
	bool found = false;

	if (directory && is_empty(dirfd(directory))) {
		const char *slash = strrchr(name, '/');

		text_format(device, HOST_NAME, "%s", slash ? slash + 1 : name);
		found = true;
	}
	while (!found && directory && depth && (entry = readdir(directory)) && *budget && --*budget)
		found = entry->d_name[0] != '.' &&
			(entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN) &&
			find_hidden(dirfd(directory), entry->d_name, depth - 1, budget, device);
	if (directory)
		closedir(directory);
	return found;
}

/*
 * Whose interfaces are all in other network namespaces than that of this sysfs has a directory "net" as
 * others have, and nothing in it.
 */
static bool is_in_other_namespace(const struct host *host, const char *path, struct host_use *use)
{
	unsigned budget = BELOW_MAX;
	char device[HOST_NAME];

	if (!find_hidden(AT_FDCWD, path, BELOW_DEPTH, &budget, device))
		return false;
	host_use_describe_namespace(host, device, use);
	return true;
}

static bool has_route(const struct host *host, const char *path, struct host_use *use)
{
	const struct dirent *entry;
	char class[PATH_MAX];
	DIR *directory;
	bool used = false;

	if (host_path(host, class, "/sys/class/net") || !(directory = opendir(class)))
		return false;
	while (!used && (entry = readdir(directory))) {
		struct walk walk = { host, entry->d_name, use, 256, false };

		if (entry->d_name[0] != '.' &&
			host_is_below(host, path, "/sys/class/net/%s", entry->d_name))
			used = visit_interface(&walk, entry->d_name, 0);
	}
	closedir(directory);
	return used;
}

bool host_use_find_network(const struct host *host, const char *path, struct host_use *use)
{
	return has_route(host, path, use) || is_in_other_namespace(host, path, use);
}
