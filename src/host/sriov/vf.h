/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/device/device.h"

#include <stdint.h>

/*
 * Virtual functions (SR-IOV): PCI devices that a physical function (PF) makes out of itself. They
 * live as long as the PF's driver wants; taking the PF away takes its VFs along.
 */

/* The VFs that a PF has now, in the order of their numbers, to be freed. Count, or an errno. */
ssize_t host_vf_list(
	const struct host *host, const struct bdf *pf, struct bdf **vfs, struct error *err);

/* The PF of a VF, and the VF's number. -ENOENT, without an error, where it is no VF. */
int host_vf_parent(const struct host *host, const struct bdf *vf, struct bdf *pf, unsigned *number);

/* -EBUSY where a machine, or another program through VFIO, uses a VF of this device. */
int host_vf_check_unused(const struct host *host, const struct bdf *pf, struct error *err);

/* For a device that is to go to vfio-pci, which takes none that has VFs: -EBUSY where it has. */
int host_vf_check_none(
	const struct host *host, const struct host_device *device, struct error *err);

/* Make count VFs, and with bind give them to vfio-pci, as "penstock bind" does. All or none. */
int host_vf_create(const struct host *host, const struct bdf *pf, unsigned count, bool bind,
	bool dry_run, struct error *err);

/* Remove all VFs of a PF, unless one is in use; the second where the PF's lock is had already. */
int host_vf_destroy(const struct host *host, const struct bdf *pf, bool dry_run, struct error *err);
int host_vf_remove(const struct host *host, const struct bdf *pf, int lock, struct error *err);

/* What a network card is told about one of its VFs. */
struct vf_settings {
	bool set_mac, set_vlan, set_trust;
	uint8_t mac[6];
	uint16_t vlan; /* 1 to 4094, 0: none */
	bool trust;    /* its driver may change its MAC address and listen to others' */
};

/* Tell the PF's driver, by rtnetlink. */
int host_vf_set(const struct host *host, const struct bdf *vf, const struct vf_settings *settings,
	bool dry_run, struct error *err);

/*
 * For host_vf_set(), and for tests: the rtnetlink request to interface number ifindex, in a buffer
 * of VF_REQUEST_SIZE bytes. Its length.
 */
#define VF_REQUEST_SIZE 256
size_t vf_settings_request(
	void *buffer, unsigned ifindex, unsigned vf, const struct vf_settings *settings);

/* Send it to the kernel and await its answer. 0 or a negative errno. */
int vf_settings_send(const void *request);
