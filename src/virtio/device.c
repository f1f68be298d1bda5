/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "virtio/device.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

static const struct virtio_model models[] = {
	{ VIRTIO_NET, 0x020000, .queues = 2 },
	{ VIRTIO_BLK, 0x010000, .queues = 0 },
	/* One for what must not wait, and one for requests (5.11.2). */
	{ VIRTIO_FS, 0x018000, .queues = 2 },
	/* The third is for events, of which there is only that of a migration. */
	{ VIRTIO_VSOCK, 0x078000, .queues = 3, .unserved = 1 },
};

void *virtio_at(const struct virtio_device *device, uint64_t gpa, uint64_t size)
{
	for (unsigned i = 0; i < device->ram->count; i++) {
		const struct virtio_region *region = &device->ram->regions[i];

		if (gpa >= region->gpa && size <= region->size &&
			gpa - region->gpa <= region->size - size)
			return (char *)region->hva + (gpa - region->gpa);
	}
	return NULL;
}

static bool is_whole(
	const struct virtio_device *device, uint64_t gpa, uint64_t size, unsigned align)
{
	return gpa % align == 0 && virtio_at(device, gpa, size);
}

int virtio_check_queue(const struct virtio_device *device, const struct virtio_queue *queue)
{
	uint64_t size = queue->size;

	return is_whole(device, queue->descriptors, size * sizeof(struct vring_desc), 16) &&
			       is_whole(device, queue->driver, 6 + 2 * size, 2) &&
			       is_whole(device, queue->device,
				       6 + size * sizeof(struct vring_used_elem), 4)
		       ? 0
		       : -EFAULT;
}

struct virtio_queue *virtio_selected(struct virtio_device *device)
{
	return device->queue_select < device->queue_count ? &device->queues[device->queue_select]
							  : NULL;
}

/* Interrupts: an irqfd for each queue, and one for changes of the configuration. */

static bool is_wanted(const struct virtio_device *device, uint16_t vector)
{
	return msix_enabled(&device->msix, &device->pci) && vector < device->msix.vectors &&
	       !msix_masked(&device->msix, &device->pci, vector);
}

/* True: a commit is needed before it can be attached. */
static bool route_irq(struct virtio_device *device, struct kvm_vector *irq, uint16_t vector)
{
	struct msi_message message;

	if (!is_wanted(device, vector)) {
		kvm_vector_detach(irq, device->vm);
		return false;
	}
	message = msix_message(&device->msix, vector);
	return kvm_vector_route(irq, device->vm, message.address, message.data);
}

static int attach_irq(struct virtio_device *device, struct kvm_vector *irq, uint16_t vector)
{
	return is_wanted(device, vector) ? kvm_vector_attach(irq, device->vm) : 0;
}

static void tell_once(struct virtio_device *device, const char *what, int code)
{
	if (!device->told)
		log_warning("%s: %s: %s", device->config.name, what, strerror(-code));
	device->told = true;
}

void virtio_update_interrupts(struct virtio_device *device)
{
	bool commit = route_irq(device, &device->config_irq, device->config_vector);
	unsigned count = device->queue_count;
	int code;

	for (unsigned i = 0; i < count; i++)
		commit |= route_irq(device, &device->queues[i].irq, device->queues[i].vector);
	code = commit ? kvm_routes_commit(device->vm) : 0;
	if (!code)
		code = attach_irq(device, &device->config_irq, device->config_vector);
	else
		device->config_irq.is_routed = false;
	for (unsigned i = 0; i < count; i++) {
		if (!code)
			code = attach_irq(device, &device->queues[i].irq, device->queues[i].vector);
		else
			device->queues[i].irq.is_routed = false; /* to be tried again */
	}
	if (code)
		tell_once(device, "cannot set up its interrupts", code);
}

/* The life of a driver (2.1, 3.1): it sets bit after bit, until it takes all back by writing 0. */

static void stop_serving(struct virtio_device *device)
{
	if (device->is_running)
		device->backend->stop(device);
	device->is_running = false;
}

/* A back end that has it, too, may have taken O_NONBLOCK from it. */
static void drain(int eventfd)
{
	eventfd_t dropped;
	struct iovec part = { &dropped, sizeof(dropped) };

	(void)!preadv2(eventfd, &part, 1, -1, RWF_NOWAIT);
}

static void reset(struct virtio_device *device)
{
	device->status = 0;
	stop_serving(device);
	device->accepted = 0;
	device->offered_select = device->accepted_select = 0;
	device->changed = false;
	device->config_vector = VIRTIO_NO_VECTOR;
	device->queue_select = 0;
	for (unsigned i = 0; i < device->queue_count; i++) {
		struct virtio_queue *queue = &device->queues[i];

		queue->size = device->queue_size_max;
		queue->vector = VIRTIO_NO_VECTOR;
		queue->enabled = false;
		queue->descriptors = queue->driver = queue->device = 0;
		drain(queue->kick);
	}
	virtio_update_interrupts(device);
	for (unsigned i = 0; i < device->queue_count; i++)
		drain(device->queues[i].irq.eventfd);
	drain(device->config_irq.eventfd);
}

static void tell_driver(struct virtio_device *device)
{
	device->changed = true;
	eventfd_write(device->config_irq.eventfd, 1);
}

void virtio_need_reset(struct virtio_device *device)
{
	if (!(device->status & VIRTIO_CONFIG_S_NEEDS_RESET))
		tell_driver(device);
	device->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
}

void virtio_space_changed(struct virtio_device *device)
{
	device->generation++;
	if (device->status & VIRTIO_CONFIG_S_DRIVER_OK)
		tell_driver(device);
}

void virtio_lose(struct virtio_device *device, const char *why)
{
	if (device->is_lost)
		return;
	device->is_lost = true;
	device->is_running = false;
	log_warning(
		"%s: its back end %s: the device does not work any more", device->config.name, why);
	if (device->status & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_need_reset(device);
}

static bool accepts(const struct virtio_device *device)
{
	return !(device->accepted & ~device->offered) &&
	       device->accepted & 1ULL << VIRTIO_F_VERSION_1;
}

static void begin_serving(struct virtio_device *device)
{
	int code = device->is_lost ? -ENOTCONN : device->backend->start(device);

	device->is_running = !code;
	if (!code)
		return;
	if (!device->is_lost)
		tell_once(
			device, "the guest's driver has set up queues that cannot be served", code);
	virtio_need_reset(device);
}

/* Its driver's write, by which DMA may begin, waits for what is to be pinned. */
static bool must_wait_for_ram(const struct virtio_device *device, uint8_t added)
{
	return added & VIRTIO_CONFIG_S_DRIVER_OK && device->backend->pins && device->ram->ready &&
	       !device->ram->ready(device->ram->opaque);
}

void virtio_set_status(struct virtio_device *device, uint8_t status)
{
	uint8_t added = status & ~device->status & ~VIRTIO_CONFIG_S_NEEDS_RESET;

	if (!status) {
		reset(device);
		return;
	}
	if (must_wait_for_ram(device, added))
		return;
	/* The driver reads it back, and finds whether its choice of features will do. */
	if (added & VIRTIO_CONFIG_S_FEATURES_OK && !accepts(device))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	device->status |= added;
	if (added & VIRTIO_CONFIG_S_DRIVER_OK && device->status & VIRTIO_CONFIG_S_FEATURES_OK)
		begin_serving(device);
}

/* From nothing to a device on the bus, and back. */

void virtio_describe_net(struct virtio_device *device)
{
	struct virtio_net_config space = { .status = VIRTIO_NET_S_LINK_UP };

	memcpy(space.mac, device->config.mac, sizeof(space.mac));
	memcpy(device->space, &space, offsetof(struct virtio_net_config, max_virtqueue_pairs));
	device->offered = VIRTIO_BIT(VIRTIO_NET_F_MAC) | VIRTIO_BIT(VIRTIO_NET_F_STATUS);
	/* Nothing of the back end's: its driver makes one interface of the two (5.1.3). */
	if (device->config.is_standby)
		device->offered |= VIRTIO_BIT(VIRTIO_NET_F_STANDBY);
}

/* Of a type that only vDPA has: none of PCI's classes. */
static const struct virtio_model *find_model(enum virtio_type type)
{
	static const struct virtio_model other = { .class_code = 0xff0000 };

	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		if (models[i].type == type)
			return &models[i];
	return &other;
}

static const struct virtio_backend_ops *find_backend(const struct virtio_config *config)
{
	if (config->user_fd >= 0)
		return &virtio_user_ops;
	return config->is_vdpa ? &virtio_vdpa_ops : &virtio_kernel_ops;
}

static void count_queues(struct virtio_device *device)
{
	bool own = device->config.is_vdpa;

	device->queue_count =
		own || !device->model->queues ? device->config.queues : device->model->queues;
	device->served = device->queue_count - (own ? 0 : device->model->unserved);
	device->queue_size_max = VIRTIO_QUEUE_SIZE_MAX;
}

static int make_eventfds(struct virtio_device *device)
{
	int code = kvm_vector_prepare(&device->config_irq, device->vm);

	for (unsigned i = 0; i < device->queue_count && !code; i++) {
		struct virtio_queue *queue = &device->queues[i];

		code = kvm_vector_prepare(&queue->irq, device->vm);
		queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (queue->kick < 0)
			code = -errno;
	}
	return code;
}

static int make_device(
	struct virtio_device *device, struct pci_bus *bus, uint8_t devfn, struct error *err)
{
	int code = pci_device_init(&device->pci, &virtio_pci_ops);

	if (!device->queue_count || device->queue_count > ARRAY_SIZE(device->queues))
		code = -EINVAL;
	if (!code)
		code = virtio_registers_init(device);
	if (!code)
		code = make_eventfds(device);
	if (code)
		return error_sys(err, code, device->config.name, "cannot become a guest's device");
	if (device->backend->open(device, err))
		return err->code;
	reset(device);
	if (pci_bus_add(bus, &device->pci, devfn, err))
		return err->code;
	return pci_bus_place(&device->pci, err);
}

struct virtio_device *virtio_new(const struct virtio_config *config, struct kvm_vm *vm,
	const struct virtio_ram *ram, struct pci_bus *bus, uint8_t devfn, struct error *err)
{
	struct virtio_device *device = calloc(1, sizeof(*device));

	if (!device) {
		error_sys(err, -ENOMEM, config->name, "cannot become a guest's device");
		return NULL;
	}
	device->config = *config;
	device->model = find_model(config->type);
	count_queues(device);
	device->backend = find_backend(config);
	device->user.channel = device->vdpa.changed = -1;
	device->vm = vm;
	device->ram = ram;
	device->config_irq = (struct kvm_vector)KVM_VECTOR_NONE;
	for (size_t i = 0; i < ARRAY_SIZE(device->queues); i++)
		device->queues[i] = (struct virtio_queue){ .kick = -1, .irq = KVM_VECTOR_NONE };
	if (make_device(device, bus, devfn, err) == 0)
		return device;
	virtio_free(device);
	return NULL;
}

int virtio_watch(struct virtio_device *device, struct loop *loop)
{
	device->loop = loop;
	return device->backend->watch ? device->backend->watch(device) : 0;
}

void virtio_resize(struct virtio_device *device, uint64_t size)
{
	const uint64_t sectors = size / 512; /* 5.2.4 */

	if (device->model->type != VIRTIO_BLK)
		return;
	pthread_mutex_lock(&device->pci.lock);
	if (memcmp(device->space, &sectors, sizeof(sectors)) != 0) {
		memcpy(device->space, &sectors, sizeof(sectors));
		virtio_space_changed(device);
	}
	pthread_mutex_unlock(&device->pci.lock);
}

void virtio_free(struct virtio_device *device)
{
	if (!device)
		return;
	stop_serving(device);
	if (device->backend->close)
		device->backend->close(device);
	pci_bus_remove(&device->pci);
	kvm_vector_destroy(&device->config_irq, device->vm);
	for (size_t i = 0; i < ARRAY_SIZE(device->queues); i++) {
		kvm_vector_destroy(&device->queues[i].irq, device->vm);
		if (device->queues[i].kick >= 0)
			close(device->queues[i].kick);
	}
	msix_destroy(&device->msix);
	pci_device_destroy(&device->pci);
	free(device);
}
