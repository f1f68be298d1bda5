/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "kvm/vector.h"
#include "pci/msi.h"
#include "virtio/virtio.h"

/* Between the files of this room. Everything is called with the device's lock held. */

#define VIRTIO_QUEUES_MAX     8
#define VIRTIO_QUEUE_SIZE_MAX 256
#define VIRTIO_NO_VECTOR      0xffff
#define VIRTIO_SPACE_MAX      32 /* bytes of a device's own configuration */

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
	unsigned queues;     /* those that the back end serves come first */
	unsigned served;
};

struct virtio_backend_ops {
	/* What it can do, once, and what of that the device offers is filled in: features, space. */
	int (*open)(struct virtio_device *device, struct error *err);
	/* The driver is ready: serve the enabled queues, by the accepted features. 0 or a negative errno. */
	int (*start)(struct virtio_device *device);
	/* Touch neither queues nor guest RAM any more. */
	void (*stop)(struct virtio_device *device);
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
	uint8_t space[VIRTIO_SPACE_MAX]; /* which the driver only reads */
	uint8_t status;
	bool is_running; /* the back end has been started */
	bool changed;    /* the configuration, since the ISR register was read */
	uint16_t config_vector;
	struct kvm_vector config_irq;
	uint16_t queue_select;
	struct virtio_queue queues[VIRTIO_QUEUES_MAX];
	bool told; /* of what the guest has done wrong: once is enough */
};

extern const struct virtio_backend_ops virtio_kernel_ops;

/* The HVA of [gpa, gpa + size), or NULL where that is not whole within one region. */
void *virtio_at(const struct virtio_device *device, uint64_t gpa, uint64_t size);

/* The queue that the driver has selected; NULL: there is none of this number. */
struct virtio_queue *virtio_selected(struct virtio_device *device);

/* The driver writes the status register. */
void virtio_set_status(struct virtio_device *device, uint8_t status);

/* The guest has changed something that interrupts depend on: bring KVM in line with it. */
void virtio_update_interrupts(struct virtio_device *device);

/* registers.c: capabilities and BAR, and what the bus calls. */
int virtio_registers_init(struct virtio_device *device);
extern const struct pci_device_ops virtio_pci_ops;
