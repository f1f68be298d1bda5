/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/bdf.h"
#include "base/error.h"
#include "machine/machine.h"

/*
 * The privileged parent of a machine. It binds the devices, opens what the machine needs, starts the
 * machine in a child process, starts it anew when the guest reboots, and gives every device back
 * whichever way the machine ends.
 */

enum broker_serial {
	BROKER_SERIAL_STDIO,
	BROKER_SERIAL_FILE,
	BROKER_SERIAL_PTY,
	BROKER_SERIAL_NONE,
};

enum broker_iommu {
	BROKER_IOMMU_AUTO, /* iommufd where the kernel and all devices have it */
	BROKER_IOMMU_IOMMUFD,
	BROKER_IOMMU_TYPE1,
};

/* What becomes of a machine whose guest reboots, or crashes: panics, or ends in a triple fault. */
enum broker_policy {
	BROKER_POLICY_RESET,
	BROKER_POLICY_PAUSE,
	BROKER_POLICY_STOP,
};

/* A port of the host's that leads to one of the guest's. */
struct broker_forward {
	bool is_udp;
	char address[16]; /* of the host's, IPv4 */
	uint16_t port, guest_port;
};

#define BROKER_FORWARDS_MAX 16

/* A network card of the guest's, and what of the host's it is connected with, or a network of its own. */
struct broker_net {
	const char *tap;
	const char *bridge; /* both NULL: the latter, with what follows */
	struct broker_forward forwards[BROKER_FORWARDS_MAX];
	unsigned forward_count;
	bool has_mac; /* else it is the primary's, or follows from the machine's name */
	uint8_t mac[VIRTIO_MAC_SIZE];
	bool is_standby; /* for a passed card, with which the guest takes it as one: */
	struct bdf primary;
};

#define BROKER_NETS_MAX   8
#define BROKER_SHARES_MAX 4
#define BROKER_VDPAS_MAX  4
#define BROKER_DISKS_MAX  7 /* with all of these and a vsock as many as a machine has room for */

enum broker_format {
	BROKER_FORMAT_ANY, /* as the name and the bytes agree */
	BROKER_FORMAT_RAW,
	BROKER_FORMAT_QCOW2,
};

enum broker_cache {
	BROKER_CACHE_WRITEBACK, /* the host's page cache; a flush of the guest's is durable */
	BROKER_CACHE_NONE,      /* past the page cache */
	BROKER_CACHE_UNSAFE,    /* the guest's flushes do nothing */
};

struct broker_disk_config {
	const char *path;
	enum broker_format format;
	bool readonly;
	enum broker_cache cache;
	unsigned queues; /* 0: as many as the guest has CPUs, within limits */
};

/* A directory of the host's, which the guest finds by its tag. */
struct broker_share_config {
	const char *path;
	char tag[VIRTIO_TAG_SIZE + 1];
	bool readonly;
};

/* For cloud-init in the guest, which finds it on one more disk. */
struct broker_cloud_init {
	const char *user_data; /* files; NULL: there is no such disk */
	const char *meta_data; /* NULL: that of the name */
	const char
		*name; /* given to the machine; NULL: none was, and its first disk stands for it */
};

/* A display, shown by VNC. */
struct broker_vnc {
	bool wanted;
	const char *path; /* of its socket; NULL: by the machine's name, beside the monitor's */
	unsigned port;    /* in place of it: at 127.0.0.1; 0 */
};

struct broker_config {
	const char *name;
	const struct smbios_config *smbios;
	const char *firmware; /* "uefi" or a file; NULL: the kernel runs first */
	bool tpm;             /* its state is next to nvram, or not kept */
	const char *nvram;    /* the file of its variables; NULL: they are not kept */
	const char *kernel;   /* NULL: firmware finds one */
	const char *initrd;   /* NULL: none */
	const char *cmdline;
	uint64_t memory;    /* bytes */
	uint64_t hugepages; /* RAM is of the host's pool of those of 2 MiB or 1 GiB; 0: of none */
	bool prealloc;      /* all RAM is present before the guest starts */
	struct kvm_cpus cpus;
	bool rtc_local;
	struct bdf devices[MACHINE_DEVICES_MAX];
	const char *roms[MACHINE_DEVICES_MAX]; /* of each: a file, "off", or NULL for its own */
	bool plain[MACHINE_DEVICES_MAX];       /* of each: what quirks say of it is left out */
	unsigned device_count;
	struct broker_net nets[BROKER_NETS_MAX];
	unsigned net_count;
	struct broker_disk_config disks[BROKER_DISKS_MAX];
	unsigned disk_count;
	struct broker_cloud_init cloud_init;
	struct broker_share_config shares[BROKER_SHARES_MAX];
	unsigned share_count;
	uint32_t vsock_cid;                  /* 0: none */
	const char *vdpas[BROKER_VDPAS_MAX]; /* nodes: /dev/vhost-vdpa-N */
	unsigned vdpa_count;
	struct broker_vnc vnc;
	enum broker_iommu iommu;
	unsigned ports;                      /* empty root ports, for devices to come */
	enum machine_action on_device_error; /* MACHINE_REPORT, DETACH or STOP */
	enum broker_serial serial;
	const char *serial_path; /* for BROKER_SERIAL_FILE */
	const char *monitor;     /* a path for one more socket of the monitor; NULL */
	enum broker_policy on_reboot, on_crash;
	bool force; /* take devices that the host uses */
};

/*
 * Run the machine to its end. The exit code: 0 after a power-off, 128 + N where signal N ended it,
 * otherwise 1 with err filled in.
 */
int broker_run(const struct broker_config *config, struct error *err);
