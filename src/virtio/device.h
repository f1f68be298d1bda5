/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/vector.h"
#include "pci/msi.h"
#include "virtio/virtio.h"

/* Between the files of this room. Everything is called with the device's lock held. */

#define VIRTIO_QUEUE_SIZE_MAX 256
#define VIRTIO_NO_VECTOR      0xffff
#define VIRTIO_SPACE_MAX      256 /* bytes of a device's own configuration */

struct virtio_queue {
	/* What the driver has said, and what a reset makes of it (4.1.4.3). */
	uint16_t size;
	uint16_t vector;
	bool enabled;
	uint64_t descriptors, driver, device; /* GPAs of the three parts of a split queue (2.7) */
	/* As long as the device. */
	int kick;              /* eventfd: the doorbell */
	bool has_doorbell;     /* KVM signals it, without an exit to us */
	struct kvm_vector irq; /* its eventfd is what the back end calls by */
};

/* What a kind of device is to the guest. */
struct virtio_model {
	enum virtio_type type;
	uint32_t class_code; /* class, subclass, interface */
	unsigned queues;     /* 0: as many as the configuration says */
	unsigned unserved;   /* of them: the last, of which the back end knows nothing */
};

struct virtio_backend_ops {
	bool pins; /* start() needs all of guest RAM present */
	/* What it can do, once, and what of that the device offers is filled in: features, space. */
	int (*open)(struct virtio_device *device, struct error *err);
	/* The driver is ready: serve the enabled queues, by the accepted features. 0 or a negative errno. */
	int (*start)(struct virtio_device *device);
	/* Touch neither queues nor guest RAM any more. */
	void (*stop)(struct virtio_device *device);
	/* Those that follow may be NULL. The driver writes to its configuration. */
	void (*write_space)(
		struct virtio_device *device, unsigned offset, unsigned size, uint64_t value);
	int (*watch)(struct virtio_device *device);
	void (*close)(struct virtio_device *device);
};

/* user.c's. */
struct virtio_user {
	uint64_t protocol; /* the features of it that are in use */
	int channel;       /* by which the back end speaks by itself; -1: none */
	int64_t deadline;  /* of what it is being asked for */
	int64_t patience;  /* ms that the loop will yet wait for it, */
	int64_t waited;    /* as it was then */
	char why[64];      /* it cannot be gone on with */
};

/* vdpa.c's. */
struct virtio_vdpa {
	uint64_t iotlb;      /* what of its ways to map guest RAM is in use */
	uint32_t space_size; /* bytes of its configuration */
	int changed;         /* eventfd: that, or its status, is another; -1 */
	bool is_mapped;      /* guest RAM, as far as the kernel has taken it */
};

struct virtio_device {
	struct pci_device pci;
	struct msix msix;
	struct virtio_config config;
	const struct virtio_model *model;
	const struct virtio_backend_ops *backend;
	struct kvm_vm *vm;
	const struct virtio_ram *ram;
	uint64_t backend_features; /* all that the back end knows */
	uint64_t offered, accepted;
	uint32_t offered_select, accepted_select;
	uint8_t space[VIRTIO_SPACE_MAX]; /* its own configuration, as the driver reads it */
	uint8_t generation;              /* of that */
	uint8_t status;
	bool is_running; /* the back end has been started */
	bool is_lost;    /* the back end has gone, or is not to be trusted: for good */
	bool changed;    /* the configuration, since the ISR register was read */
	uint16_t config_vector;
	struct kvm_vector config_irq;
	uint16_t queue_select;
	unsigned queue_count;
	unsigned served; /* of them: the first */
	uint16_t queue_size_max;
	struct virtio_queue queues[VIRTIO_VDPA_QUEUES_MAX];
	struct virtio_user user;
	struct virtio_vdpa vdpa;
	struct loop *loop; /* NULL: nothing is watched */
	bool told;         /* of what the guest has done wrong: once is enough */
};

extern const struct virtio_backend_ops virtio_kernel_ops, virtio_user_ops, virtio_vdpa_ops;

/* Features by their numbers, and those of the queues, which a back end must know as well. */
#define VIRTIO_BIT(n) (1ULL << (n))
#define VIRTIO_QUEUE_FEATURES                                                            \
	(VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | \
		VIRTIO_BIT(VIRTIO_F_VERSION_1))

/* What a net's back end may do for the guest, and the guest for it. */
#define VIRTIO_OFFLOADS                                                                     \
	(VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |               \
		VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) |    \
		VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | \
		VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN))

/* A net's configuration: its address, and that its link is up. */
void virtio_describe_net(struct virtio_device *device);

/* The HVA of [gpa, gpa + size), or NULL where that is not whole within one region. */
void *virtio_at(const struct virtio_device *device, uint64_t gpa, uint64_t size);

/* What only the driver is to blame for is found before the back end hears of it (2.7). 0 or -EFAULT. */
int virtio_check_queue(const struct virtio_device *device, const struct virtio_queue *queue);

/* The queue that the driver has selected; NULL: there is none of this number. */
struct virtio_queue *virtio_selected(struct virtio_device *device);

/* The driver writes the status register. */
void virtio_set_status(struct virtio_device *device, uint8_t status);

/* The configuration is another: the driver is told. */
void virtio_space_changed(struct virtio_device *device);

/* Nothing will come of what the driver has asked for, until it resets the device: it is told. */
void virtio_need_reset(struct virtio_device *device);

/* The back end is no more: the device says that it needs a reset, and that does not help. Once. */
void virtio_lose(struct virtio_device *device, const char *why);

/* The guest has changed something that interrupts depend on: bring KVM in line with it. */
void virtio_update_interrupts(struct virtio_device *device);

/* registers.c: capabilities and BAR, and what the bus calls. */
int virtio_registers_init(struct virtio_device *device);
extern const struct pci_device_ops virtio_pci_ops;
