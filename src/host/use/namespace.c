/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/use/use.h"

#include "base/fd.h"
#include "base/text.h"
#include "host/system/guard.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/*
 * An interface that was moved to another network namespace, as for a container, is to be seen from inside
 * that one only. So each is looked into by a child.
 */

#define NAMED          "/run/netns" /* where ip(8) keeps those with names */
#define NAMESPACES_MAX 512

/* In memory that the child shares. */
struct look {
	char path[PATH_MAX]; /* of the namespace */
	char device[HOST_NAME];
	char interface[HOST_NAME]; /* the answer, "": none of this device */
};

struct search {
	const struct host *host;
	struct look *look;
	ino_t seen[NAMESPACES_MAX];
	unsigned count;
};

static int match_link(const struct nlmsghdr *message, void *data)
{
	const char *device = NULL, *interface = NULL;
	struct look *look = data;
	const struct nlattr *attribute;

	mnl_attr_for_each(attribute, message, sizeof(struct ifinfomsg))
	{
		if (mnl_attr_get_type(attribute) == IFLA_PARENT_DEV_NAME)
			device = mnl_attr_get_str(attribute);
		else if (mnl_attr_get_type(attribute) == IFLA_IFNAME)
			interface = mnl_attr_get_str(attribute);
	}
	if (device && interface && strcmp(device, look->device) == 0)
		text_format(look->interface, sizeof(look->interface), "%s", interface);
	return MNL_CB_OK;
}

static int list_links(struct mnl_socket *socket, struct look *look)
{
	char buffer[32768];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *link;
	int more = MNL_CB_OK;

	request->nlmsg_type = RTM_GETLINK;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	link = mnl_nlmsg_put_extra_header(request, sizeof(*link));
	link->ifi_family = AF_UNSPEC;
	if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0)
		return -errno;
	while (more > MNL_CB_STOP) {
		ssize_t got = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));

		more = got < 0 ? MNL_CB_ERROR : mnl_cb_run(buffer, got, 0, 0, match_link, look);
	}
	return more < 0 ? -errno : 0;
}

/* In the child, which stays in that namespace to its end. */
static int look_inside(const void *argument)
{
	struct look *look = *(struct look *const *)argument;
	int fd = open(look->path, O_RDONLY | O_CLOEXEC);
	struct mnl_socket *socket;

	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		return -errno;
	socket = mnl_socket_open(NETLINK_ROUTE);
	return socket ? list_links(socket, look) : -errno;
}

static bool is_new_namespace(struct search *search, const char *path)
{
	struct stat own, other;

	if (stat("/proc/self/ns/net", &own) || stat(path, &other) || own.st_ino == other.st_ino ||
		search->count == NAMESPACES_MAX)
		return false;
	for (unsigned i = 0; i < search->count; i++)
		if (search->seen[i] == other.st_ino)
			return false;
	search->seen[search->count++] = other.st_ino;
	return true;
}

/* The namespace whose file is DIRECTORY/NAME/BELOW. */
static bool is_inside(
	struct search *search, const char *directory, const char *name, const char *below)
{
	struct guard guard = {
		.host = search->host,
		.object = search->look->device,
		.doing = "a look into the network namespaces",
	};

	snprintf(search->look->path, PATH_MAX, "%s/%s%s", directory, name, below);
	return is_new_namespace(search, search->look->path) &&
	       guard_call(&guard, look_inside, &search->look) == 0 && search->look->interface[0];
}

static bool find_named(struct search *search, struct host_use *use)
{
	const char *interface = search->look->interface;
	const struct dirent *entry;
	DIR *directory = opendir(NAMED);
	bool found = false;

	while (!found && directory && (entry = readdir(directory))) {
		found = entry->d_name[0] != '.' && is_inside(search, NAMED, entry->d_name, "");
		if (!found)
			continue;
		text_format(use->reason, sizeof(use->reason),
			"its network interface %s is in the network namespace '%s'", interface,
			entry->d_name);
		text_format(use->hint, sizeof(use->hint),
			"take it back: ip -n %s link set %s netns 1", entry->d_name, interface);
	}
	if (directory)
		closedir(directory);
	return found;
}

static bool find_inhabitant(struct search *search, struct host_use *use)
{
	const char *interface = search->look->interface;
	const struct dirent *entry;
	DIR *directory = opendir("/proc");
	char command[32];
	bool found = false;

	while (!found && directory && (entry = readdir(directory))) {
		found = isdigit((unsigned char)entry->d_name[0]) &&
			is_inside(search, "/proc", entry->d_name, "/ns/net");
		if (!found)
			continue;
		host_read(search->host, command, sizeof(command), "/proc/%s/comm", entry->d_name);
		text_format(use->reason, sizeof(use->reason),
			"its network interface %s is in the network namespace of %s (pid %s)",
			interface, command, entry->d_name);
		text_format(use->hint, sizeof(use->hint),
			"end that container, or take it back: nsenter -t %s -n ip link set %s netns 1",
			entry->d_name, interface);
	}
	if (directory)
		closedir(directory);
	return found;
}

void host_use_describe_namespace(const struct host *host, const char *device, struct host_use *use)
{
	struct search search = { .host = host };

	text_format(use->reason, sizeof(use->reason),
		"its network interface is in another network namespace");
	text_format(use->hint, sizeof(use->hint),
		"end the container that has it, or take it back; 'lsns -t net' lists the namespaces");
	if (!host_is_live(host))
		return;
	search.look = mmap(NULL, sizeof(*search.look), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (search.look == MAP_FAILED)
		return;
	text_format(search.look->device, HOST_NAME, "%s", device);
	if (!find_named(&search, use))
		find_inhabitant(&search, use);
	munmap(search.look, sizeof(*search.look));
}
