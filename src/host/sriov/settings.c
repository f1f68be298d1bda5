/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/sriov/settings.h"

#include "base/log.h"
#include "base/text.h"
#include "host/device/vfs.h"
#include "host/system/guard.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#define SEQUENCE 1

size_t vf_settings_request(
	void *buffer, unsigned ifindex, unsigned vf, const struct vf_settings *settings)
{
	struct ifla_vf_mac mac = { .vf = vf };
	struct ifla_vf_vlan vlan = { .vf = vf, .vlan = settings->vlan };
	struct ifla_vf_trust trust = { .vf = vf, .setting = settings->trust };
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct nlattr *list, *one;
	struct ifinfomsg *link;

	request->nlmsg_type = RTM_SETLINK;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	request->nlmsg_seq = SEQUENCE;
	link = mnl_nlmsg_put_extra_header(request, sizeof(*link));
	link->ifi_family = AF_UNSPEC;
	link->ifi_index = ifindex;
	list = mnl_attr_nest_start(request, IFLA_VFINFO_LIST);
	one = mnl_attr_nest_start(request, IFLA_VF_INFO);
	memcpy(mac.mac, settings->mac, sizeof(settings->mac));
	if (settings->set_mac)
		mnl_attr_put(request, IFLA_VF_MAC, sizeof(mac), &mac);
	if (settings->set_vlan)
		mnl_attr_put(request, IFLA_VF_VLAN, sizeof(vlan), &vlan);
	if (settings->set_trust)
		mnl_attr_put(request, IFLA_VF_TRUST, sizeof(trust), &trust);
	mnl_attr_nest_end(request, one);
	mnl_attr_nest_end(request, list);
	return request->nlmsg_len;
}

static int exchange_request(struct mnl_socket *socket, const struct nlmsghdr *request)
{
	char answer[8192]; /* the error repeats the request */
	int more = MNL_CB_OK;
	ssize_t got;

	if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
		mnl_socket_sendto(socket, request, request->nlmsg_len) < 0)
		return -errno;
	/* Only the acknowledgement ends it well, not whatever else may come. */
	while (more == MNL_CB_OK) {
		got = mnl_socket_recvfrom(socket, answer, sizeof(answer));
		if (got < 0)
			return -errno;
		more = mnl_cb_run(answer, got, SEQUENCE, mnl_socket_get_portid(socket), NULL, NULL);
	}
	return more < 0 ? -errno : 0;
}

int vf_settings_send(const void *request)
{
	struct mnl_socket *socket = mnl_socket_open(NETLINK_ROUTE);
	int code = socket ? exchange_request(socket, request) : -errno;

	if (socket)
		mnl_socket_close(socket);
	return code;
}

static int refuse_no_card(
	const struct host *host, const struct bdf *pf, const char *name, struct error *err)
{
	char driver[HOST_NAME] = "", parent[BDF_TEXT];

	host_device_driver(host, pf, driver);
	error_set(err, -EOPNOTSUPP, name,
		"MAC, VLAN and trust are set through the network interface of its physical function "
		"%s, which has none (driver: %s)",
		bdf_format(pf, parent), driver[0] ? driver : "none");
	error_hint(err, "where it is a network card: 'penstock release %s' gives it to its driver",
		parent);
	return -EOPNOTSUPP;
}

static int explain_settings(int code, const char *name, const char *interface, struct error *err)
{
	error_sys(err, code, name, "the driver of %s did not take the settings", interface);
	if (code == -EPERM || code == -EACCES)
		error_hint(err, "run this as root, as with sudo");
	else if (code == -EOPNOTSUPP)
		error_hint(err, "it can set less than was asked for: try the settings one by one");
	else if (code == -ENETDOWN || code == -EAGAIN || code == -EBUSY)
		error_hint(err, "try it with the interface up: 'ip link set %s up'", interface);
	else
		error_hint(err, "'dmesg | tail' may tell why");
	return code;
}

static void tell_settings(const char *name, const struct vf_settings *settings, const char *verb)
{
	const uint8_t *mac = settings->mac;

	if (settings->set_mac)
		log_info("%s: MAC address %s%02x:%02x:%02x:%02x:%02x:%02x", name, verb, mac[0],
			mac[1], mac[2], mac[3], mac[4], mac[5]);
	if (settings->set_vlan && settings->vlan)
		log_info("%s: VLAN %s%u", name, verb, settings->vlan);
	else if (settings->set_vlan)
		log_info("%s: VLAN %snone", name, verb);
	if (settings->set_trust)
		log_info("%s: trust %s%s", name, verb, settings->trust ? "on" : "off");
}

/* Most cards serve their virtual functions only while they are up themselves. */
static void warn_if_down(const struct host *host, const char *name, const char *interface)
{
	long flags = host_read_number(host, IFF_UP, "/sys/class/net/%s/flags", interface);

	if (!(flags & IFF_UP))
		log_warning("%s: its card is down, and may not serve it: 'ip link set %s up'", name,
			interface);
}

/* -1 in a recorded tree whose interfaces this host does not have. */
static long read_index(const struct host *host, const char *interface)
{
	return host_read_number(host, -1, "/sys/class/net/%s/ifindex", interface);
}

int vf_settings_apply(const struct host *host, const struct bdf *vf,
	const struct vf_settings *settings, bool dry_run, struct error *err)
{
	char name[BDF_TEXT], interface[HOST_NAME];
	_Alignas(struct nlmsghdr) char request[VF_REQUEST_SIZE];
	struct guard guard = {
		.host = host,
		.object = name,
		.doing = "its network card to take the settings",
	};
	unsigned number;
	struct bdf pf;
	long ifindex;
	int code;

	bdf_format(vf, name);
	if (host_vfs_parent(host, vf, &pf, &number)) {
		error_set(err, -EINVAL, name, "it is no virtual function");
		error_hint(err, "'penstock vf create' makes some and prints their addresses");
		return -EINVAL;
	}
	ifindex = host_device_interface(host, &pf, interface) ? -1 : read_index(host, interface);
	if (ifindex <= 0)
		return refuse_no_card(host, &pf, name, err);
	if (!dry_run) {
		vf_settings_request(request, ifindex, number, settings);
		code = guard_call(&guard, vf_settings_send, request);
		if (code)
			return explain_settings(code, name, interface, err);
	}
	tell_settings(name, settings, dry_run ? "would be " : "is ");
	warn_if_down(host, name, interface);
	return 0;
}
