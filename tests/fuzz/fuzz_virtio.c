/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio device's registers between a guest and vhost, a process that speaks vhost-user, or a card by vDPA. The input is
 * the guest's accesses, in any order, which of the kernel's calls fails, how the process lies, and what comes over the
 * card; fake_vhost.c, fake_user.c and fake_vdpa.c end this one where they are asked what they must never be.
 */
#include "../unit/fake_user.h"
#include "../unit/fake_vdpa.h"
#include "../unit/fake_vhost.h"
#include "base/loop.h"
#include "base/size.h"
#include "fuzz.h"
#include "pci/root.h"
#include "virtio/device.h"

#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STEPS_MAX 300
#define ECAM      0xe0000000ULL
#define MEM64     0x100000000000ULL
#define RAM       (64 * KIB)
#define HIGH      (4 * GIB)
#define DEVFN     (3 << 3)

enum {
	ACCESSES,
	STARTS,
	REFUSED,
	VECTORS,
	DOORBELLS,
	FAILURES,
	SERVED,
	LIES,
	LOST,
	CHANGES,
	CARD_STARTS,
	CARD_RESETS,
	CARD_NEEDS,
	CARD_WAITS,
	CARD_LOST,
};

struct fuzz_goal fuzz_goals[] = {
	[ACCESSES] = { "accesses", 2, 0 },
	[STARTS] = { "queues that were started", 20, 0 },
	[REFUSED] = { "drivers that were refused", 20, 0 },
	[VECTORS] = { "vectors that reach the guest", 20, 0 },
	[DOORBELLS] = { "doorbells at KVM", 10, 0 },
	[FAILURES] = { "calls that failed", 20, 0 },
	[SERVED] = { "queues that a process served", 200, 0 },
	[LIES] = { "lies of a process", 200, 0 },
	[LOST] = { "processes that were lost", 200, 0 },
	[CHANGES] = { "changes that were told", 1000, 0 },
	[CARD_STARTS] = { "queues that a card served", 200, 0 },
	[CARD_RESETS] = { "resets of a card", 200, 0 },
	[CARD_NEEDS] = { "cards that needed a reset", 1000, 0 },
	[CARD_WAITS] = { "drivers that waited for RAM", 1000, 0 },
	[CARD_LOST] = { "cards that were lost", 1000, 0 },
	{ 0 },
};

struct guest {
	struct space mmio, pio;
	struct pci_root root;
	struct kvm_vm vm;
	struct virtio_ram ram;
	struct virtio_device *device;
	struct loop *loop; /* NULL: the kernel's vhost is the back end */
	bool is_vdpa;      /* else, where there is a loop, a process is */
	uint8_t raw[64];   /* what the process sends next in the place of its answer */
	unsigned raw_size;
};

/* What is refused is worth a line, but not here. */
void __wrap_log_warning(const char *format, ...);
void __wrap_log_warning(const char *format, ...)
{
	(void)format;
}

static uint64_t get(struct guest *guest, uint64_t offset, unsigned size)
{
	return space_read(&guest->mmio, guest->device->pci.bars[0].address + offset, size);
}

static void set(struct guest *guest, uint64_t offset, unsigned size, uint64_t value)
{
	space_write(&guest->mmio, guest->device->pci.bars[0].address + offset, size, value);
}

static void set_config(struct guest *guest, unsigned offset, unsigned size, uint32_t value)
{
	space_write(&guest->mmio, ECAM + (DEVFN << 12) + offset, size, value);
}

static void access_any(struct guest *guest, struct fuzz_input *input, uint8_t how)
{
	/* Mostly what is there: the common structure, then the others, then configuration space. */
	uint64_t offset = fuzz_number(input, 2);
	unsigned size = 1U << (how & 3);

	if (how < 0x30)
		offset %= VIRTIO_PCI_COMMON_Q_USEDHI + 8;
	else if (how < 0x50)
		offset %= VIRTIO_BAR_SIZE;
	if (how >= 0x50) {
		offset %= 0x110;
		if (how & 4)
			set_config(guest, offset, 1U << how % 3, fuzz_number(input, 4));
		else
			space_read(&guest->mmio, ECAM + (DEVFN << 12) + offset, 1U << how % 3);
	} else if (how & 4) {
		set(guest, offset, size, fuzz_number(input, size));
	} else {
		get(guest, offset, size);
	}
}

static void set_status(struct guest *guest, struct fuzz_input *input)
{
	static const uint8_t usual[] = { 0, 3, 11, 15 };
	uint8_t byte = fuzz_byte(input);

	set(guest, VIRTIO_PCI_COMMON_STATUS, 1, byte < 0xc0 ? usual[byte % 4] : byte);
}

static void accept(struct guest *guest, struct fuzz_input *input)
{
	uint64_t features = guest->device->offered & fuzz_number(input, 8);

	for (unsigned i = 0; i < 2; i++) {
		set(guest, VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		set(guest, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> 32 * i) | i);
	}
	set(guest, VIRTIO_PCI_COMMON_STATUS, 1, 11);
}

/* Mostly in RAM, and aligned. */
static uint64_t any_address(struct fuzz_input *input)
{
	uint8_t byte = fuzz_byte(input);

	if (byte >= 0xf0)
		return fuzz_number(input, 8);
	return (byte & 1 ? HIGH : 0) + (byte >> 1) * 512;
}

static void set_up_queue(struct guest *guest, struct fuzz_input *input)
{
	uint8_t byte = fuzz_byte(input);

	set(guest, VIRTIO_PCI_COMMON_Q_SELECT, 2, byte & 3);
	set(guest, VIRTIO_PCI_COMMON_Q_SIZE, 2, byte & 0x80 ? fuzz_number(input, 2) : 16);
	set(guest, VIRTIO_PCI_COMMON_Q_MSIX, 2, byte >> 2 & 3);
	set(guest, VIRTIO_PCI_COMMON_Q_DESCLO, 8, any_address(input));
	set(guest, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, any_address(input));
	set(guest, VIRTIO_PCI_COMMON_Q_USEDLO, 8, any_address(input));
	set(guest, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static void set_vector(struct guest *guest, struct fuzz_input *input)
{
	uint8_t byte = fuzz_byte(input);
	uint64_t at = 0x2000 + (byte & 3) * MSIX_ENTRY_SIZE;

	set(guest, at, 8, 0xfee00000);
	set(guest, at + 8, 4, byte);
	set(guest, at + 12, 4, byte >> 7);
	set_config(guest, guest->device->msix.cap + PCI_MSIX_FLAGS, 2,
		byte & 0x40 ? 0 : PCI_MSIX_FLAGS_ENABLE);
}

static void check_vector(struct guest *guest, const struct kvm_vector *irq, uint16_t vector)
{
	const struct virtio_device *device = guest->device;
	bool wanted = msix_enabled(&device->msix, &device->pci) && vector < device->msix.vectors &&
		      !msix_masked(&device->msix, &device->pci, vector);
	struct msi_message message;
	struct kvm_msi found;
	bool delivers = fake_vhost_delivers(irq->eventfd, &found);

	if (device->told)
		return;
	fuzz_check(delivers == wanted);
	if (!delivers)
		return;
	message = msix_message(&device->msix, vector);
	fuzz_check(found.address_lo == (uint32_t)message.address &&
		   found.address_hi == message.address >> 32 && found.data == message.data);
	fuzz_goals[VECTORS].count++;
}

static void check(struct guest *guest)
{
	const struct virtio_device *device = guest->device;
	unsigned running = 0;

	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		running += fake_vhost.rings[i].runs +
			   (fake_user.rings[i].runs && !device->is_lost) +
			   (fake_vdpa.rings[i].runs && !fake_vdpa.cannot_reset);
	fuzz_check(!running || device->status & VIRTIO_CONFIG_S_DRIVER_OK);
	fuzz_check(!running || !(device->status & VIRTIO_CONFIG_S_NEEDS_RESET));
	fuzz_check(!(device->status & VIRTIO_CONFIG_S_FEATURES_OK) ||
		   device->accepted >> VIRTIO_F_VERSION_1 & 1);
	fuzz_check(!(device->status & VIRTIO_CONFIG_S_FEATURES_OK &&
		     device->accepted & ~device->offered));
	fuzz_check(!fake_vhost.doorbell_count || device->pci.bars[0].decoded);
	fuzz_goals[DOORBELLS].count += fake_vhost.doorbell_count != 0;
	check_vector(guest, &device->config_irq, device->config_vector);
	for (unsigned i = 0; i < device->queue_count; i++)
		check_vector(guest, &device->queues[i].irq, device->queues[i].vector);
}

static bool answer_raw(void *opaque, void *bytes, size_t *size)
{
	struct guest *guest = opaque;

	if (!guest->raw_size)
		return false;
	memcpy(bytes, guest->raw, guest->raw_size);
	*size = guest->raw_size;
	guest->raw_size = 0;
	return true;
}

static void speak_unasked(struct guest *guest, struct fuzz_input *input)
{
	uint8_t bytes[24], size = fuzz_byte(input) % sizeof(bytes);

	fuzz_bytes(input, bytes, size);
	if (fake_user.channel >= 0)
		fuzz_check(write(fake_user.channel, bytes, size) == size);
	loop_step(guest->loop, 0);
}

static void change(struct guest *guest, struct fuzz_input *input)
{
	uint8_t byte = fuzz_byte(input), generation = guest->device->generation;

	fake_user.space[byte % FAKE_USER_SPACE] ^= byte;
	if (fake_user.channel >= 0)
		fake_user_change(1 | (byte & 0x80 ? 8 : 0));
	loop_step(guest->loop, 0);
	if (byte & 0x40)
		virtio_resize(guest->device, (uint64_t)byte << 20);
	fuzz_goals[CHANGES].count += guest->device->generation != generation;
}

static void lie(struct guest *guest, struct fuzz_input *input, uint8_t how)
{
	uint8_t byte;

	if (how == 0xff) {
		fake_user_close_process();
		loop_step(guest->loop, 0);
	} else if (how == 0xfe) {
		change(guest, input);
	} else if (how == 0xfd) {
		speak_unasked(guest, input);
	} else if (how == 0xfc) {
		guest->raw_size = fuzz_byte(input) % sizeof(guest->raw);
		fuzz_bytes(input, guest->raw, guest->raw_size);
	} else {
		byte = fuzz_byte(input);
		fake_user.lie = byte % FAKE_LIES;
		fake_user.lie_at = fake_user.requests + 1 + byte / 16;
	}
}

static bool is_ram_ready(void *opaque)
{
	(void)opaque;
	fuzz_goals[CARD_WAITS].count += !fake_vdpa.is_ram_ready;
	return fake_vdpa.is_ram_ready;
}

static void need_reset(void)
{
	fake_vdpa.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	for (unsigned i = 0; i < FAKE_VDPA_QUEUES; i++)
		fake_vdpa.rings[i].runs = false;
}

static void befall(struct guest *guest, struct fuzz_input *input, uint8_t how)
{
	uint8_t byte = fuzz_byte(input);
	bool needed = guest->device->status & VIRTIO_CONFIG_S_NEEDS_RESET;

	if (how == 0xff && guest->device->is_running)
		need_reset();
	else if (how == 0xfe)
		fake_vdpa.space[byte] ^= byte;
	else if (how == 0xfd)
		fake_vdpa.takes_nothing = byte & 1;
	else if (how == 0xfc)
		fake_vdpa.cannot_reset |= byte & 1;
	else if (how == 0xfb)
		fake_vdpa.is_ram_ready = byte & 1;
	else
		fake_vhost.fail_in = 1 + byte % 32;
	fake_vdpa_change();
	loop_step(guest->loop, 0);
	fuzz_goals[CARD_NEEDS].count +=
		!needed && guest->device->status & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void step(struct guest *guest, struct fuzz_input *input)
{
	uint8_t how = fuzz_byte(input);
	bool needed = guest->device->status & VIRTIO_CONFIG_S_NEEDS_RESET;
	int64_t now = fake_user.now;

	fuzz_goals[ACCESSES].count++;
	if (how < 0x60)
		access_any(guest, input, how);
	else if (how < 0x90)
		set_status(guest, input);
	else if (how < 0xa0)
		accept(guest, input);
	else if (how < 0xd0)
		set_up_queue(guest, input);
	else if (how < 0xe8)
		set_vector(guest, input);
	else if (how < 0xf0)
		set(guest, 0x1000 + fuzz_byte(input) % 16, 2, 0);
	else if (how < 0xf8)
		set_config(guest, PCI_COMMAND, 2, how);
	else if (guest->is_vdpa)
		befall(guest, input, how);
	else if (guest->loop)
		lie(guest, input, how);
	else
		fake_vhost.fail_in = 1 + fuzz_byte(input) % 32;
	fuzz_check(fake_user.now - now <= 10000);
	fuzz_goals[REFUSED].count += !needed && guest->device->status & VIRTIO_CONFIG_S_NEEDS_RESET;
	check(guest);
}

static void open_guest(struct guest *guest)
{
	static const struct pci_windows windows = { .mem64 = { MEM64, MEM64, MEM64 } };
	struct error err = { 0 };

	space_init(&guest->mmio);
	space_init(&guest->pio);
	fuzz_check(pci_root_init(
			   &guest->root, &guest->mmio, &guest->pio, ECAM, 1, &windows, &err) == 0);
	guest->vm.routing = calloc(1,
		sizeof(*guest->vm.routing) + KVM_ROUTES_MAX * sizeof(struct kvm_irq_routing_entry));
	pthread_mutex_init(&guest->vm.lock, NULL);
	guest->ram.count = 2;
	for (unsigned i = 0; i < 2; i++)
		guest->ram.regions[i] = (struct virtio_region){ i ? HIGH : 0, RAM,
			aligned_alloc(4096, RAM), i * RAM };
	fake_vhost_reset(&guest->ram);
	fake_vdpa_reset(&guest->ram);
	guest->ram.ready = is_ram_ready;
	guest->ram.fd = guest->loop ? memfd_create("ram", 0) : -1;
}

static void close_process(struct guest *guest)
{
	bool lost = guest->device && guest->device->is_lost;
	unsigned lies = fake_user.lies;

	virtio_free(guest->device);
	for (unsigned i = 0; i < FAKE_QUEUES && !lost && fake_user.lies == lies; i++)
		fuzz_check(!fake_user.rings[i].runs);
	fuzz_goals[LOST].count += lost;
	fuzz_goals[SERVED].count += fake_user.starts;
	fuzz_goals[LIES].count += fake_user.lies;
	fake_user_close();
	loop_free(guest->loop);
	close(guest->ram.fd);
}

/* One that cannot be reset has at least no RAM. */
static void close_card(struct guest *guest)
{
	fuzz_goals[CARD_LOST].count += guest->device && guest->device->is_lost;
	virtio_free(guest->device);
	for (unsigned i = 0; i < FAKE_VDPA_QUEUES && !fake_vdpa.cannot_reset; i++)
		fuzz_check(!fake_vdpa.rings[i].runs);
	for (unsigned i = 0; i < VIRTIO_REGIONS_MAX; i++)
		fuzz_check(!fake_vdpa.is_mapped[i]);
	fuzz_goals[CARD_STARTS].count += fake_vdpa.starts;
	fuzz_goals[CARD_RESETS].count += fake_vdpa.resets;
	loop_free(guest->loop);
	close(guest->ram.fd);
}

static void close_guest(struct guest *guest)
{
	if (guest->is_vdpa)
		close_card(guest);
	else if (guest->loop)
		close_process(guest);
	else
		virtio_free(guest->device);
	fuzz_check(!fake_vhost.irqfd_count && !fake_vhost.doorbell_count);
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		fuzz_check(!fake_vhost.rings[i].runs);
	pci_root_destroy(&guest->root);
	free(guest->vm.routing);
	for (unsigned i = 0; i < 2; i++)
		free(guest->ram.regions[i].hva);
	space_destroy(&guest->mmio);
	space_destroy(&guest->pio);
}

static int open_process(struct guest *guest)
{
	int fd = fake_user_open(&guest->ram);

	fake_user.features |= 1ULL << VIRTIO_BLK_F_CONFIG_WCE | 1ULL << VIRTIO_BLK_F_FLUSH;
	fake_user.answers = answer_raw;
	fake_user.opaque = guest;
	return fd;
}

/* Any type, and kernels of any age. */
static void choose_card(struct virtio_config *config, uint8_t kind)
{
	config->type = 1 + (kind & 15);
	config->is_vdpa = true;
	config->queues = fake_vdpa.queues = 1 + (kind & 3);
	config->vhost_fd = FAKE_VDPA;
	fake_vdpa.space_size = kind & 8 ? 256 : 60;
	fake_vdpa.backend_offers =
		1ULL << 1 | (kind & 4 ? 1ULL << 2 : 0) | (kind & 16 ? 1ULL << 8 : 0);
}

void fuzz_one(struct fuzz_input *input)
{
	struct guest guest = { 0 };
	unsigned before = fuzz_descriptors();
	uint8_t kind = fuzz_byte(input);
	struct virtio_config config = {
		.type = (kind & 0x4f) == 0x4f ? VIRTIO_FS
			: kind & 1            ? kind & 0x40 ? VIRTIO_BLK : VIRTIO_VSOCK
					      : VIRTIO_NET,
		.name = "fuzz",
		.user_fd = -1,
		.queues = 1 + (kind >> 1 & 7),
		.vhost_fd = FAKE_VHOST,
		.tap_fd = FAKE_TAP,
	};
	struct error err = { 0 };

	guest.is_vdpa = (kind & 0x60) == 0x20;
	if (kind & 0x60)
		guest.loop = loop_new(&err);
	open_guest(&guest);
	if (guest.is_vdpa)
		choose_card(&config, kind);
	else if (guest.loop)
		config.user_fd = open_process(&guest);
	if (kind & 0x80 && guest.loop && !guest.is_vdpa)
		lie(&guest, input, 0xfb);
	else if (kind & 0x80)
		fake_vhost.fail_in = 1 + (kind >> 1 & 15);
	guest.device = virtio_new(&config, &guest.vm, &guest.ram, &guest.root.bus, DEVFN, &err);
	fuzz_check(guest.device || err.code);
	if (guest.device) {
		set_config(&guest, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		if (guest.loop)
			fuzz_check(virtio_watch(guest.device, guest.loop) == 0);
	}
	for (unsigned i = 0; i < STEPS_MAX && input->size && guest.device; i++)
		step(&guest, input);
	fuzz_goals[STARTS].count += fake_vhost.starts;
	fuzz_goals[FAILURES].count += fake_vhost.failed;
	close_guest(&guest);
	fuzz_check(fuzz_descriptors() == before);
}
