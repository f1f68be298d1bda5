/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/loop.h"
#include "base/size.h"
#include "fake_user.h"
#include "fake_vdpa.h"
#include "fake_vhost.h"
#include "pci/root.h"
#include "test.h"
#include "virtio/device.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * A net in slot 3, a vsock in 4, a disk of a process in 5, a net of one in 6, a file system in 7, a disk by vDPA in 8, of
 * a guest with RAM at 0 and at 4 GiB, as its driver meets them.
 */

#define ECAM  0xe0000000ULL
#define MEM64 0x100000000000ULL
#define RAM   (64 * KIB) /* of each of the two regions */
#define HIGH  (4 * GIB)

enum { NET, VSOCK, DISK, CARD, SHARE, VDPA, DEVICES };

#define QUEUES 3 /* of the disk, of which its driver uses two */

static struct space mmio, pio;
static struct pci_root root;
static struct kvm_vm vm;
static struct virtio_ram ram;
static struct virtio_device *devices[DEVICES];
static int user_fd;
static enum virtio_type vdpa_type;
static struct loop *loop;
static bool is_standby; /* the net */
static uint8_t mac[] = { 0x52, 0x54, 0, 1, 2, 3 };

static unsigned line(void *opaque, unsigned slot, unsigned pin)
{
	(void)opaque;
	return slot + pin;
}

static const struct pci_root_ops root_ops = { .line = line };

static int make(unsigned which, struct error *err)
{
	static const enum virtio_type types[] = { VIRTIO_NET, VIRTIO_VSOCK, VIRTIO_BLK, VIRTIO_NET,
		VIRTIO_FS };
	bool is_vdpa = which == VDPA;
	struct virtio_config config = {
		.type = is_vdpa ? vdpa_type : types[which],
		.name = "virtio",
		.user_fd = which >= DISK && !is_vdpa ? user_fd : -1,
		.queues = QUEUES,
		.vhost_fd = is_vdpa ? FAKE_VDPA : FAKE_VHOST,
		.is_vdpa = is_vdpa,
		.tap_fd = FAKE_TAP,
		.cid = 0x1234567,
		.tag = "shared",
		.is_standby = is_standby,
	};

	memcpy(config.mac, mac, sizeof(mac));
	devices[which] = virtio_new(&config, &vm, &ram, &root.bus, (3 + which) << 3, err);
	return devices[which] ? 0 : err->code;
}

/* 5.2.3; the fifth has nothing behind it here. */
#define DISK_FEATURES                                                                          \
	(1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_RO | 1ULL << VIRTIO_BLK_F_FLUSH | \
		1ULL << VIRTIO_BLK_F_CONFIG_WCE | 1ULL << VIRTIO_BLK_F_GEOMETRY)

/* Of its own: 5.2.3, one that nobody knows yet, and one of queues that is known here. */
#define VDPA_FEATURES (DISK_FEATURES | 1ULL << 60 | 1ULL << VIRTIO_F_ORDER_PLATFORM)

static int setup(void **state)
{
	static const struct pci_windows windows = { .mem64 = { MEM64, MEM64, MEM64 } };
	struct error err = { 0 };

	(void)state;
	space_init(&mmio);
	space_init(&pio);
	assert_int_equal(pci_root_init(&root, &mmio, &pio, ECAM, 1, &windows, &err), 0);
	root.ops = &root_ops;
	vm = (struct kvm_vm){ .fd = -1 };
	vm.routing =
		calloc(1, sizeof(*vm.routing) + KVM_ROUTES_MAX * sizeof(vm.routing->entries[0]));
	pthread_mutex_init(&vm.lock, NULL);
	ram = (struct virtio_ram){ .count = 2, .fd = memfd_create("ram", MFD_CLOEXEC) };
	for (unsigned i = 0; i < 2; i++)
		ram.regions[i] = (struct virtio_region){ i ? HIGH : 0, RAM,
			aligned_alloc(4096, RAM), i * RAM };
	fake_vhost_reset(&ram);
	fake_vhost.offers |= 1ULL << VIRTIO_NET_F_MRG_RXBUF;
	fake_vdpa_reset(&ram);
	fake_vdpa.offers |= VDPA_FEATURES;
	memset(fake_vdpa.space, 0x3c, sizeof(fake_vdpa.space));
	vdpa_type = VIRTIO_BLK;
	memset(devices, 0, sizeof(devices));
	is_standby = false;
	user_fd = fake_user_open(&ram);
	fake_user.features |= DISK_FEATURES | 1ULL << VIRTIO_NET_F_MRG_RXBUF;
	memset(fake_user.space, 0x5a, sizeof(fake_user.space));
	loop = loop_new(&err);
	return 0;
}

static int teardown(void **state)
{
	bool lost = false;

	(void)state;
	for (unsigned i = 0; i < DEVICES; i++) {
		lost |= devices[i] && devices[i]->is_lost;
		virtio_free(devices[i]);
	}
	for (unsigned i = 0; i < 2; i++)
		free(ram.regions[i].hva);
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		assert_false(fake_vhost.rings[i].runs || (fake_user.rings[i].runs && !lost) ||
			     (fake_vdpa.rings[i].runs && !fake_vdpa.cannot_reset));
	for (unsigned i = 0; i < VIRTIO_REGIONS_MAX; i++)
		assert_false(fake_vdpa.is_mapped[i]);
	fake_user_close();
	loop_free(loop);
	close(ram.fd);
	assert_int_equal(fake_vhost.irqfd_count + fake_vhost.doorbell_count, 0);
	pci_root_destroy(&root);
	free(vm.routing);
	space_destroy(&mmio);
	space_destroy(&pio);
	return 0;
}

/* Configuration space, and the structures in the BAR where its capabilities say. */

static uint64_t config_at(unsigned which, unsigned offset)
{
	return ECAM + ((3ULL + which) << 15) + offset;
}

static uint32_t config_get(unsigned which, unsigned offset, unsigned size)
{
	return space_read(&mmio, config_at(which, offset), size);
}

static void config_set(unsigned which, unsigned offset, unsigned size, uint32_t value)
{
	space_write(&mmio, config_at(which, offset), size, value);
}

static unsigned find_cap(unsigned which, uint8_t id, uint8_t type)
{
	unsigned at = config_get(which, PCI_CAPABILITY_LIST, 1);

	while (at && !(config_get(which, at, 1) == id &&
			     (id != PCI_CAP_ID_VNDR || config_get(which, at + 3, 1) == type)))
		at = config_get(which, at + 1, 1);
	assert_true(at);
	return at;
}

static uint64_t bar(unsigned which)
{
	return (config_get(which, PCI_BASE_ADDRESS_0, 4) & ~0xfULL) |
	       (uint64_t)config_get(which, PCI_BASE_ADDRESS_1, 4) << 32;
}

static uint64_t structure(unsigned which, uint8_t type)
{
	unsigned cap = find_cap(which, PCI_CAP_ID_VNDR, type);

	assert_int_equal(config_get(which, cap + 4, 1), 0);
	return bar(which) + config_get(which, cap + 8, 4);
}

static uint64_t common_at(unsigned which, unsigned field)
{
	return structure(which, VIRTIO_PCI_CAP_COMMON_CFG) + field;
}

static uint64_t get(unsigned which, unsigned field, unsigned size)
{
	return space_read(&mmio, common_at(which, field), size);
}

static void set(unsigned which, unsigned field, unsigned size, uint64_t value)
{
	space_write(&mmio, common_at(which, field), size, value);
}

static uint8_t get_status(unsigned which)
{
	return get(which, VIRTIO_PCI_COMMON_STATUS, 1);
}

static void set_status(unsigned which, uint8_t status)
{
	set(which, VIRTIO_PCI_COMMON_STATUS, 1, status);
}

#define DRIVER   (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define FEATURES (DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define READY    (FEATURES | VIRTIO_CONFIG_S_DRIVER_OK)

static uint64_t offered(unsigned which)
{
	uint64_t features;

	set(which, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	features = get(which, VIRTIO_PCI_COMMON_DF, 4) << 32;
	set(which, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	return features | get(which, VIRTIO_PCI_COMMON_DF, 4);
}

static void choose(unsigned which, uint64_t features)
{
	set_status(which, DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		set(which, VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		set(which, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> 32 * i));
	}
	set_status(which, FEATURES);
}

static void set_up_queue(unsigned which, unsigned queue, uint64_t gpa)
{
	set(which, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	set(which, VIRTIO_PCI_COMMON_Q_SIZE, 2, 64);
	set(which, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1 + queue);
	set(which, VIRTIO_PCI_COMMON_Q_DESCLO, 4, (uint32_t)gpa);
	set(which, VIRTIO_PCI_COMMON_Q_DESCHI, 4, gpa >> 32);
	set(which, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, gpa + 1024);
	set(which, VIRTIO_PCI_COMMON_Q_USEDLO, 8, gpa + 2048);
	set(which, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static void set_vector(unsigned which, unsigned vector, uint32_t data)
{
	uint64_t at =
		bar(which) +
		(config_get(which, find_cap(which, PCI_CAP_ID_MSIX, 0) + PCI_MSIX_TABLE, 4) & ~7U) +
		16 * vector;

	space_write(&mmio, at, 4, 0xfee00000);
	space_write(&mmio, at + 4, 4, 0);
	space_write(&mmio, at + 8, 4, data);
	space_write(&mmio, at + 12, 4, 0);
}

static void enable_msix(unsigned which)
{
	config_set(which, find_cap(which, PCI_CAP_ID_MSIX, 0) + PCI_MSIX_FLAGS, 2,
		PCI_MSIX_FLAGS_ENABLE);
}

static void start(unsigned which)
{
	struct error err = { 0 };

	assert_int_equal(make(which, &err), 0);
	config_set(which, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* All that a driver does; queue i lies at 4 KiB * i of the high region. */
static void set_up(unsigned which)
{
	config_set(which, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	enable_msix(which);
	for (unsigned i = 0; i < 3; i++)
		set_vector(which, i, 0x4040 + i);
	set(which, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	choose(which, offered(which));
	assert_int_equal(get_status(which), FEATURES);
	for (unsigned i = 0; i < 2; i++)
		set_up_queue(which, i, HIGH + 4 * KIB * i);
	set_status(which, READY);
}

static void drive(unsigned which)
{
	start(which);
	set_up(which);
}

TEST(a_driver_finds_a_net)
{
	uint64_t space;

	start(NET);
	assert_int_equal(config_get(NET, PCI_VENDOR_ID, 4), 0x10411af4);
	assert_int_equal(config_get(NET, PCI_CLASS_REVISION, 4), 0x02000001);
	assert_int_equal(config_get(NET, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(get(NET, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	space = structure(NET, VIRTIO_PCI_CAP_DEVICE_CFG);
	for (unsigned i = 0; i < sizeof(mac); i++)
		assert_int_equal(space_read(&mmio, space + i, 1), mac[i]);
	assert_int_equal(space_read(&mmio, space + 6, 2), VIRTIO_NET_S_LINK_UP);
	/* Nothing that has no one behind it, and nothing by which vhost could not reach RAM. */
	assert_int_equal(
		offered(NET) & (1ULL << VIRTIO_F_ACCESS_PLATFORM | 1ULL << VIRTIO_NET_F_CTRL_VQ |
				       1ULL << VIRTIO_NET_F_MQ),
		0);
	assert_true(offered(NET) >> VIRTIO_NET_F_MRG_RXBUF & 1);
}

TEST(a_driver_finds_a_vsock)
{
	start(VSOCK);
	assert_int_equal(config_get(VSOCK, PCI_VENDOR_ID, 4), 0x10531af4);
	assert_int_equal(get(VSOCK, VIRTIO_PCI_COMMON_NUMQ, 2), 3);
	assert_int_equal(
		space_read(&mmio, structure(VSOCK, VIRTIO_PCI_CAP_DEVICE_CFG), 8), 0x1234567);
}

TEST(a_driver_sets_a_net_up)
{
	const struct fake_ring *ring = &fake_vhost.rings[1];
	struct kvm_msi message;

	drive(NET);
	assert_int_equal(get_status(NET), READY);
	assert_true(fake_vhost.rings[0].runs && ring->runs);
	assert_int_equal(ring->size, 64);
	assert_ptr_equal(ring->descriptors, (char *)ram.regions[1].hva + 4 * KIB);
	assert_ptr_equal(ring->driver, ring->descriptors + 1024);
	assert_ptr_equal(ring->device, ring->descriptors + 2048);
	assert_int_equal(fake_vhost.offloads, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN);
	/* What vhost is told is vhost's alone. */
	assert_int_equal(fake_vhost.features & ~fake_vhost.offers, 0);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t doorbell = structure(NET, VIRTIO_PCI_CAP_NOTIFY_CFG) + 4 * i;

		assert_true(fake_vhost_delivers(fake_vhost.rings[i].call, &message));
		assert_int_equal(message.data, 0x4041 + i);
		assert_int_equal(fake_vhost_doorbell(doorbell), fake_vhost.rings[i].kick);
	}
}

TEST(a_vsock_runs_when_its_driver_is_ready)
{
	drive(VSOCK);
	assert_true(fake_vhost.running && fake_vhost.rings[0].runs && fake_vhost.rings[1].runs);
	set_status(VSOCK, 0);
	assert_false(fake_vhost.running);
}

TEST(a_vsock_does_not_run_on_what_an_earlier_driver_has_set_up)
{
	drive(VSOCK);
	set_status(VSOCK, 0);
	choose(VSOCK, offered(VSOCK));
	set_up_queue(VSOCK, 0, 0);
	set_status(VSOCK, READY);
	assert_int_equal(get_status(VSOCK), READY | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_false(fake_vhost.running || fake_vhost.rings[1].runs);
}

TEST(a_reset_takes_all_back)
{
	eventfd_t count;

	drive(NET);
	eventfd_write(fake_vhost.rings[0].kick, 1);
	set_status(NET, 0);
	assert_int_not_equal(eventfd_read(fake_vhost.rings[0].kick, &count), 0);
	assert_int_equal(get_status(NET), 0);
	assert_false(fake_vhost.rings[0].runs || fake_vhost.rings[1].runs);
	for (unsigned i = 0; i < 2; i++) {
		set(NET, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_SIZE, 2), 256);
		assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
		assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_DESCHI, 4), 0);
	}
	choose(NET, offered(NET));
	for (unsigned i = 0; i < 2; i++)
		set_up_queue(NET, i, 4 * KIB * i);
	set_status(NET, READY);
	assert_true(fake_vhost.rings[1].runs);
	assert_int_equal(fake_vhost.starts, 4);
}

/* It is the driver's alone: the back end does not know of it. */
TEST(a_net_that_stands_by_for_another_says_so)
{
	is_standby = true;
	start(NET);
	assert_int_equal(offered(NET) >> VIRTIO_NET_F_STANDBY & 1, 1);
	choose(NET, 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_NET_F_STANDBY);
	set_up_queue(NET, 0, 0);
	set_status(NET, READY);
	assert_int_equal(get_status(NET), READY);
	assert_int_equal(fake_vhost.features >> VIRTIO_NET_F_STANDBY & 1, 0);
}

TEST(features_that_are_not_offered_are_refused)
{
	static const uint64_t bad[] = { 0, 1ULL << VIRTIO_NET_F_MAC,
		1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_ACCESS_PLATFORM,
		1ULL << VIRTIO_F_VERSION_1 | 1ULL << 50,
		1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_NET_F_STANDBY };

	start(NET);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		choose(NET, bad[i]);
		assert_int_equal(get_status(NET), DRIVER);
		set_status(NET, READY);
		assert_int_equal(fake_vhost.starts, 0);
		set_status(NET, 0);
	}
	/* Later they do not change any more. */
	choose(NET, 1ULL << VIRTIO_F_VERSION_1);
	set(NET, VIRTIO_PCI_COMMON_GF, 4, 0);
	set_up_queue(NET, 0, 0);
	set_status(NET, READY);
	assert_true(fake_vhost.features >> VIRTIO_F_VERSION_1 & 1);
	assert_int_equal(fake_vhost.offloads, 0);
	/* Segments without checksums are nothing that a tap could do. */
	set_status(NET, 0);
	choose(NET, 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_NET_F_GUEST_TSO4);
	set_up_queue(NET, 0, 0);
	set_status(NET, READY);
	assert_int_equal(fake_vhost.starts, 2);
	assert_int_equal(fake_vhost.offloads, 0);
}

static uint64_t pending_at(unsigned which)
{
	return bar(which) +
	       (config_get(which, find_cap(which, PCI_CAP_ID_MSIX, 0) + PCI_MSIX_PBA, 4) & ~7U);
}

static void assert_needs_reset(void)
{
	set(NET, VIRTIO_PCI_COMMON_MSIX, 2, 2);
	assert_int_equal(space_read(&mmio, pending_at(NET), 8), 1 << 2);
	set(NET, VIRTIO_PCI_COMMON_MSIX, 2, 0xffff);
	eventfd_read(devices[NET]->config_irq.eventfd, &(eventfd_t){ 0 });
	assert_int_equal(get_status(NET), READY | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_false(fake_vhost.rings[0].runs || fake_vhost.rings[1].runs);
	/* Once. */
	assert_int_equal(space_read(&mmio, structure(NET, VIRTIO_PCI_CAP_ISR_CFG), 1), 2);
	assert_int_equal(space_read(&mmio, structure(NET, VIRTIO_PCI_CAP_ISR_CFG), 1), 0);
}

/* Where a queue may not begin, of this size; the last two are in RAM, and its parts not aligned (virtio 1.2, 2.7). */
static const uint64_t outside_of_ram[] = { RAM, RAM - 1024, HIGH - 16, HIGH + RAM - 2048,
	UINT64_MAX - 15, 8, HIGH + 1 };

TEST(queues_outside_of_ram_are_not_served)
{
	start(NET);
	for (size_t i = 0; i < ARRAY_SIZE(outside_of_ram); i++) {
		choose(NET, offered(NET));
		set_up_queue(NET, 0, 0);
		set_up_queue(NET, 1, outside_of_ram[i]);
		set_status(NET, READY);
		assert_needs_reset();
		set_status(NET, 0);
	}
}

TEST(a_queue_that_is_served_stays_what_it_is)
{
	drive(NET);
	set_up_queue(NET, 0, 0);
	assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_DESCHI, 4), 1);
	set(NET, VIRTIO_PCI_COMMON_Q_SIZE, 2, 32);
	assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
	/* Nor is one that the driver has not enabled before it was ready; and one that it has is as it was then. */
	set_status(NET, 0);
	choose(NET, offered(NET));
	set_up_queue(NET, 0, 0);
	set_up_queue(NET, 0, HIGH);
	assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_DESCHI, 4), 0);
	set_status(NET, READY);
	set_up_queue(NET, 1, 4 * KIB);
	assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_false(fake_vhost.rings[1].runs);
}

TEST(registers_that_are_not_there_do_nothing)
{
	start(NET);
	set(NET, VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
	assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	set(NET, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	set(NET, VIRTIO_PCI_COMMON_Q_DESCLO, 8, 4096);
	set(NET, VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
	assert_int_equal(get(NET, VIRTIO_PCI_COMMON_DF, 4), 0);
	set(NET, VIRTIO_PCI_COMMON_MSIX, 2, 3); /* of three vectors */
	assert_int_equal(get(NET, VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
	set(NET, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	for (unsigned size = 0; size <= 0xffff; size += size < 300 ? 1 : 251) {
		unsigned before = get(NET, VIRTIO_PCI_COMMON_Q_SIZE, 2);
		bool good = size && size <= 256 && !(size & (size - 1));

		set(NET, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
		assert_int_equal(get(NET, VIRTIO_PCI_COMMON_Q_SIZE, 2), good ? size : before);
	}
	/* An access of another width than the field's. */
	set(NET, VIRTIO_PCI_COMMON_Q_SIZE, 4, 16);
	set(NET, VIRTIO_PCI_COMMON_STATUS, 4, 1);
	assert_int_equal(get_status(NET), 0);
	assert_int_equal(space_read(&mmio, bar(NET) + 0x3ff8, 8), 0);
}

TEST(a_masked_vector_is_pending)
{
	unsigned cap;
	uint64_t pending;
	struct kvm_msi message;

	drive(NET);
	cap = find_cap(NET, PCI_CAP_ID_MSIX, 0);
	pending = pending_at(NET);
	config_set(NET, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	assert_false(fake_vhost_delivers(fake_vhost.rings[1].call, &message));
	assert_int_equal(space_read(&mmio, pending, 8), 0);
	eventfd_write(fake_vhost.rings[1].call, 1);
	assert_int_equal(space_read(&mmio, pending, 8), 1 << 2);
	config_set(NET, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_true(fake_vhost_delivers(fake_vhost.rings[1].call, &message));
}

TEST(a_doorbell_moves_with_the_bar_and_works_without_kvm)
{
	uint64_t doorbell;
	eventfd_t count;

	drive(NET);
	doorbell = structure(NET, VIRTIO_PCI_CAP_NOTIFY_CFG);
	config_set(NET, PCI_COMMAND, 2, 0);
	assert_int_equal(fake_vhost.doorbell_count, 0);
	config_set(NET, PCI_BASE_ADDRESS_0, 4, 0x100000 + (uint32_t)bar(NET));
	config_set(NET, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(fake_vhost_doorbell(doorbell), -1);
	assert_int_equal(fake_vhost_doorbell(doorbell + 0x100000), fake_vhost.rings[0].kick);
	space_write(&mmio, doorbell + 0x100004, 2, 1);
	assert_int_equal(eventfd_read(fake_vhost.rings[1].kick, &count), 0);
	assert_int_not_equal(eventfd_read(fake_vhost.rings[0].kick, &count), 0);
}

/* 4.1.4.9: the BAR by way of configuration space. */
TEST(configuration_space_has_a_window)
{
	unsigned cap;

	start(NET);
	cap = find_cap(NET, PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG);
	config_set(NET, cap + 8, 4, VIRTIO_PCI_COMMON_STATUS);
	config_set(NET, cap + 12, 4, 1);
	config_set(NET, cap + 16, 1, DRIVER);
	assert_int_equal(get_status(NET), DRIVER);
	assert_int_equal(config_get(NET, cap + 16, 1), DRIVER);
	config_set(NET, cap + 8, 4, VIRTIO_PCI_COMMON_NUMQ);
	config_set(NET, cap + 12, 4, 2);
	assert_int_equal(config_get(NET, cap + 16, 2), 2);
	config_set(NET, cap + 8, 4, VIRTIO_PCI_COMMON_STATUS + 1);
	assert_int_equal(config_get(NET, cap + 16, 2), 2);
	/* Of another BAR, beyond this one, across its own width, of a strange one. */
	config_set(NET, cap + 8, 4, VIRTIO_BAR_SIZE);
	config_set(NET, cap + 16, 2, 0xffff);
	config_set(NET, cap + 8, 4, VIRTIO_PCI_COMMON_STATUS - 1);
	config_set(NET, cap + 16, 2, 0);
	config_set(NET, cap + 8, 4, VIRTIO_PCI_COMMON_STATUS);
	config_set(NET, cap + 12, 4, 3);
	config_set(NET, cap + 16, 1, 0);
	config_set(NET, cap + 12, 4, 1);
	config_set(NET, cap + 4, 1, 1);
	config_set(NET, cap + 16, 1, 0);
	assert_int_equal(get_status(NET), DRIVER);
}

/* Whichever call fails: the device says so, or is none; and nothing is left over. */
TEST(a_kernel_that_fails_harms_nobody)
{
	for (unsigned i = 1;; i++) {
		struct error err = { 0 };

		fake_vhost.fail_in = i;
		if (make(NET, &err) == 0)
			set_up(NET);
		else
			assert_string_equal(err.object, "virtio");
		if (!fake_vhost.failed)
			break;
		virtio_free(devices[NET]);
		devices[NET] = NULL;
		root.bus.windows.mem64.next = MEM64;
		fake_vhost.owned = fake_vhost.has_memory = false;
		fake_vhost.failed = 0;
		assert_int_equal(fake_vhost.irqfd_count + fake_vhost.doorbell_count, 0);
	}
}

/* A process as a back end. */

static uint64_t space_of(unsigned which)
{
	return structure(which, VIRTIO_PCI_CAP_DEVICE_CFG);
}

static void assert_user_runs(bool runs)
{
	assert_int_equal(fake_user.rings[0].runs, runs);
	assert_int_equal(fake_user.rings[1].runs, runs);
	assert_false(fake_user.rings[2].runs);
}

TEST(a_driver_finds_a_disk)
{
	start(DISK);
	assert_int_equal(config_get(DISK, PCI_VENDOR_ID, 4), 0x10421af4);
	assert_int_equal(config_get(DISK, PCI_CLASS_REVISION, 4), 0x01000001);
	assert_int_equal(get(DISK, VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	/* What the process says, but of the queues, of which it has more. */
	assert_int_equal(space_read(&mmio, space_of(DISK), 8), 0x5a5a5a5a5a5a5a5a);
	assert_int_equal(space_read(&mmio, space_of(DISK) + 34, 2), QUEUES);
	assert_int_equal(space_read(&mmio, space_of(DISK) + 60, 4), 0);
	/* Both take it that writes are cached, and flushed. */
	assert_int_equal(space_read(&mmio, space_of(DISK) + 32, 1), 1);
	assert_int_equal(fake_user.space[32], 1);
	assert_int_equal(offered(DISK),
		(DISK_FEATURES & ~(1ULL << VIRTIO_BLK_F_GEOMETRY)) | 1ULL << VIRTIO_F_VERSION_1 |
			1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_RING_F_INDIRECT_DESC);
}

TEST(a_process_serves_a_disk)
{
	eventfd_t count;

	drive(DISK);
	assert_int_equal(get_status(DISK), READY);
	assert_user_runs(true);
	assert_int_equal(fake_user.accepted, offered(DISK) | 1 << 30);
	for (unsigned i = 0; i < 2; i++) {
		const struct fake_user_ring *ring = &fake_user.rings[i];
		struct kvm_msi message;

		assert_true(ring->enabled);
		assert_int_equal(ring->size, 64);
		assert_int_equal(ring->descriptors, HIGH + 4 * KIB * i);
		assert_int_equal(ring->device, HIGH + 4 * KIB * i + 2048);
		space_write(&mmio, structure(DISK, VIRTIO_PCI_CAP_NOTIFY_CFG) + 4 * i, 2, i);
		assert_int_equal(eventfd_read(ring->kick, &count), 0);
		eventfd_write(ring->call, 1);
		assert_int_equal(eventfd_read(devices[DISK]->queues[i].irq.eventfd, &count), 0);
		assert_true(fake_vhost_delivers(devices[DISK]->queues[i].irq.eventfd, &message));
		assert_int_equal(message.data, 0x4041 + i);
	}
}

TEST(a_reset_stops_the_process_before_it_returns)
{
	drive(DISK);
	set_status(DISK, 0);
	assert_user_runs(false);
	set_up(DISK);
	assert_int_equal(get_status(DISK), READY);
	assert_user_runs(true);
	assert_int_equal(fake_user.starts, 4);
}

/* O_NONBLOCK is the open file's, which both have. */
TEST(a_process_cannot_have_a_reset_wait)
{
	drive(DISK);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(fcntl(fake_user.rings[i].kick, F_SETFL, 0), 0);
		assert_int_equal(fcntl(fake_user.rings[i].call, F_SETFL, 0), 0);
	}
	set_status(DISK, 0);
	assert_user_runs(false);
}

TEST(a_write_between_doorbells_rings_none)
{
	uint64_t doorbell;
	eventfd_t count;

	drive(DISK);
	doorbell = structure(DISK, VIRTIO_PCI_CAP_NOTIFY_CFG);
	for (unsigned i = 1; i < 4; i++)
		space_write(&mmio, doorbell + i, 1, 0);
	assert_int_not_equal(eventfd_read(fake_user.rings[0].kick, &count), 0);
	assert_int_not_equal(eventfd_read(fake_user.rings[1].kick, &count), 0);
}

TEST(a_process_serves_a_net)
{
	drive(CARD);
	assert_int_equal(config_get(CARD, PCI_VENDOR_ID, 4), 0x10411af4);
	assert_int_equal(space_read(&mmio, space_of(CARD), 4), 0x01005452);
	assert_true(offered(CARD) >> VIRTIO_NET_F_MRG_RXBUF & 1);
	assert_false(offered(CARD) >> VIRTIO_NET_F_CSUM & 1);
	assert_user_runs(true);
	assert_int_equal(fake_user.channel, -1);
}

TEST(a_process_serves_a_file_system)
{
	fake_user.protocol &= ~(1 << 9); /* virtiofsd has no configuration */
	fake_user.queues = 2;
	drive(SHARE);
	assert_int_equal(config_get(SHARE, PCI_VENDOR_ID, 4), 0x105a1af4);
	assert_int_equal(config_get(SHARE, PCI_CLASS_REVISION, 4), 0x01800001);
	assert_int_equal(get(SHARE, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	/* "shared", and one queue for requests. */
	assert_int_equal(space_read(&mmio, space_of(SHARE), 8), 0x0000646572616873);
	for (unsigned i = 8; i < 36; i += 4)
		assert_int_equal(space_read(&mmio, space_of(SHARE) + i, 4), 0);
	assert_int_equal(space_read(&mmio, space_of(SHARE) + 36, 4), 1);
	assert_int_equal(offered(SHARE), 1ULL << VIRTIO_F_VERSION_1 |
						 1ULL << VIRTIO_RING_F_EVENT_IDX |
						 1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	assert_user_runs(true);
	assert_int_equal(fake_user.channel, -1);
}

TEST(a_process_never_hears_of_queues_outside_of_ram)
{
	unsigned before;

	start(DISK);
	before = fake_user.requests;
	for (size_t i = 0; i < ARRAY_SIZE(outside_of_ram); i++) {
		choose(DISK, offered(DISK));
		set_up_queue(DISK, 0, 0);
		set_up_queue(DISK, 1, outside_of_ram[i]);
		set_status(DISK, READY);
		assert_int_equal(get_status(DISK), READY | VIRTIO_CONFIG_S_NEEDS_RESET);
		set_status(DISK, 0);
	}
	assert_int_equal(fake_user.requests, before);
	set_up(DISK);
	assert_user_runs(true);
}

static void write_cached(uint8_t cached)
{
	space_write(&mmio, space_of(DISK) + 32, 1, cached);
}

TEST(a_driver_says_whether_writes_are_cached)
{
	unsigned before;

	drive(DISK);
	write_cached(0);
	assert_int_equal(fake_user.space[32], 0);
	assert_int_equal(space_read(&mmio, space_of(DISK) + 32, 1), 0);
	/* Nothing else is its to write; nor this, if it has not accepted that it were. */
	before = fake_user.requests;
	space_write(&mmio, space_of(DISK) + 32, 4, 1);
	space_write(&mmio, space_of(DISK), 1, 1);
	set_status(DISK, 0);
	choose(DISK, 1ULL << VIRTIO_F_VERSION_1);
	before = fake_user.requests;
	write_cached(1);
	assert_int_equal(fake_user.requests, before);
	assert_int_equal(fake_user.space[32], 0);
}

static unsigned count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* All that a process is asked, from first to last. Is it trusted to the end? */
static bool live(struct error *err)
{
	bool is_trusted;

	if (make(DISK, err))
		return false;
	set_up(DISK);
	write_cached(0);
	set_status(DISK, 0);
	set_up(DISK);
	set_status(DISK, 0);
	is_trusted = !devices[DISK]->is_lost;
	virtio_free(devices[DISK]);
	devices[DISK] = NULL;
	return is_trusted;
}

/* Of any number that it says of what it can do, what is known here is taken. */
static bool is_a_lie(void)
{
	return fake_user.lies && !(fake_user.lie == FAKE_REFUSES &&
					 (fake_user.lied_about == 1 || fake_user.lied_about == 15 ||
						 fake_user.lied_about == 17));
}

/* Whichever answer is none, in whatever way: the device says so, or is none; all in its time, and nothing is left over. */
TEST(a_process_that_lies_harms_nobody)
{
	unsigned told = 0;

	for (enum fake_lie lie = 0; lie < FAKE_LIES; lie++)
		for (unsigned at = 1;; at++) {
			struct error err = { 0 };
			unsigned before = count_fds();
			bool is_trusted, is_last;

			fake_user.lie = lie;
			fake_user.lie_at = at;
			is_trusted = live(&err);
			assert_int_not_equal(is_trusted, is_a_lie());
			if (err.code)
				assert_string_equal(err.object, "virtio");
			assert_true(fake_user.now <= 1000 + 10000);
			told += fake_user.lies;
			is_last = fake_user.requests < at;
			fake_user_close();
			root.bus.windows.mem64.next = MEM64;
			user_fd = fake_user_open(&ram);
			fake_user.features |= DISK_FEATURES;
			assert_int_equal(count_fds(), before);
			assert_int_equal(fake_vhost.irqfd_count + fake_vhost.doorbell_count, 0);
			if (is_last)
				break;
		}
	assert_true(told > 300);
}

static void assert_lost(void)
{
	assert_int_equal(get_status(DISK), READY | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(space_read(&mmio, structure(DISK, VIRTIO_PCI_CAP_ISR_CFG), 1), 2);
	assert_int_equal(eventfd_read(devices[DISK]->config_irq.eventfd, &(eventfd_t){ 0 }), 0);
	set_status(DISK, 0);
	assert_int_equal(get_status(DISK), 0);
	set_up(DISK);
	assert_int_equal(get_status(DISK), READY | VIRTIO_CONFIG_S_NEEDS_RESET);
	/* And nothing more is heard of it. */
	loop_step(loop, 0);
	assert_false(devices[DISK]->loop);
}

static void drive_watched(void)
{
	drive(DISK);
	assert_int_equal(virtio_watch(devices[DISK], loop), 0);
}

TEST(the_loop_hears_that_the_process_has_ended)
{
	drive_watched();
	loop_step(loop, 0);
	assert_int_equal(get_status(DISK), READY);
	fake_user_close_process();
	loop_step(loop, 0);
	assert_lost();
}

TEST(an_end_that_a_vcpu_meets_first_is_told_once)
{
	drive_watched();
	fake_user.lie = FAKE_DIES;
	fake_user.lie_at = fake_user.requests + 1;
	write_cached(0);
	assert_lost();
}

/* While no driver has it, there is nobody to tell. */
TEST(a_process_that_ends_early_is_missed_by_a_later_driver)
{
	start(DISK);
	assert_int_equal(virtio_watch(devices[DISK], loop), 0);
	fake_user_close_process();
	loop_step(loop, 0);
	assert_int_equal(get_status(DISK), 0);
	set_up(DISK);
	assert_lost();
}

TEST(a_disk_that_grows_is_told)
{
	const uint32_t reply[] = { 2, 1 | 1 << 2, 8, 0, 0 };
	uint32_t got[5];

	drive_watched();
	for (unsigned i = 0; i < 2; i++) {
		unsigned generation = get(DISK, VIRTIO_PCI_COMMON_CFGGENERATION, 1);

		fake_user.space[0]++;
		fake_user_change(i ? 1 | 1 << 3 : 1);
		loop_step(loop, 0);
		assert_int_equal(space_read(&mmio, space_of(DISK), 1), 0x5b + i);
		assert_int_not_equal(get(DISK, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
		assert_int_equal(space_read(&mmio, structure(DISK, VIRTIO_PCI_CAP_ISR_CFG), 1), 2);
		assert_int_equal(
			eventfd_read(devices[DISK]->config_irq.eventfd, &(eventfd_t){ 0 }), 0);
		assert_int_equal(get_status(DISK), READY);
	}
	assert_int_equal(read(fake_user.channel, got, sizeof(got)), sizeof(got));
	assert_memory_equal(got, reply, sizeof(got));
	/* What has not changed is not told. */
	fake_user_change(1);
	loop_step(loop, 0);
	assert_int_equal(space_read(&mmio, structure(DISK, VIRTIO_PCI_CAP_ISR_CFG), 1), 0);
}

TEST(a_process_speaks_by_itself_of_its_configuration_alone)
{
	static const struct {
		uint32_t words[4];
		size_t size;
	} bad[] = {
		{ { 1, 1, 0 }, 12 },
		{ { 2, 2, 0 }, 12 },
		{ { 2, 1, 4, 0 }, 16 },
		{ { 2, 1 | 1 << 2, 0 }, 12 },
		{ { 2, 1 }, 8 },
		{ { 0 }, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (i) {
			virtio_free(devices[DISK]);
			fake_user_close();
			root.bus.windows.mem64.next = MEM64;
			user_fd = fake_user_open(&ram);
		}
		drive_watched();
		if (bad[i].size)
			assert_int_equal(
				write(fake_user.channel, bad[i].words, bad[i].size), bad[i].size);
		else
			shutdown(fake_user.channel, SHUT_WR);
		loop_step(loop, 0);
		assert_lost();
	}
}

/* Each answer comes, but late: together they do not take the loop's time for long. */
TEST(a_process_wears_out_the_loops_patience)
{
	int64_t before;

	drive_watched();
	before = fake_user.now;
	fake_user.late = 300;
	for (unsigned i = 0; i < 100 && get_status(DISK) == READY; i++) {
		fake_user_change(1);
		loop_step(loop, 0);
	}
	assert_true(fake_user.now - before <= 2400);
	fake_user.late = 0;
	assert_lost();
}

/* Of one that lives for long, each change may take its time. */
TEST(patience_comes_back_with_time)
{
	drive_watched();
	fake_user.late = 300;
	for (unsigned i = 0; i < 100; i++) {
		fake_user_change(1);
		loop_step(loop, 0);
		fake_user.now += 60000;
	}
	fake_user.late = 0;
	assert_int_equal(get_status(DISK), READY);
}

/* By us, where its back end does not. */
TEST(a_driver_hears_of_a_disks_size)
{
	unsigned generation, requests;

	drive_watched();
	generation = get(DISK, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	requests = fake_user.requests;
	virtio_resize(devices[DISK], 0x123456789 * 512 + 511);
	assert_int_equal(space_read(&mmio, space_of(DISK), 8), 0x123456789);
	assert_int_not_equal(get(DISK, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	assert_int_equal(eventfd_read(devices[DISK]->config_irq.eventfd, &(eventfd_t){ 0 }), 0);
	assert_int_equal(space_read(&mmio, structure(DISK, VIRTIO_PCI_CAP_ISR_CFG), 1), 2);
	virtio_resize(devices[DISK], 0x123456789 * 512);
	assert_int_equal(space_read(&mmio, structure(DISK, VIRTIO_PCI_CAP_ISR_CFG), 1), 0);
	assert_int_equal(fake_user.requests, requests);
}

static void assert_unfit(const char *why)
{
	struct error err = { 0 };

	assert_int_not_equal(make(DISK, &err), 0);
	assert_string_equal(err.object, "virtio");
	assert_non_null(strstr(err.what, why));
	fake_user_close();
	root.bus.windows.mem64.next = MEM64;
	user_fd = fake_user_open(&ram);
}

TEST(a_process_that_lacks_something_is_told)
{
	ram.count = 9;
	assert_unfit("in 9 parts");
	ram.count = 2;
	fake_user.features &= ~(1ULL << 30);
	assert_unfit("is too old");
	fake_user.features &= ~(1ULL << VIRTIO_F_VERSION_1);
	assert_unfit("is too old");
	fake_user.protocol &= ~(1 << 3);
	assert_unfit("lacks");
	fake_user.protocol &= ~(1 << 9);
	assert_unfit("lacks");
	fake_user.queues = QUEUES - 1;
	assert_unfit("fewer queues");
	fake_user.protocol &= ~1;
	assert_unfit("fewer queues");
	/* It need not say when a disk grows. */
	fake_user.protocol &= ~(1 << 5);
	drive(DISK);
	assert_int_equal(fake_user.channel, -1);
}

/* A card by vDPA. */

TEST(a_driver_finds_what_a_card_is)
{
	start(VDPA);
	assert_int_equal(config_get(VDPA, PCI_VENDOR_ID, 4), 0x10421af4);
	assert_int_equal(config_get(VDPA, PCI_CLASS_REVISION, 4), 0x01000001);
	assert_int_equal(get(VDPA, VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	assert_int_equal(space_read(&mmio, space_of(VDPA), 8), 0x3c3c3c3c3c3c3c3c);
	assert_int_equal(space_read(&mmio, space_of(VDPA) + 56, 4), 0x3c3c3c3c);
	assert_int_equal(space_read(&mmio, space_of(VDPA) + 60, 4), 0);
	/* Not packed queues, which are not set up here, and not that its addresses are IOVAs. */
	assert_int_equal(offered(VDPA),
		VDPA_FEATURES | 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX);
}

TEST(a_card_may_be_of_any_type)
{
	vdpa_type = 16; /* a GPU, of which nothing is known here */
	start(VDPA);
	assert_int_equal(config_get(VDPA, PCI_VENDOR_ID, 4), 0x10501af4);
	assert_int_equal(config_get(VDPA, PCI_CLASS_REVISION, 4), 0xff000001);
	assert_int_equal(get(VDPA, VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	set_up(VDPA);
	assert_int_equal(get_status(VDPA), READY);
}

static void assert_card_runs(bool runs)
{
	assert_int_equal(fake_vdpa.rings[0].runs, runs);
	assert_int_equal(fake_vdpa.rings[1].runs, runs);
	assert_false(fake_vdpa.rings[2].runs);
}

TEST(a_driver_sets_a_card_up)
{
	struct kvm_msi message;

	drive(VDPA);
	assert_int_equal(get_status(VDPA), READY);
	assert_int_equal(fake_vdpa.status, READY);
	assert_card_runs(true);
	assert_int_equal(fake_vdpa.features, offered(VDPA) | 1ULL << VIRTIO_F_ACCESS_PLATFORM);
	assert_true(fake_vdpa.is_mapped[0] && fake_vdpa.is_mapped[1]);
	assert_int_equal(fake_vdpa.mappings, 2);
	for (unsigned i = 0; i < 2; i++) {
		const struct fake_vdpa_ring *ring = &fake_vdpa.rings[i];

		assert_int_equal(ring->size, 64);
		assert_int_equal(ring->descriptors, HIGH + 4 * KIB * i);
		assert_int_equal(ring->device, HIGH + 4 * KIB * i + 2048);
		assert_int_equal(
			fake_vhost_doorbell(structure(VDPA, VIRTIO_PCI_CAP_NOTIFY_CFG) + 4 * i),
			ring->kick);
		assert_true(fake_vhost_delivers(ring->call, &message));
		assert_int_equal(message.data, 0x4041 + i);
	}
}

/* A kernel whose devices forget what is mapped maps again; another one need not. */
TEST(a_reset_stops_a_card)
{
	for (unsigned i = 0; i < 2; i++) {
		fake_vdpa_reset(&ram);
		fake_vdpa.backend_offers &= i ? ~0ULL : ~(1ULL << 8);
		drive(VDPA);
		set_status(VDPA, 0);
		assert_card_runs(false);
		assert_int_equal(fake_vdpa.status, 0);
		assert_int_equal(fake_vdpa.is_mapped[0] + fake_vdpa.is_mapped[1], 2 * i);
		set_up(VDPA);
		assert_card_runs(true);
		assert_int_equal(fake_vdpa.mappings, i ? 2 : 4);
		assert_int_equal(fake_vdpa.starts, 4);
		virtio_free(devices[VDPA]);
		devices[VDPA] = NULL;
		root.bus.windows.mem64.next = MEM64;
		assert_int_equal(fake_vdpa.is_mapped[0] + fake_vdpa.is_mapped[1], 0);
	}
}

TEST(ram_is_mapped_one_by_one_where_a_kernel_has_no_batch)
{
	fake_vdpa.backend_offers = 1ULL << 1;
	drive(VDPA);
	assert_card_runs(true);
	assert_int_equal(fake_vdpa.mappings, 2);
}

static bool is_ram_ready(void *opaque)
{
	++*(unsigned *)opaque;
	return fake_vdpa.is_ram_ready;
}

/* The vCPU makes its write once more when RAM is there; until then the driver has not been ready. */
TEST(a_card_waits_for_ram)
{
	unsigned asked = 0;

	ram.ready = is_ram_ready;
	ram.opaque = &asked;
	fake_vdpa.is_ram_ready = false;
	drive(VDPA);
	assert_int_equal(get_status(VDPA), FEATURES);
	assert_int_equal(asked, 1);
	assert_int_equal(fake_vdpa.mappings, 0);
	fake_vdpa.is_ram_ready = true;
	set_status(VDPA, READY);
	assert_int_equal(get_status(VDPA), READY);
	assert_card_runs(true);
	/* Others need not. */
	fake_vdpa.is_ram_ready = false;
	drive(NET);
	assert_int_equal(get_status(NET), READY);
	assert_int_equal(asked, 2);
}

TEST(a_card_never_hears_of_queues_outside_of_ram)
{
	start(VDPA);
	for (size_t i = 0; i < ARRAY_SIZE(outside_of_ram); i++) {
		choose(VDPA, offered(VDPA));
		set_up_queue(VDPA, 0, 0);
		set_up_queue(VDPA, 1, outside_of_ram[i]);
		set_status(VDPA, READY);
		assert_int_equal(get_status(VDPA), READY | VIRTIO_CONFIG_S_NEEDS_RESET);
		set_status(VDPA, 0);
	}
	assert_int_equal(fake_vdpa.resets, 0);
	set_up(VDPA);
	assert_card_runs(true);
}

TEST(a_card_may_have_small_queues)
{
	fake_vdpa.queue_size = 100;
	start(VDPA);
	assert_int_equal(get(VDPA, VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
	set(VDPA, VIRTIO_PCI_COMMON_Q_SIZE, 2, 128);
	assert_int_equal(get(VDPA, VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
	set_up(VDPA);
	assert_card_runs(true);
}

TEST(a_card_has_its_configuration_written)
{
	fake_vdpa.space_size = 16;
	start(VDPA);
	space_write(&mmio, space_of(VDPA) + 14, 2, 0x1234);
	assert_int_equal(fake_vdpa.space[14], 0x34);
	assert_int_equal(space_read(&mmio, space_of(VDPA) + 14, 2), 0x1234);
	/* Beyond its end, across it, and where the window is. */
	space_write(&mmio, space_of(VDPA) + 16, 4, 0);
	space_write(&mmio, space_of(VDPA) + 12, 8, 0);
	space_write(&mmio, space_of(VDPA) + 255, 1, 0);
	assert_int_equal(fake_vdpa.space_writes, 1);
}

/* It need have none, or may have more than there is room for. */
TEST(a_cards_configuration_has_any_size)
{
	fake_vdpa.space_size = 0;
	drive(VDPA);
	assert_card_runs(true);
	assert_int_equal(space_read(&mmio, space_of(VDPA), 8), 0);
	virtio_free(devices[VDPA]);
	fake_vdpa_close();
	root.bus.windows.mem64.next = MEM64;
	fake_vdpa.space_size = FAKE_VDPA_SPACE;
	drive(VDPA);
	assert_int_equal(space_read(&mmio, space_of(VDPA) + 252, 4), 0x3c3c3c3c);
	assert_int_equal(space_read(&mmio, space_of(VDPA) + 256, 4), 0);
}

static void drive_watched_card(void)
{
	drive(VDPA);
	assert_int_equal(virtio_watch(devices[VDPA], loop), 0);
}

TEST(a_card_tells_that_it_is_another)
{
	unsigned generation;

	drive_watched_card();
	generation = get(VDPA, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	fake_vdpa_change();
	loop_step(loop, 0);
	assert_int_equal(get(VDPA, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	fake_vdpa.space[0] = 0x77;
	fake_vdpa_change();
	loop_step(loop, 0);
	assert_int_equal(space_read(&mmio, space_of(VDPA), 1), 0x77);
	assert_int_not_equal(get(VDPA, VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	assert_int_equal(space_read(&mmio, structure(VDPA, VIRTIO_PCI_CAP_ISR_CFG), 1), 2);
	assert_int_equal(get_status(VDPA), READY);
}

/* And works again after it. */
TEST(a_card_that_needs_a_reset_says_so)
{
	drive_watched_card();
	fake_vdpa.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	fake_vdpa_change();
	loop_step(loop, 0);
	assert_int_equal(get_status(VDPA), READY | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(space_read(&mmio, structure(VDPA, VIRTIO_PCI_CAP_ISR_CFG), 1), 2);
	set_status(VDPA, 0);
	set_up(VDPA);
	assert_int_equal(get_status(VDPA), READY);
	assert_card_runs(true);
}

TEST(a_card_that_refuses_its_driver_says_so)
{
	start(VDPA);
	fake_vdpa.takes_nothing = true;
	set_up(VDPA);
	assert_int_equal(get_status(VDPA), READY | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(fake_vdpa.status, 0);
	fake_vdpa.takes_nothing = false;
	set_status(VDPA, 0);
	set_up(VDPA);
	assert_int_equal(get_status(VDPA), READY);
}

/* It has no RAM any more, and no driver has it. */
TEST(a_card_that_cannot_be_reset_is_lost)
{
	drive_watched_card();
	fake_vdpa.cannot_reset = true;
	set_status(VDPA, 0);
	assert_false(fake_vdpa.is_mapped[0] || fake_vdpa.is_mapped[1]);
	set_up(VDPA);
	assert_int_equal(get_status(VDPA), READY | VIRTIO_CONFIG_S_NEEDS_RESET);
	fake_vdpa_change();
	loop_step(loop, 0);
}

static void assert_unfit_card(const char *why)
{
	struct error err = { 0 };

	assert_int_not_equal(make(VDPA, &err), 0);
	assert_string_equal(err.object, "virtio");
	if (!strstr(err.what, why))
		fail_msg("%s", err.what);
	fake_vdpa_reset(&ram);
	root.bus.windows.mem64.next = MEM64;
}

TEST(a_card_that_lacks_something_is_told)
{
	fake_vdpa.offers &= ~(1ULL << VIRTIO_F_VERSION_1);
	assert_unfit_card("older than virtio 1.0");
	fake_vdpa.backend_offers = 0;
	assert_unfit_card("cannot serve it");
	fake_vdpa.queue_size = 0;
	assert_unfit_card("cannot serve it");
	fake_vdpa.last = HIGH + RAM - 2;
	assert_unfit_card("guest RAM is at 0x100000000 to 0x10000ffff, and it reaches 0x0 to");
	fake_vdpa.first = 4096;
	assert_unfit_card("guest RAM is at 0x0 to");
	fake_vdpa.last = HIGH + RAM - 1;
	drive(VDPA);
	assert_card_runs(true);
}

/* Whichever call fails: the device says so, or is none; and nothing is left mapped. */
TEST(a_card_whose_kernel_fails_harms_nobody)
{
	unsigned tried = 0;

	for (unsigned i = 1;; i++) {
		struct error err = { 0 };
		bool failed;

		fake_vdpa_close();
		fake_vhost.failed = 0;
		fake_vhost.fail_in = i;
		if (make(VDPA, &err) == 0) {
			set_up(VDPA);
			space_write(&mmio, space_of(VDPA), 1, 0);
			set_status(VDPA, 0);
			set_up(VDPA);
			virtio_free(devices[VDPA]);
			devices[VDPA] = NULL;
		} else {
			assert_string_equal(err.object, "virtio");
		}
		failed = fake_vhost.failed;
		fake_vhost.fail_in = 0;
		root.bus.windows.mem64.next = MEM64;
		assert_int_equal(fake_vhost.irqfd_count + fake_vhost.doorbell_count, 0);
		assert_int_equal(fake_vdpa.is_mapped[0] + fake_vdpa.is_mapped[1], 0);
		assert_card_runs(false);
		tried = i;
		if (!failed)
			break;
	}
	assert_true(tried > 50);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_driver_finds_a_net),
		test(a_driver_finds_a_vsock),
		test(a_driver_sets_a_net_up),
		test(a_vsock_runs_when_its_driver_is_ready),
		test(a_vsock_does_not_run_on_what_an_earlier_driver_has_set_up),
		test(a_reset_takes_all_back),
		test(a_net_that_stands_by_for_another_says_so),
		test(features_that_are_not_offered_are_refused),
		test(queues_outside_of_ram_are_not_served),
		test(a_queue_that_is_served_stays_what_it_is),
		test(registers_that_are_not_there_do_nothing),
		test(a_masked_vector_is_pending),
		test(a_doorbell_moves_with_the_bar_and_works_without_kvm),
		test(configuration_space_has_a_window),
		test(a_kernel_that_fails_harms_nobody),
		test(a_driver_finds_a_disk),
		test(a_process_serves_a_disk),
		test(a_reset_stops_the_process_before_it_returns),
		test(a_process_cannot_have_a_reset_wait),
		test(a_write_between_doorbells_rings_none),
		test(a_process_serves_a_net),
		test(a_process_serves_a_file_system),
		test(a_process_never_hears_of_queues_outside_of_ram),
		test(a_driver_says_whether_writes_are_cached),
		test(a_process_that_lies_harms_nobody),
		test(the_loop_hears_that_the_process_has_ended),
		test(an_end_that_a_vcpu_meets_first_is_told_once),
		test(a_process_that_ends_early_is_missed_by_a_later_driver),
		test(a_disk_that_grows_is_told),
		test(a_process_speaks_by_itself_of_its_configuration_alone),
		test(a_process_wears_out_the_loops_patience),
		test(patience_comes_back_with_time),
		test(a_driver_hears_of_a_disks_size),
		test(a_process_that_lacks_something_is_told),
		test(a_driver_finds_what_a_card_is),
		test(a_card_may_be_of_any_type),
		test(a_driver_sets_a_card_up),
		test(a_reset_stops_a_card),
		test(ram_is_mapped_one_by_one_where_a_kernel_has_no_batch),
		test(a_card_waits_for_ram),
		test(a_card_never_hears_of_queues_outside_of_ram),
		test(a_card_may_have_small_queues),
		test(a_card_has_its_configuration_written),
		test(a_cards_configuration_has_any_size),
		test(a_card_tells_that_it_is_another),
		test(a_card_that_needs_a_reset_says_so),
		test(a_card_that_refuses_its_driver_says_so),
		test(a_card_that_cannot_be_reset_is_lost),
		test(a_card_that_lacks_something_is_told),
		test(a_card_whose_kernel_fails_harms_nobody),
	};

	return test_run(tests);
}
