/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The settings of a virtual function, by rtnetlink: what is sent must say what was asked for, and
 * whatever comes back, only the end of the kernel's answer without an error is a success.
 */
#include "fuzz.h"

#include "host/sriov/settings.h"
#include "host/sriov/vf.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define PORT        77
#define ANSWERS_MAX 4 /* then the socket fails */

enum { ANSWERS, DONE, REFUSED };

struct fuzz_goal fuzz_goals[] = {
	[ANSWERS] = { "answers", 2, 0 },
	[DONE] = { "acknowledged", 1000, 0 },
	[REFUSED] = { "refused", 10, 0 },
	{ 0 },
};

static struct {
	struct fuzz_input *input;
	unsigned answers;
	bool acknowledged, open;
	const void *sent;
} world;

struct mnl_socket *__wrap_mnl_socket_open(int bus);
int __wrap_mnl_socket_close(struct mnl_socket *socket);
int __wrap_mnl_socket_bind(struct mnl_socket *socket, unsigned groups, pid_t pid);
unsigned __wrap_mnl_socket_get_portid(const struct mnl_socket *socket);
ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *socket, const void *request, size_t size);
ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *socket, void *buffer, size_t size);

struct mnl_socket *__wrap_mnl_socket_open(int bus)
{
	fuzz_check(bus == NETLINK_ROUTE && !world.open);
	world.open = true;
	return (struct mnl_socket *)&world;
}

int __wrap_mnl_socket_close(struct mnl_socket *socket)
{
	fuzz_check(socket == (struct mnl_socket *)&world && world.open);
	world.open = false;
	return 0;
}

int __wrap_mnl_socket_bind(struct mnl_socket *socket, unsigned groups, pid_t pid)
{
	(void)socket, (void)groups, (void)pid;
	return 0;
}

unsigned __wrap_mnl_socket_get_portid(const struct mnl_socket *socket)
{
	(void)socket;
	return PORT;
}

ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *socket, const void *request, size_t size)
{
	(void)socket;
	world.sent = request;
	return size;
}

/* Whether among the messages is one that acknowledges ours, or ends the kernel's answer. */
static bool acknowledges(void *bytes, size_t size)
{
	struct nlmsghdr *message = bytes;
	int left = size;

	for (; left >= (int)sizeof(*message); message = mnl_nlmsg_next(message, &left)) {
		const struct nlmsgerr *error = mnl_nlmsg_get_payload(message);

		message->nlmsg_len &=
			INT32_MAX; /* libmnl 1.0.4 takes a longer one for a short one */
		if (!mnl_nlmsg_ok(message, left))
			return false;
		if (message->nlmsg_type == NLMSG_DONE)
			return true;
		if (message->nlmsg_type == NLMSG_ERROR &&
			message->nlmsg_len >= mnl_nlmsg_size(sizeof(*error)) && error->error == 0)
			return true;
	}
	return false;
}

ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *socket, void *buffer, size_t size)
{
	size_t length = fuzz_byte(world.input);

	(void)socket;
	fuzz_check(world.sent && world.open);
	if (world.answers++ == ANSWERS_MAX || length == 255) {
		errno = length & 1 ? ENOBUFS : ENOSPC;
		return -1;
	}
	fuzz_check(length <= size);
	fuzz_bytes(world.input, buffer, length);
	fuzz_goals[ANSWERS].count++;
	world.acknowledged |= acknowledges(buffer, length);
	return length;
}

/* What is asked for, as the kernel reads it. */

static const void *find(const struct nlattr *nest, uint16_t type, size_t size)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(attribute, nest)
	{
		if (mnl_attr_get_type(attribute) != type)
			continue;
		fuzz_check(mnl_attr_get_payload_len(attribute) == size);
		return mnl_attr_get_payload(attribute);
	}
	return NULL;
}

static const struct nlattr *find_vf(const struct nlmsghdr *request)
{
	const struct nlattr *list = mnl_nlmsg_get_payload_offset(request, sizeof(struct ifinfomsg));
	const struct nlattr *one = mnl_attr_get_payload(list);

	fuzz_check(mnl_attr_ok(list, mnl_nlmsg_get_payload_len(request)));
	fuzz_check(mnl_attr_get_type(list) == IFLA_VFINFO_LIST);
	fuzz_check(mnl_attr_ok(one, mnl_attr_get_payload_len(list)));
	fuzz_check(mnl_attr_get_type(one) == IFLA_VF_INFO);
	return one;
}

static void check_request(const struct nlmsghdr *request, unsigned ifindex, unsigned vf,
	const struct vf_settings *settings)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(request);
	const struct nlattr *one = find_vf(request);
	const struct ifla_vf_mac *mac = find(one, IFLA_VF_MAC, sizeof(*mac));
	const struct ifla_vf_vlan *vlan = find(one, IFLA_VF_VLAN, sizeof(*vlan));
	const struct ifla_vf_trust *trust = find(one, IFLA_VF_TRUST, sizeof(*trust));

	fuzz_check(request->nlmsg_type == RTM_SETLINK && request->nlmsg_flags & NLM_F_ACK);
	fuzz_check(link->ifi_index == (int)ifindex);
	fuzz_check(settings->set_mac ? mac && mac->vf == vf && !memcmp(mac->mac, settings->mac, 6)
				     : !mac);
	fuzz_check(settings->set_vlan ? vlan && vlan->vf == vf && vlan->vlan == settings->vlan
				      : !vlan);
	fuzz_check(settings->set_trust
			   ? trust && trust->vf == vf && trust->setting == settings->trust
			   : !trust);
}

void fuzz_one(struct fuzz_input *input)
{
	_Alignas(struct nlmsghdr) uint8_t request[VF_REQUEST_SIZE + 16];
	uint8_t how = fuzz_byte(input);
	unsigned ifindex = fuzz_number(input, 4), vf = fuzz_number(input, 4);
	struct vf_settings settings = {
		.set_mac = how & 1,
		.set_vlan = how & 2,
		.set_trust = how & 4,
		.trust = how & 8,
		.vlan = fuzz_number(input, 2),
	};
	size_t size;

	memset(&world, 0, sizeof(world));
	world.input = input;
	fuzz_bytes(input, settings.mac, sizeof(settings.mac));
	memset(request, 0xa5, sizeof(request));
	size = vf_settings_request(request, ifindex, vf, &settings);
	fuzz_check(size <= VF_REQUEST_SIZE && request[VF_REQUEST_SIZE] == 0xa5);
	check_request((const struct nlmsghdr *)request, ifindex, vf, &settings);
	if (vf_settings_send(request) == 0) {
		fuzz_check(world.acknowledged);
		fuzz_goals[DONE].count++;
	} else {
		fuzz_goals[REFUSED].count++;
	}
	fuzz_check(!world.open);
}
