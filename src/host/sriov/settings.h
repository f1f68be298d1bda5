/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

#include <stdint.h>

/* What a network card is told about one of its VFs. */
struct vf_settings {
	bool set_mac, set_vlan, set_trust;
	uint8_t mac[6];
	uint16_t vlan; /* 1 to 4094, 0: none */
	bool trust;    /* its driver may change its MAC address and listen to others' */
};

/* Tell the PF's driver, by rtnetlink. */
int vf_settings_apply(const struct host *host, const struct bdf *vf,
	const struct vf_settings *settings, bool dry_run, struct error *err);

/*
 * For vf_settings_apply(), and for tests: the rtnetlink request to interface number ifindex, in a buffer
 * of VF_REQUEST_SIZE bytes. Its length.
 */
#define VF_REQUEST_SIZE 256
size_t vf_settings_request(
	void *buffer, unsigned ifindex, unsigned vf, const struct vf_settings *settings);

/* Send it to the kernel and await its answer. 0 or a negative errno. */
int vf_settings_send(const void *request);
