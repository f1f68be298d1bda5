/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/net.h"

#include <ctype.h>
#include <errno.h>
#include <linux/if.h>
#include <stdlib.h>
#include <string.h>

bool cmd_mac_parse(const char *text, uint8_t mac[static VIRTIO_MAC_SIZE])
{
	const char *at = text;

	for (int i = 0; i < VIRTIO_MAC_SIZE; i++, at += 3) {
		if (!isxdigit((unsigned char)at[0]) || !isxdigit((unsigned char)at[1]) ||
			at[2] != (i + 1 < VIRTIO_MAC_SIZE ? ':' : '\0'))
			return false;
		mac[i] = strtoul(at, NULL, 16);
	}
	return !(mac[0] & 1);
}

/* No card has that of all zeros. */
static bool is_card(const uint8_t mac[static VIRTIO_MAC_SIZE])
{
	static const uint8_t none[VIRTIO_MAC_SIZE];

	return memcmp(mac, none, sizeof(none)) != 0;
}

static bool is_interface(const char *name)
{
	return name[0] && strlen(name) < IFNAMSIZ && !strpbrk(name, "/ \t\n") &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int cmd_net_parse(char *text, struct broker_net *net, struct error *err)
{
	char *rest = text, *word = strsep(&rest, ",");

	if (strncmp(word, "tap=", 4))
		return error_set(err, -EINVAL, NULL, "--net %s: it begins with tap=NAME", word);
	net->tap = word + 4;
	if (!is_interface(net->tap))
		return error_set(
			err, -EINVAL, NULL, "--net %s: this is no name of an interface", word);
	while ((word = strsep(&rest, ","))) {
		if (strncmp(word, "mac=", 4))
			return error_set(err, -EINVAL, NULL,
				"--net tap=%s: '%s' is not mac=ADDRESS", net->tap, word);
		if (!cmd_mac_parse(word + 4, net->mac) || !is_card(net->mac))
			return error_set(err, -EINVAL, NULL,
				"--net tap=%s: %s is no address for a card, such as "
				"52:54:00:12:34:56",
				net->tap, word + 4);
		net->has_mac = true;
	}
	return 0;
}
