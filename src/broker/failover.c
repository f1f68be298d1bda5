/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/failover.h"

#include "host/device/device.h"
#include "host/device/vfs.h"

#include <errno.h>
#include <netinet/ether.h>
#include <string.h>

#define CLASS_NETWORK 0x02
#define ITS_OWN       0 /* of addr_assign_type: NET_ADDR_PERM, which outlives a reset */

/* The address that a driver in the guest will find as well. */
static bool read_own_mac(
	const struct host *host, const char *interface, uint8_t mac[static VIRTIO_MAC_SIZE])
{
	static const uint8_t none[VIRTIO_MAC_SIZE];
	struct ether_addr address;
	char text[32];

	if (host_read(host, text, sizeof(text), "/sys/class/net/%s/address", interface) < 0 ||
		strlen(text) != strlen("00:00:00:00:00:00") || !ether_aton_r(text, &address) ||
		memcmp(&address, none, sizeof(none)) == 0 ||
		host_read_number(host, ITS_OWN, "/sys/class/net/%s/addr_assign_type", interface) !=
			ITS_OWN)
		return false;
	memcpy(mac, &address, VIRTIO_MAC_SIZE);
	return true;
}

/* The guest's driver makes one up for a virtual function that has none. */
static int refuse_mac(
	const struct host *host, const struct bdf *card, const char *why, struct error *err)
{
	char name[BDF_TEXT];
	struct bdf pf;
	unsigned number;

	bdf_format(card, name);
	error_set(err, -ENXIO, name,
		"the MAC address that a card needs to stand by for it is not known: %s", why);
	if (host_vfs_parent(host, card, &pf, &number) == 0)
		error_hint(err,
			"give it one, 'penstock vf set --mac ADDRESS %s' (ip link set PF vf %u mac "
			"ADDRESS), and say the same with mac=ADDRESS",
			name, number);
	else
		error_hint(err, "say the one that it keeps, with mac=ADDRESS");
	return err->code;
}

int broker_failover_settle(const struct host *host, const struct broker_net *net,
	uint8_t mac[static VIRTIO_MAC_SIZE], struct error *err)
{
	struct host_device device;
	char interface[HOST_NAME], name[BDF_TEXT];

	if (host_device_read(host, &net->primary, &device, err))
		return err->code;
	if (device.class_code >> 16 != CLASS_NETWORK) {
		error_set(err, -EINVAL, bdf_format(&net->primary, name),
			"failover-for= is about network cards, and this is none");
		return err->code;
	}
	if (net->has_mac)
		return 0;
	if (host_device_interface(host, &net->primary, interface))
		return refuse_mac(host, &net->primary, "the host's driver of it shows none", err);
	if (!read_own_mac(host, interface, mac))
		return refuse_mac(host, &net->primary, "it has none of its own", err);
	return 0;
}
