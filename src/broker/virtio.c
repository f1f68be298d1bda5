/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/virtio.h"

#include "base/fd.h"
#include "base/hash.h"
#include "broker/failover.h"
#include "broker/seed.h"
#include "broker/tap.h"
#include "broker/vdpa.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* The same for a machine's name: one that nobody else's card has, of one station (IEEE 802, 8.2). */
static void make_mac(const char *machine, unsigned i, uint8_t mac[static VIRTIO_MAC_SIZE])
{
	uint64_t value = hash_text(i + 1, machine);

	memcpy(mac, &value, VIRTIO_MAC_SIZE);
	mac[0] = (mac[0] & ~1) | 2;
}

/* Of a back end that is to be opened. */
static struct virtio_config *add_device(struct broker_virtio *virtio, enum virtio_type type)
{
	struct virtio_config *device = &virtio->devices[virtio->count++];

	*device = (struct virtio_config){
		.type = type,
		.user_fd = -1,
		.vhost_fd = -1,
		.tap_fd = -1,
	};
	return device;
}

static int add_nets(struct broker_virtio *virtio, const struct broker_config *config,
	const struct host *host, struct error *err)
{
	for (unsigned i = 0; i < config->net_count; i++) {
		const struct broker_net *net = &config->nets[i];
		struct virtio_config *device = add_device(virtio, VIRTIO_NET);
		struct broker_passt *passt = &virtio->passts[i];

		snprintf(device->name, sizeof(device->name), "net%u", i);
		*passt = (struct broker_passt)BROKER_PASST_NONE;
		virtio->net_count++;
		memcpy(device->mac, net->mac, sizeof(device->mac));
		if (!net->has_mac)
			make_mac(config->name, i, device->mac);
		device->is_standby = net->is_standby;
		if (net->is_standby && broker_failover_settle(host, net, device->mac, err))
			return err->code;
		if (net->tap) {
			snprintf(device->name, sizeof(device->name), "%s", net->tap);
			device->tap_fd = broker_tap_open(net->tap, err);
		} else if (net->bridge) {
			device->tap_fd = broker_tap_open_at_bridge(net->bridge, err);
		} else {
			broker_passt_open(passt, device->name, net, err);
		}
		if (err->code)
			return err->code;
	}
	return 0;
}

static const char *node_of(const struct virtio_config *device)
{
	return device->type == VIRTIO_NET ? "/dev/vhost-net" : "/dev/vhost-vsock";
}

static int open_vhost(const struct virtio_config *device, struct error *err)
{
	const char *node = node_of(device);
	int fd = open(node, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (error_sys(err, -errno, node, "cannot be opened") == -EACCES)
		error_hint(err, "add yourself to the group that it has: ls -l %s", node);
	else
		error_hint(err, "load the module: modprobe vhost_%s",
			device->type == VIRTIO_NET ? "net" : "vsock");
	return err->code;
}

static int take_cid(const struct virtio_config *device, struct error *err)
{
	if (device->type != VIRTIO_VSOCK || device->is_vdpa ||
		ioctl(device->vhost_fd, VHOST_VSOCK_SET_GUEST_CID, &device->cid) == 0)
		return 0;
	if (errno == EADDRINUSE)
		return error_set(err, -errno, device->name, "another VM has the CID %llu",
			(unsigned long long)device->cid);
	return error_sys(err, -errno, device->name, "the kernel does not give the CID %llu",
		(unsigned long long)device->cid);
}

static int add_disks(struct broker_virtio *virtio, const struct broker_config *config,
	const struct host *host, struct error *err)
{
	virtio->first_disk = virtio->count;
	for (unsigned i = 0; i < config->disk_count; i++) {
		struct virtio_config *device = add_device(virtio, VIRTIO_BLK);
		struct broker_disk *disk = &virtio->disks[i];

		snprintf(device->name, sizeof(device->name), "disk%u", i);
		*disk = (struct broker_disk)BROKER_DISK_NONE;
		virtio->disk_count++;
		if (broker_disk_open(
			    disk, device->name, &config->disks[i], config->cpus.count, host, err))
			return err->code;
		device->queues = disk->queues;
	}
	return 0;
}

static int add_seed(
	struct broker_virtio *virtio, const struct broker_config *config, struct error *err)
{
	struct virtio_config *device;
	struct broker_disk *disk;
	int fd;

	if (!config->cloud_init.user_data)
		return 0;
	fd = broker_seed_make(config, err);
	if (fd < 0)
		return fd;
	device = add_device(virtio, VIRTIO_BLK);
	disk = &virtio->disks[virtio->disk_count++];
	snprintf(device->name, sizeof(device->name), "cloud-init");
	device->queues = 1;
	*disk = (struct broker_disk)BROKER_DISK_NONE;
	return broker_disk_take(disk, device->name, BROKER_SEED, fd, err);
}

static int add_shares(
	struct broker_virtio *virtio, const struct broker_config *config, struct error *err)
{
	virtio->first_share = virtio->count;
	for (unsigned i = 0; i < config->share_count; i++) {
		struct virtio_config *device = add_device(virtio, VIRTIO_FS);
		struct broker_share *share = &virtio->shares[i];

		snprintf(device->name, sizeof(device->name), "share%u", i);
		memcpy(device->tag, config->shares[i].tag, sizeof(device->tag));
		*share = (struct broker_share)BROKER_SHARE_NONE;
		virtio->share_count++;
		if (broker_share_open(share, device->name, &config->shares[i], err))
			return err->code;
	}
	return 0;
}

static void add_vdpas(struct broker_virtio *virtio, const struct broker_config *config)
{
	virtio->vdpas = config->vdpas;
	virtio->first_vdpa = virtio->count;
	for (unsigned i = 0; i < config->vdpa_count; i++) {
		struct virtio_config *device = add_device(virtio, 0);

		snprintf(device->name, sizeof(device->name), "vdpa%u", i);
		device->is_vdpa = true;
	}
}

int broker_virtio_start(struct broker_virtio *virtio, struct error *err)
{
	for (unsigned i = 0; i < virtio->net_count; i++) {
		if (!virtio->passts[i].net)
			continue;
		if (broker_passt_start(&virtio->passts[i], err))
			return err->code;
		virtio->devices[i].user_fd = virtio->passts[i].machine_fd;
	}
	for (unsigned i = 0; i < virtio->disk_count; i++) {
		if (broker_disk_start(&virtio->disks[i], err))
			return err->code;
		virtio->devices[virtio->first_disk + i].user_fd = virtio->disks[i].machine_fd;
	}
	for (unsigned i = 0; i < virtio->share_count; i++) {
		if (broker_share_start(&virtio->shares[i], err))
			return err->code;
		virtio->devices[virtio->first_share + i].user_fd = virtio->shares[i].machine_fd;
	}
	return 0;
}

static void forget_sockets(struct broker_virtio *virtio)
{
	for (unsigned i = 0; i < virtio->count; i++)
		virtio->devices[i].user_fd = -1;
}

void broker_virtio_watch(struct broker_virtio *virtio, struct loop *loop)
{
	for (unsigned i = 0; i < virtio->net_count; i++)
		broker_passt_handed_over(&virtio->passts[i], loop);
	for (unsigned i = 0; i < virtio->disk_count; i++)
		broker_disk_handed_over(&virtio->disks[i], loop);
	for (unsigned i = 0; i < virtio->share_count; i++)
		broker_share_handed_over(&virtio->shares[i], loop);
	forget_sockets(virtio);
}

void broker_virtio_end(struct broker_virtio *virtio)
{
	/* All write out at once what they have not written yet. */
	for (unsigned i = 0; i < virtio->disk_count; i++)
		broker_disk_ask_to_end(&virtio->disks[i]);
	for (unsigned i = 0; i < virtio->net_count; i++)
		broker_passt_end(&virtio->passts[i]);
	for (unsigned i = 0; i < virtio->share_count; i++)
		broker_share_end(&virtio->shares[i]);
	for (unsigned i = 0; i < virtio->disk_count; i++)
		broker_disk_end(&virtio->disks[i]);
	forget_sockets(virtio);
}

static bool is_a_process(const struct virtio_config *device)
{
	if (device->is_vdpa)
		return false;
	return device->type == VIRTIO_BLK || device->type == VIRTIO_FS ||
	       (device->type == VIRTIO_NET && device->tap_fd < 0);
}

int broker_virtio_begin(struct broker_virtio *virtio, struct error *err)
{
	for (unsigned i = 0; i < virtio->count; i++) {
		struct virtio_config *device = &virtio->devices[i];

		if (is_a_process(device))
			continue;
		device->vhost_fd = device->is_vdpa
					   ? broker_vdpa_open(virtio->vdpas[i - virtio->first_vdpa],
						     device, err)
					   : open_vhost(device, err);
		if (device->vhost_fd < 0 || take_cid(device, err))
			return err->code;
	}
	return 0;
}

void broker_virtio_handed(struct broker_virtio *virtio)
{
	for (unsigned i = 0; i < virtio->count; i++) {
		if (virtio->devices[i].vhost_fd >= 0)
			close(virtio->devices[i].vhost_fd);
		virtio->devices[i].vhost_fd = -1;
	}
}

int broker_virtio_open(struct broker_virtio *virtio, const struct broker_config *config,
	const struct host *host, struct error *err)
{
	if (add_nets(virtio, config, host, err))
		return err->code;
	if (config->vsock_cid) {
		struct virtio_config *vsock = add_device(virtio, VIRTIO_VSOCK);

		snprintf(vsock->name, sizeof(vsock->name), "vsock");
		vsock->cid = config->vsock_cid;
	}
	if (add_disks(virtio, config, host, err) || add_seed(virtio, config, err) ||
		add_shares(virtio, config, err))
		return err->code;
	add_vdpas(virtio, config);
	broker_virtio_begin(virtio, err);
	broker_virtio_handed(virtio);
	return err->code;
}

void broker_virtio_close(struct broker_virtio *virtio)
{
	broker_virtio_handed(virtio);
	for (unsigned i = 0; i < virtio->count; i++)
		if (virtio->devices[i].tap_fd >= 0)
			close(virtio->devices[i].tap_fd);
	for (unsigned i = 0; i < virtio->net_count; i++)
		broker_passt_close(&virtio->passts[i]);
	for (unsigned i = 0; i < virtio->disk_count; i++)
		broker_disk_close(&virtio->disks[i]);
	for (unsigned i = 0; i < virtio->share_count; i++)
		broker_share_close(&virtio->shares[i]);
}
