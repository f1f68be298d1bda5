/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <stdint.h>

/* A PCI device as sysfs tells it. */
struct host_device {
	struct bdf bdf;
	uint16_t vendor, device;
	uint16_t subsystem_vendor, subsystem_device;
	uint32_t class_code; /* 24 bits: base class, subclass, programming interface */
	uint8_t header; /* type of the configuration header: 0 ordinary, 1 PCI bridge, 2 CardBus */
	bool boot_display;        /* the firmware showed the boot on it */
	int group;                /* IOMMU group, -1: none */
	int numa_node;            /* -1: none, or the machine has one only */
	char driver[HOST_NAME];   /* "": none */
	char override[HOST_NAME]; /* driver_override, "": not set */
};

#define HOST_GROUP_MAX 256 /* devices of one IOMMU group; the PCI devices of 32 slots */

/* -ENODEV: there is no such device. */
int host_device_read(const struct host *host, const struct bdf *bdf, struct host_device *device,
	struct error *err);

/* The driver alone, "" where there is none. */
int host_device_driver(
	const struct host *host, const struct bdf *bdf, char driver[static HOST_NAME]);

/*
 * The group alone, -1: none. Unlike host_device_read() it does not wait while somebody takes the device from
 * its driver.
 */
int host_device_group(const struct host *host, const struct bdf *bdf);

bool host_device_exists(const struct host *host, const struct bdf *bdf);

/*
 * The node of its own that a device at a driver of VFIO has since Linux 6.6, "/dev/vfio/devices/vfio0".
 * 0 or -ENOENT.
 */
int host_device_vfio_node(
	const struct host *host, const struct bdf *bdf, char node[static HOST_NAME]);

/* The network interface that its driver makes of it, the first where there are more. 0 or -ENOENT. */
int host_device_interface(
	const struct host *host, const struct bdf *bdf, char interface[static HOST_NAME]);

/* The device's own directory in /sys/devices, without symbolic links. 0 or a negative errno. */
int host_device_path(const struct host *host, const struct bdf *bdf, char path[static PATH_MAX]);

bool host_device_is_display(const struct host_device *device);

/*
 * Of a power_state as sysfs tells it: D1 to D3cold. Of a device without a driver that is awake the kernel
 * may say "unknown".
 */
bool host_power_is_low(const char *state);

/* A bridge stays with the host: VFIO does not take it. */
bool host_device_is_bridge(const struct host_device *device);

/*
 * Of the bridges in a device's group, whose name is given: VFIO minds one whose driver may do DMA of its own.
 * 0 or -EBUSY.
 */
int host_device_check_group_bridge(
	const struct host_device *bridge, const char *name, struct error *err);

/*
 * No guest can use a bridge; nor the host or ISA bridge of the board, which VFIO would take. 0 or
 * -EINVAL.
 */
int host_device_check_bridge(const struct host_device *device, struct error *err);

/* vfio-pci itself or one of the vendors' variants of it, as mlx5_vfio_pci. */
bool host_driver_is_vfio(const char *driver);

/*
 * With this driver, or with none, a device does not keep the rest of its group from VFIO.
 */
bool host_driver_is_viable(const char *driver);

/* Has the host any IOMMU group? */
bool host_has_groups(const struct host *host);

/* All PCI devices of an IOMMU group, sorted. Their number, or a negative errno. */
int host_group_devices(const struct host *host, int group,
	struct bdf devices[static HOST_GROUP_MAX], struct error *err);
