/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/container.h"
#include "base/size.h"
#include "virtio/device.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>

/*
 * The registers of virtio 1.2, 4.1: capabilities that say where in the BAR each structure is, and the
 * structures. A driver touches them while it sets the device up; of the doorbells KVM takes care.
 */

/* Where they are in the BAR. */
#define COMMON        0x0000
#define ISR           0x0100
#define SPACE         0x0200
#define DOORBELLS     0x1000
#define DOORBELL_SIZE 4
#define MSIX_TABLE    0x2000
#define MSIX_PENDING  0x3000

/* Where in configuration space the capabilities are. */
#define CAP_MSIX     0x40
#define CAP_COMMON   0x4c
#define CAP_NOTIFY   0x5c
#define CAP_ISR      0x70
#define CAP_SPACE    0x80
#define CAP_WINDOW   0x90 /* 4.1.4.9: an access to the BAR by way of configuration space */
#define WINDOW_BAR   (CAP_WINDOW + VIRTIO_PCI_CAP_BAR)
#define WINDOW_AT    (CAP_WINDOW + VIRTIO_PCI_CAP_OFFSET)
#define WINDOW_WIDTH (CAP_WINDOW + VIRTIO_PCI_CAP_LENGTH)
#define WINDOW_DATA  (CAP_WINDOW + 16)

#define VENDOR       0x1af4
#define FIRST_DEVICE 0x1040 /* and the type */

static struct virtio_device *from_pci(struct pci_device *pci)
{
	return container_of(pci, struct virtio_device, pci);
}

static void describe_structure(struct pci_device *pci, unsigned at, unsigned next, uint8_t type,
	uint32_t offset, uint32_t length)
{
	pci->config[at] = PCI_CAP_ID_VNDR;
	pci->config[at + PCI_CAP_LIST_NEXT] = next;
	pci->config[at + VIRTIO_PCI_CAP_LEN] = 16;
	pci->config[at + VIRTIO_PCI_CAP_CFG_TYPE] = type;
	pci_set32(pci, at + VIRTIO_PCI_CAP_OFFSET, offset);
	pci_set32(pci, at + VIRTIO_PCI_CAP_LENGTH, length);
}

static void add_capabilities(struct virtio_device *device)
{
	struct pci_device *pci = &device->pci;
	unsigned queues = device->queue_count;

	pci_set16(pci, PCI_STATUS, PCI_STATUS_CAP_LIST);
	pci->config[PCI_CAPABILITY_LIST] = CAP_MSIX;
	pci->config[CAP_MSIX] = PCI_CAP_ID_MSIX;
	pci->config[CAP_MSIX + PCI_CAP_LIST_NEXT] = CAP_COMMON;
	pci_set16(pci, CAP_MSIX + PCI_MSIX_FLAGS, queues); /* one less than there are vectors */
	pci_set32(pci, CAP_MSIX + PCI_MSIX_TABLE, MSIX_TABLE);
	pci_set32(pci, CAP_MSIX + PCI_MSIX_PBA, MSIX_PENDING);
	describe_structure(pci, CAP_COMMON, CAP_NOTIFY, VIRTIO_PCI_CAP_COMMON_CFG, COMMON,
		sizeof(struct virtio_pci_common_cfg));
	describe_structure(pci, CAP_NOTIFY, CAP_ISR, VIRTIO_PCI_CAP_NOTIFY_CFG, DOORBELLS,
		queues * DOORBELL_SIZE);
	pci->config[CAP_NOTIFY + VIRTIO_PCI_CAP_LEN] = 20;
	pci_set32(pci, CAP_NOTIFY + VIRTIO_PCI_NOTIFY_CAP_MULT, DOORBELL_SIZE);
	describe_structure(pci, CAP_ISR, CAP_SPACE, VIRTIO_PCI_CAP_ISR_CFG, ISR, 1);
	describe_structure(
		pci, CAP_SPACE, CAP_WINDOW, VIRTIO_PCI_CAP_DEVICE_CFG, SPACE, VIRTIO_SPACE_MAX);
	describe_structure(pci, CAP_WINDOW, 0, VIRTIO_PCI_CAP_PCI_CFG, 0, 0);
	pci->config[CAP_WINDOW + VIRTIO_PCI_CAP_LEN] = 20;
	pci_set_writable(pci, WINDOW_BAR, 1, 0xff);
	pci_set_writable(pci, WINDOW_AT, 4, UINT32_MAX);
	pci_set_writable(pci, WINDOW_WIDTH, 4, UINT32_MAX);
	pci_set_writable(pci, WINDOW_DATA, 4, UINT32_MAX);
}

int virtio_registers_init(struct virtio_device *device)
{
	struct pci_device *pci = &device->pci;

	pci_set16(pci, PCI_VENDOR_ID, VENDOR);
	pci_set16(pci, PCI_DEVICE_ID, FIRST_DEVICE + device->config.type);
	pci_set16(pci, PCI_SUBSYSTEM_VENDOR_ID, VENDOR);
	pci_set16(pci, PCI_SUBSYSTEM_ID, FIRST_DEVICE + device->config.type);
	pci_set32(pci, PCI_CLASS_REVISION, device->model->class_code << 8 | 1);
	pci_device_set_bar(pci, 0, PCI_BAR_MEM64, true, VIRTIO_BAR_SIZE);
	pci->writable[PCI_COMMAND] |= PCI_COMMAND_MASTER;
	add_capabilities(device);
	return msix_init(&device->msix, pci, CAP_MSIX);
}

/* The common structure (4.1.4.3). */

static uint64_t read_common(struct virtio_device *device, unsigned offset, unsigned size)
{
	const struct virtio_queue *queue = virtio_selected(device);
	struct virtio_pci_common_cfg common = {
		.device_feature_select = device->offered_select,
		.guest_feature_select = device->accepted_select,
		.msix_config = device->config_vector,
		.num_queues = device->queue_count,
		.device_status = device->status,
		.config_generation = device->generation,
		.queue_select = device->queue_select,
	};
	uint64_t value = 0;

	if (device->offered_select < 2)
		common.device_feature = device->offered >> 32 * device->offered_select;
	if (device->accepted_select < 2)
		common.guest_feature = device->accepted >> 32 * device->accepted_select;
	if (queue) {
		common.queue_size = queue->size;
		common.queue_msix_vector = queue->vector;
		common.queue_enable = queue->enabled;
		common.queue_notify_off = device->queue_select;
		common.queue_desc_lo = queue->descriptors;
		common.queue_desc_hi = queue->descriptors >> 32;
		common.queue_avail_lo = queue->driver;
		common.queue_avail_hi = queue->driver >> 32;
		common.queue_used_lo = queue->device;
		common.queue_used_hi = queue->device >> 32;
	}
	memcpy(&value, (char *)&common + offset, size);
	return value;
}

/* A vector that is not there reads back as none, which tells the driver. */
static void set_vector(struct virtio_device *device, uint16_t *vector, uint16_t value)
{
	*vector = value < device->msix.vectors ? value : VIRTIO_NO_VECTOR;
	virtio_update_interrupts(device);
}

static void set_half(uint64_t *address, bool high, uint32_t value)
{
	*address = high ? (*address & UINT32_MAX) | (uint64_t)value << 32
			: (*address & ~(uint64_t)UINT32_MAX) | value;
}

#define FIELD(name) offsetof(struct virtio_pci_common_cfg, name)

/* Only while no back end knows it, and in the order of 4.1.5.1.3: all of it, then that it is enabled. */
static void write_queue(
	struct virtio_device *device, struct virtio_queue *queue, unsigned offset, uint32_t value)
{
	if (offset == FIELD(queue_msix_vector)) {
		set_vector(device, &queue->vector, value);
		return;
	}
	if (queue->enabled || device->status & VIRTIO_CONFIG_S_DRIVER_OK)
		return;
	switch (offset) {
	case FIELD(queue_size):
		if (value && value <= device->queue_size_max && !(value & (value - 1)))
			queue->size = value;
		break;
	case FIELD(queue_enable):
		queue->enabled = value == 1;
		break;
	case FIELD(queue_desc_lo):
	case FIELD(queue_desc_hi):
		set_half(&queue->descriptors, offset == FIELD(queue_desc_hi), value);
		break;
	case FIELD(queue_avail_lo):
	case FIELD(queue_avail_hi):
		set_half(&queue->driver, offset == FIELD(queue_avail_hi), value);
		break;
	case FIELD(queue_used_lo):
	case FIELD(queue_used_hi):
		set_half(&queue->device, offset == FIELD(queue_used_hi), value);
		break;
	}
}

static void accept(struct virtio_device *device, uint32_t features)
{
	if (device->accepted_select < 2 && !(device->status & VIRTIO_CONFIG_S_FEATURES_OK))
		set_half(&device->accepted, device->accepted_select, features);
}

/* Each field by an access of its own width (4.1.3.1); 64-bit ones by their halves. */
static unsigned width_of(unsigned offset)
{
	if (offset == FIELD(device_status) || offset == FIELD(config_generation))
		return 1;
	return offset >= FIELD(msix_config) && offset < FIELD(queue_desc_lo) ? 2 : 4;
}

static void write_common(
	struct virtio_device *device, unsigned offset, unsigned size, uint64_t value)
{
	struct virtio_queue *queue = virtio_selected(device);

	if (size == 8) {
		write_common(device, offset, 4, (uint32_t)value);
		write_common(device, offset + 4, 4, value >> 32);
		return;
	}
	if (size != width_of(offset))
		return;
	switch (offset) {
	case FIELD(device_feature_select):
		device->offered_select = value;
		break;
	case FIELD(guest_feature_select):
		device->accepted_select = value;
		break;
	case FIELD(guest_feature):
		accept(device, value);
		break;
	case FIELD(msix_config):
		set_vector(device, &device->config_vector, value);
		break;
	case FIELD(device_status):
		virtio_set_status(device, value);
		break;
	case FIELD(queue_select):
		device->queue_select = value;
		break;
	default:
		if (queue && offset >= FIELD(queue_size))
			write_queue(device, queue, offset, value);
	}
}

/* The BAR. */

static uint64_t read_isr(struct virtio_device *device)
{
	bool changed = device->changed;

	device->changed = false;
	return changed ? VIRTIO_PCI_ISR_CONFIG : 0;
}

static uint64_t read_pending(const struct virtio_device *device, unsigned offset, unsigned size)
{
	uint64_t pending = 0;

	if (device->config_vector < device->msix.vectors &&
		kvm_vector_is_pending(&device->config_irq))
		pending |= 1ULL << device->config_vector;
	for (unsigned i = 0; i < device->queue_count; i++)
		if (device->queues[i].vector < device->msix.vectors &&
			kvm_vector_is_pending(&device->queues[i].irq))
			pending |= 1ULL << device->queues[i].vector;
	return offset + size > 8 ? 0 : pending >> 8 * offset;
}

static uint64_t structures_read(
	struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size)
{
	struct virtio_device *device = from_pci(pci);
	uint64_t value = 0;

	(void)bar;
	if (is_within(offset, size, COMMON, sizeof(struct virtio_pci_common_cfg)))
		return read_common(device, offset - COMMON, size);
	if (offset == ISR)
		return read_isr(device);
	if (is_within(offset, size, SPACE, VIRTIO_SPACE_MAX))
		memcpy(&value, &device->space[offset - SPACE], size);
	else if (is_within(offset, size, MSIX_TABLE, msix_table_size(&device->msix)))
		value = msix_table_read(&device->msix, offset - MSIX_TABLE, size);
	else if (is_within(offset, size, MSIX_PENDING, msix_pba_size(&device->msix)))
		value = read_pending(device, offset - MSIX_PENDING, size);
	return value;
}

/*
 * A doorbell that KVM has not taken. It takes what is written to where one begins; of anything else nothing comes, as a
 * back end that has filled the eventfd would hold whoever writes to it.
 */
static void ring(struct virtio_device *device, uint64_t offset)
{
	const struct virtio_queue *queue = &device->queues[offset / DOORBELL_SIZE];

	if (offset % DOORBELL_SIZE == 0)
		eventfd_write(queue->kick, 1);
}

static void structures_write(
	struct pci_device *pci, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_device *device = from_pci(pci);

	(void)bar;
	if (is_within(offset, size, COMMON, sizeof(struct virtio_pci_common_cfg))) {
		write_common(device, offset - COMMON, size, value);
	} else if (is_within(offset, size, SPACE, VIRTIO_SPACE_MAX)) {
		if (device->backend->write_space)
			device->backend->write_space(device, offset - SPACE, size, value);
	} else if (is_within(offset, 1, DOORBELLS, device->queue_count * DOORBELL_SIZE)) {
		ring(device, offset - DOORBELLS);
	} else if (is_within(offset, size, MSIX_TABLE, msix_table_size(&device->msix))) {
		msix_table_write(&device->msix, offset - MSIX_TABLE, size, value);
		virtio_update_interrupts(device);
	}
}

static uint64_t doorbell_gpa(const struct virtio_device *device, unsigned queue)
{
	return device->pci.bars[0].address + DOORBELLS + queue * DOORBELL_SIZE;
}

static void doorbells_attach(struct pci_device *pci, unsigned bar)
{
	struct virtio_device *device = from_pci(pci);

	(void)bar;
	for (unsigned i = 0; i < device->served; i++) {
		struct virtio_queue *queue = &device->queues[i];

		/* Where it fails the doorbell is trapped: slower, but right. */
		queue->has_doorbell =
			!kvm_ioeventfd_attach(device->vm, doorbell_gpa(device, i), queue->kick);
	}
}

static void doorbells_detach(struct pci_device *pci, unsigned bar)
{
	struct virtio_device *device = from_pci(pci);

	(void)bar;
	for (unsigned i = 0; i < device->served; i++) {
		struct virtio_queue *queue = &device->queues[i];

		if (queue->has_doorbell)
			kvm_ioeventfd_detach(device->vm, doorbell_gpa(device, i), queue->kick);
		queue->has_doorbell = false;
	}
}

/* Configuration space. */

/* The access that the window asks for: its width, 0: none. */
static unsigned window_width(const struct pci_device *pci)
{
	uint32_t offset = pci_get32(pci, WINDOW_AT), width = pci_get32(pci, WINDOW_WIDTH);

	if ((width != 1 && width != 2 && width != 4) || pci->config[WINDOW_BAR] || offset % width ||
		!is_within(offset, width, 0, VIRTIO_BAR_SIZE))
		return 0;
	return width;
}

static bool touches_window(unsigned offset, unsigned size)
{
	return offset < WINDOW_DATA + 4 && offset + size > WINDOW_DATA;
}

static uint32_t virtio_config_read(struct pci_device *pci, unsigned offset, unsigned size)
{
	unsigned width = touches_window(offset, size) ? window_width(pci) : 0;

	if (width)
		pci_set32(pci, WINDOW_DATA,
			structures_read(pci, 0, pci_get32(pci, WINDOW_AT), width));
	return pci_device_config_read(pci, offset, size);
}

static void virtio_config_write(
	struct pci_device *pci, unsigned offset, unsigned size, uint32_t value)
{
	struct virtio_device *device = from_pci(pci);
	unsigned width;

	pci_device_config_write(pci, offset, size, value);
	if (msix_touched(&device->msix, offset, size))
		virtio_update_interrupts(device);
	width = touches_window(offset, size) ? window_width(pci) : 0;
	if (width)
		structures_write(pci, 0, pci_get32(pci, WINDOW_AT), width,
			pci_get32(pci, WINDOW_DATA) & (UINT32_MAX >> (32 - 8 * width)));
}

const struct pci_device_ops virtio_pci_ops = {
	.config_read = virtio_config_read,
	.config_write = virtio_config_write,
	.bar_read = structures_read,
	.bar_write = structures_write,
	.bar_mapped = doorbells_attach,
	.bar_unmapped = doorbells_detach,
};
