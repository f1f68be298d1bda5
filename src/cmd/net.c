/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/net.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <linux/if.h>
#include <stdio.h>
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

static bool parse_port_number(const char *text, uint16_t *port)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	*port = value;
	return isdigit((unsigned char)text[0]) && !*end && value && value <= UINT16_MAX;
}

/* "PROTOCOL:[ADDRESS:]PORT-:PORT", of the host's and of the guest's. Without an address only the host reaches it. */
static bool parse_forward(char *text, struct broker_forward *forward)
{
	char *protocol = strsep(&text, ":"), *guest = text ? strstr(text, "-:") : NULL, *port;
	const char *address = "127.0.0.1";
	struct in_addr parsed;

	if (!guest || (strcmp(protocol, "tcp") && strcmp(protocol, "udp")))
		return false;
	*guest = '\0';
	port = strchr(text, ':');
	if (port) {
		*port++ = '\0';
		address = text;
	}
	forward->is_udp = protocol[0] == 'u';
	if (inet_pton(AF_INET, address, &parsed) != 1)
		return false;
	snprintf(forward->address, sizeof(forward->address), "%s", address);
	return parse_port_number(port ? port : text, &forward->port) &&
	       parse_port_number(guest + 2, &forward->guest_port);
}

static int add_forward(struct broker_net *net, char *text, struct error *err)
{
	cleanup_free char *copy = strdup(text);

	if (net->forward_count == BROKER_FORWARDS_MAX)
		return error_set(err, -EINVAL, NULL,
			"--net user: more than %d of hostfwd=", BROKER_FORWARDS_MAX);
	if (copy && parse_forward(copy, &net->forwards[net->forward_count++]))
		return 0;
	return error_set(err, -EINVAL, NULL,
		"--net user: hostfwd=%s is not tcp:[ADDRESS:]PORT-:GUESTPORT, such as "
		"tcp:2222-:22, or udp:",
		text);
}

static int set_mac(struct broker_net *net, const char *kind, const char *text, struct error *err)
{
	if (!cmd_mac_parse(text, net->mac) || !is_card(net->mac))
		return error_set(err, -EINVAL, NULL,
			"--net %s: %s is no address for a card, such as 52:54:00:12:34:56", kind,
			text);
	net->has_mac = true;
	return 0;
}

static int set_primary(
	struct broker_net *net, const char *kind, const char *text, struct error *err)
{
	if (bdf_parse(text, &net->primary)) {
		error_set(err, -EINVAL, NULL, "--net %s: failover-for=%s is no PCI address", kind,
			text);
		error_hint(err, "an address looks like 0000:01:00.0 or 01:00.0");
		return err->code;
	}
	net->is_standby = true;
	return 0;
}

int cmd_net_parse(char *text, struct broker_net *net, struct error *err)
{
	char *rest = text, *kind = strsep(&rest, ","), *word;
	bool is_user = strcmp(kind, "user") == 0;
	const char *name = NULL;

	if (strncmp(kind, "tap=", 4) == 0)
		name = net->tap = kind + 4;
	else if (strncmp(kind, "bridge=", 7) == 0)
		name = net->bridge = kind + 7;
	else if (!is_user)
		return error_set(err, -EINVAL, NULL,
			"--net %s: it begins with tap=NAME, bridge=NAME or user", kind);
	if (name && !is_interface(name))
		return error_set(
			err, -EINVAL, NULL, "--net %s: this is no name of an interface", kind);
	while (!err->code && (word = strsep(&rest, ","))) {
		if (strncmp(word, "mac=", 4) == 0)
			set_mac(net, kind, word + 4, err);
		else if (is_user && strncmp(word, "hostfwd=", 8) == 0)
			add_forward(net, word + 8, err);
		else if (!is_user && strncmp(word, "failover-for=", 13) == 0)
			set_primary(net, kind, word + 13, err);
		else
			error_set(err, -EINVAL, NULL, "--net %s: '%s' is not mac=ADDRESS%s", kind,
				word, is_user ? " or hostfwd=FORWARD" : " or failover-for=ADDRESS");
	}
	return err->code;
}

static bool is_passed(const struct broker_config *config, const struct bdf *bdf)
{
	for (unsigned i = 0; i < config->device_count; i++)
		if (bdf_equal(bdf, &config->devices[i]))
			return true;
	return false;
}

int cmd_net_check(const struct broker_config *config, struct error *err)
{
	for (unsigned i = 0; i < config->net_count && !err->code; i++) {
		const struct broker_net *net = &config->nets[i];
		char name[BDF_TEXT];

		if (!net->is_standby)
			continue;
		bdf_format(&net->primary, name);
		if (!is_passed(config, &net->primary)) {
			error_set(err, -EINVAL, NULL,
				"--net: failover-for=%s is no --device of this machine", name);
			error_hint(err, "pass it through: --device %s", name);
		}
		for (unsigned j = 0; j < i && !err->code; j++)
			if (config->nets[j].is_standby &&
				bdf_equal(&net->primary, &config->nets[j].primary))
				error_set(err, -EINVAL, NULL,
					"--net: failover-for=%s is given twice, and one card "
					"alone stands by for another",
					name);
	}
	return err->code;
}
