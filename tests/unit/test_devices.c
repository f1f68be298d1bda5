/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/devices.h"
#include "machine/layout.h"
#include "machine/query.h"
#include "test.h"

#include <errno.h>
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/*
 * Devices from their groups to the guest's bus and back. The ioctls of VFIO and KVM are answered here
 * (-Wl,--wrap): a device is a file with its configuration space, a group one that is empty. So is
 * close(), to see who is in it at the same time.
 */

#define COUNT  4
#define WAIT_S 5

int __wrap_ioctl(int fd, unsigned long request, ...);
int __real_close(int fd);
int __wrap_close(int fd);

static struct {
	int groups[COUNT], files[COUNT];
	int request_fds[COUNT], error_fds[COUNT];
	unsigned sets;
	unsigned long failing; /* this ioctl fails */
	int failing_fd;        /* on this descriptor */
	uint32_t status;
	bool any_name;         /* devices are not where their number says */
	bool has_bars;         /* of a page, in the file behind the configuration space */
	uint64_t bar_size;     /* or of so many bytes, and no file; 0 */
	unsigned maps, unmaps; /* for DMA */
	pthread_mutex_t lock;  /* for what follows */
	pthread_cond_t changed;
	unsigned inside, most, wanted; /* how many are in open or close at once, and are to be */
} host;

static int find(const int *fds, int fd)
{
	for (unsigned i = 0; i < COUNT; i++)
		if (fds[i] == fd)
			return i;
	return -1;
}

static int index_of(int file)
{
	return find(host.files, file);
}

/* Whoever comes here waits for the others, as long as none of them can be there. */
static void meet(void)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += WAIT_S;
	pthread_mutex_lock(&host.lock);
	host.inside++;
	host.most = max_u64(host.most, host.inside);
	pthread_cond_broadcast(&host.changed);
	while (host.most < host.wanted &&
		pthread_cond_timedwait(&host.changed, &host.lock, &end) == 0)
		continue;
	host.inside--;
	pthread_mutex_unlock(&host.lock);
}

static int open_device(int group, const char *name)
{
	unsigned i = find(host.groups, group);
	char wanted[BDF_TEXT];

	snprintf(wanted, sizeof(wanted), "0000:%02x:00.0", i + 1);
	if (!host.any_name)
		assert_string_equal(name, wanted);
	meet();
	return host.files[i];
}

static int set_irqs(int fd, const struct vfio_irq_set *set)
{
	int i = index_of(fd);

	if (set->index == VFIO_PCI_REQ_IRQ_INDEX)
		host.request_fds[i] = *(const int *)set->data;
	if (set->index == VFIO_PCI_ERR_IRQ_INDEX)
		host.error_fds[i] = *(const int *)set->data;
	return 0;
}

static int get_region(struct vfio_region_info *info)
{
	info->size = info->index == VFIO_PCI_CONFIG_REGION_INDEX ? 256 : 0;
	if (info->index == VFIO_PCI_BAR0_REGION_INDEX)
		info->size = host.bar_size;
	if (!host.has_bars || info->index)
		return 0;
	info->size = info->offset = 4 * KIB;
	info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
		      VFIO_REGION_INFO_FLAG_MMAP;
	return 0;
}

static int answer(int fd, unsigned long request, void *argument)
{
	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		((struct vfio_group_status *)argument)->flags = host.status;
		return 0;
	case VFIO_GROUP_SET_CONTAINER:
		host.sets++;
		return 0;
	case VFIO_CHECK_EXTENSION:
		return 1;
	case VFIO_GROUP_GET_DEVICE_FD:
		return open_device(fd, argument);
	case VFIO_DEVICE_GET_INFO:
		*(struct vfio_device_info *)argument = (struct vfio_device_info){
			.flags = VFIO_DEVICE_FLAGS_PCI,
			.num_regions = VFIO_PCI_NUM_REGIONS,
			.num_irqs = VFIO_PCI_NUM_IRQS,
		};
		return 0;
	case VFIO_DEVICE_GET_REGION_INFO:
		return get_region(argument);
	case VFIO_IOMMU_MAP_DMA:
		host.maps++;
		return 0;
	case VFIO_IOMMU_UNMAP_DMA:
		host.unmaps++;
		return 0;
	case VFIO_DEVICE_GET_IRQ_INFO:
		((struct vfio_irq_info *)argument)->count = 1;
		((struct vfio_irq_info *)argument)->flags = VFIO_IRQ_INFO_EVENTFD;
		return 0;
	case VFIO_DEVICE_SET_IRQS:
		return set_irqs(fd, argument);
	default:
		return 0;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *argument;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	if (request == host.failing && (!host.failing_fd || fd == host.failing_fd)) {
		errno = EIO;
		return -1;
	}
	return answer(fd, request, argument);
}

int __wrap_close(int fd)
{
	if (index_of(fd) >= 0)
		meet();
	return __real_close(fd);
}

struct fixture {
	struct kvm_vm vm;
	struct space mmio, pio;
	struct topology topology;
	struct machine_pci pci;
	struct loop *loop;
	struct machine_config config;
	struct machine_devices devices;
	struct error failure;
	char said[256];         /* of events, and the machine's failure */
	uint64_t closed;        /* a bit a device */
	unsigned plugged, held; /* how often; how deep */
	uint32_t asked;         /* to eject, a bit a slot */
	uint32_t request;       /* the last one that has been answered */
	unsigned events;        /* of plugging that the loop is to see before it stops */
};

static void note(struct fixture *fixture, const char *what, unsigned number, unsigned action)
{
	static const char *const actions[] = { "report", "detach", "stop", "ask" };
	size_t used = strlen(fixture->said);

	snprintf(fixture->said + used, sizeof(fixture->said) - used, "%s %u %s; ", what, number,
		actions[action]);
}

static void wanted(void *opaque, unsigned device, enum machine_action action)
{
	note(opaque, "wanted", device, action);
}

static void faulty(void *opaque, unsigned device, enum machine_action action)
{
	note(opaque, "faulty", device, action);
}

static void failed(void *opaque, const struct error *failure)
{
	struct fixture *fixture = opaque;

	fixture->failure = *failure;
}

static void closed(void *opaque, unsigned device)
{
	struct fixture *fixture = opaque;

	__atomic_or_fetch(&fixture->closed, 1ULL << device, __ATOMIC_RELAXED);
	if (fixture->events)
		fixture->events--;
}

static void plugged(void *opaque, uint32_t request, const struct error *err)
{
	struct fixture *fixture = opaque;

	fixture->plugged++;
	fixture->request = request;
	fixture->failure = *err;
	if (fixture->events)
		fixture->events--;
}

static void hold(void *opaque, bool held)
{
	struct fixture *fixture = opaque;

	fixture->held += held ? 1 : -1;
}

static void eject(void *opaque, unsigned slot, bool wanted)
{
	struct fixture *fixture = opaque;

	fixture->asked = wanted ? fixture->asked | 1U << slot : fixture->asked & ~(1U << slot);
}

static int reach(void *opaque, struct error *err)
{
	(void)opaque, (void)err;
	return 0;
}

static void make_device(unsigned i)
{
	uint8_t config[256] = { 0x86, 0x80, i };

	host.groups[i] = memfd_create("group", MFD_CLOEXEC);
	host.files[i] = memfd_create("device", MFD_CLOEXEC);
	assert_int_equal(pwrite(host.files[i], config, sizeof(config), 0), sizeof(config));
	assert_int_equal(ftruncate(host.files[i], 8 * KIB), 0);
}

static int setup(void **state)
{
	static struct fixture fixture;
	static const struct pci_windows windows = {
		.io = { LAYOUT_IO_BASE, LAYOUT_IO_SIZE, LAYOUT_IO_BASE },
		.mem32 = { LAYOUT_MEM32_BASE, LAYOUT_MEM32_SIZE, LAYOUT_MEM32_BASE },
		.mem64 = { 1ULL << 40, 1ULL << 40, 1ULL << 40 },
	};
	struct error err = { 0 };

	memset(&fixture, 0, sizeof(fixture));
	memset(&host, 0, sizeof(host));
	host.status = VFIO_GROUP_FLAGS_VIABLE;
	pthread_mutex_init(&host.lock, NULL);
	pthread_cond_init(&host.changed, NULL);
	pthread_mutex_init(&fixture.vm.lock, NULL);
	fixture.vm.vfio_fd = -1;
	space_init(&fixture.mmio);
	space_init(&fixture.pio);
	fixture.loop = loop_new(&err);
	fixture.topology.windows = windows;
	fixture.config.device_count = COUNT;
	for (unsigned i = 0; i < COUNT; i++) {
		make_device(i);
		fixture.config.devices[i] =
			(struct vfio_source){ { .bus = i + 1 }, host.groups[i] };
	}
	fixture.devices.wanted = wanted;
	fixture.devices.faulty = faulty;
	fixture.devices.failed = failed;
	fixture.devices.closed = closed;
	fixture.devices.plugged = plugged;
	fixture.devices.hold = hold;
	fixture.devices.eject = eject;
	fixture.devices.reach = reach;
	fixture.devices.opaque = &fixture;
	*state = &fixture;
	return err.code;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	machine_pci_destroy(&fixture->pci);
	loop_free(fixture->loop);
	space_destroy(&fixture->mmio);
	space_destroy(&fixture->pio);
	for (unsigned i = 0; i < COUNT; i++) { /* unless they were closed */
		__real_close(host.files[i]);
		__real_close(host.groups[i]);
	}
	return 0;
}

static int open_all(struct fixture *fixture, struct error *err)
{
	return devices_open(&fixture->devices, &fixture->config, &fixture->vm, err);
}

static void attach(struct fixture *fixture)
{
	struct error err = { 0 };

	assert_int_equal(open_all(fixture, &err), 0);
	if (devices_describe(&fixture->devices, &fixture->topology, &err) ||
		topology_plan(&fixture->topology, fixture->config.ports, &err) ||
		machine_pci_init(&fixture->pci, &fixture->vm, &fixture->mmio, &fixture->pio,
			&fixture->topology, false, &err) ||
		devices_attach(
			&fixture->devices, &fixture->pci, &fixture->topology, fixture->loop, &err))
		fail_msg("%s", err.what);
}

static bool is_open(int fd)
{
	return lseek(fd, 0, SEEK_CUR) >= 0;
}

static void they_open_and_close_all_at_once(void **state)
{
	struct fixture *fixture = *state;

	host.wanted = COUNT;
	attach(fixture);
	assert_int_equal(host.most, COUNT);
	host.most = 0;
	devices_close(&fixture->devices);
	assert_int_equal(host.most, COUNT);
	assert_int_equal(fixture->closed, (1 << COUNT) - 1);
	for (unsigned i = 0; i < COUNT; i++)
		assert_false(is_open(host.files[i]));
}

/* Of one that is open, and of which no interrupt has been asked for yet. */
static void the_line_of_one_that_has_been_opened_is_off(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	uint16_t command;

	assert_int_equal(open_all(fixture, &err), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(pread(host.files[i], &command, 2, PCI_COMMAND), 2);
		assert_int_equal(command, PCI_COMMAND_INTX_DISABLE);
	}
	devices_close(&fixture->devices);
}

static void a_device_that_does_not_open_is_told_and_the_others_are_closed(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	host.failing = VFIO_GROUP_GET_DEVICE_FD;
	host.failing_fd = host.groups[2];
	assert_true(open_all(fixture, &err) != 0);
	assert_int_equal(err.code, -EIO);
	assert_string_equal(err.object, "0000:03:00.0");
	devices_close(&fixture->devices);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(is_open(host.files[i]), i == 2);
}

static void a_group_that_is_not_viable_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	host.status = 0;
	assert_int_equal(open_all(fixture, &err), -EPERM);
	assert_non_null(strstr(err.object, "00.0"));
	devices_close(&fixture->devices);
}

static void kvm_must_know_of_the_groups(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	host.failing = KVM_CREATE_DEVICE;
	assert_int_equal(open_all(fixture, &err), -EIO);
	assert_non_null(strstr(err.what, "KVM"));
	devices_close(&fixture->devices);
}

static unsigned id_at(struct fixture *fixture, unsigned slot, unsigned function)
{
	return space_read(&fixture->mmio, LAYOUT_ECAM + (slot << 15 | function << 12), 4);
}

static void they_are_in_the_slots_by_the_order_of_the_command_line(void **state)
{
	struct fixture *fixture = *state;

	attach(fixture);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(id_at(fixture, i + 1, 0), i << 16 | 0x8086);
	assert_int_equal(id_at(fixture, COUNT + 1, 0), 0xffffffff);
	devices_close(&fixture->devices);
}

static void wait_until_closed(struct fixture *fixture, uint64_t devices)
{
	for (unsigned i = 0; fixture->closed != devices && i < 100; i++)
		loop_step(fixture->loop, 100);
	assert_int_equal(fixture->closed, devices);
}

static void raise_event(struct fixture *fixture, int eventfd)
{
	fixture->said[0] = '\0';
	assert_int_equal(eventfd_write(eventfd, 1), 0);
	/* Once is enough: it is taken. */
	for (unsigned i = 0; i < 3; i++)
		loop_step(fixture->loop, 10);
	assert_int_equal(fixture->held, 0);
}

/* Nobody can be asked: they are on the root bus. */
static void the_host_wants_one_back_that_has_no_port(void **state)
{
	struct fixture *fixture = *state;

	attach(fixture);
	raise_event(fixture, host.request_fds[1]);
	assert_string_equal(fixture->said, "wanted 1 detach; ");
	assert_int_equal(id_at(fixture, 2, 0), 0xffffffff);
	assert_int_equal(id_at(fixture, 3, 0), 2 << 16 | 0x8086);
	wait_until_closed(fixture, 2);
	assert_false(is_open(host.files[1]));
	assert_int_equal(fixture->failure.code, 0);
	devices_close(&fixture->devices);
}

static void one_may_report_errors(void **state)
{
	struct fixture *fixture = *state;

	attach(fixture);
	for (unsigned i = 0; i < 2; i++) {
		raise_event(fixture, host.error_fds[3]);
		assert_string_equal(fixture->said, "faulty 3 report; ");
	}
	assert_int_equal(id_at(fixture, 4, 0), 3 << 16 | 0x8086);
	fixture->config.on_device_error = MACHINE_DETACH;
	raise_event(fixture, host.error_fds[3]);
	assert_string_equal(fixture->said, "faulty 3 detach; ");
	assert_int_equal(id_at(fixture, 4, 0), 0xffffffff);
	wait_until_closed(fixture, 8);
	assert_int_equal(fixture->failure.code, 0);
	fixture->config.on_device_error = MACHINE_STOP;
	raise_event(fixture, host.error_fds[2]);
	assert_string_equal(fixture->said, "faulty 2 stop; ");
	assert_int_equal(fixture->failure.code, -EIO);
	assert_string_equal(fixture->failure.object, "0000:03:00.0");
	assert_non_null(strstr(fixture->failure.what, "uncorrectable error"));
	assert_non_null(strstr(fixture->failure.hint, "dmesg"));
	devices_close(&fixture->devices);
}

static void without_devices_there_is_nothing_to_do(void **state)
{
	struct fixture *fixture = *state;

	fixture->config.device_count = 0;
	attach(fixture);
	assert_int_equal(host.sets, 0);
	devices_close(&fixture->devices);
	assert_int_equal(fixture->closed, 0);
}

/* Plugging: the first device is there from the start, on the root bus; behind it are empty ports. */

#define PORTS   2
#define EXPRESS 0x60 /* in a port */

static void attach_one_of(struct fixture *fixture)
{
	fixture->config.device_count = 1;
	fixture->config.ports = PORTS;
	attach(fixture);
}

static uint64_t port_register(unsigned port, unsigned offset)
{
	return LAYOUT_ECAM + ((2 + port) << 15) + EXPRESS + offset;
}

static uint16_t port_get(struct fixture *fixture, unsigned port, unsigned offset)
{
	return space_read(&fixture->mmio, port_register(port, offset), 2);
}

static void port_set(struct fixture *fixture, unsigned port, unsigned offset, uint16_t value)
{
	space_write(&fixture->mmio, port_register(port, offset), 2, value);
}

static uint32_t id_behind(struct fixture *fixture, unsigned port, unsigned function)
{
	return space_read(
		&fixture->mmio, LAYOUT_ECAM + (port + 1) * PCI_ECAM_BUS_SIZE + (function << 12), 4);
}

/* The other two are these functions of one slot. */
static void attach_one_of_three(struct fixture *fixture, unsigned second, unsigned third)
{
	fixture->config.devices[1].bdf = (struct bdf){ .bus = 2, .function = second };
	fixture->config.devices[2].bdf = (struct bdf){ .bus = 2, .function = third };
	host.any_name = true;
	attach_one_of(fixture);
}

static void run_until(struct fixture *fixture, unsigned events)
{
	fixture->events = events;
	while (fixture->events) {
		loop_step(fixture->loop, devices_patience(&fixture->devices));
		devices_keep_time(&fixture->devices);
	}
	assert_int_equal(fixture->held, 0);
}

static void start_to_plug(struct fixture *fixture, unsigned i, unsigned functions)
{
	struct vfio_source source = { fixture->config.devices[i].bdf, host.groups[i] };
	struct error err = { 0 };

	if (devices_plug(&fixture->devices, i, &source, functions, 100 + i, &err))
		fail_msg("%s", err.what);
}

static void plug_device(struct fixture *fixture, unsigned i)
{
	start_to_plug(fixture, i, 1);
	run_until(fixture, 1);
	assert_int_equal(fixture->request, 100 + i);
	assert_int_equal(fixture->failure.code, 0);
}

static void let_go(struct fixture *fixture, unsigned port)
{
	port_set(fixture, port, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PCC);
}

static void the_pages_of_ports_are_given_once(void **state)
{
	struct fixture *fixture = *state;
	struct memory_range page;

	attach_one_of(fixture);
	for (unsigned slot = 0; slot <= 1 + PORTS; slot++) {
		if (slot == 1)
			continue; /* the device's own is read from the device */
		assert_true(machine_pci_next_page(&fixture->pci, &page));
		assert_int_equal(page.gpa, LAYOUT_ECAM + (slot << 15));
		assert_int_equal(page.size, 4096);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_false(machine_pci_next_page(&fixture->pci, &page));
	devices_close(&fixture->devices);
}

static void one_that_is_plugged_is_seen_behind_the_first_empty_port(void **state)
{
	struct fixture *fixture = *state;

	attach_one_of(fixture);
	assert_int_equal(id_behind(fixture, 0, 0), 0xffffffff);
	plug_device(fixture, 1);
	assert_true(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	assert_true(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDC);
	/* The slot is without power until the guest wants it. */
	assert_int_equal(id_behind(fixture, 0, 0), 0xffffffff);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	assert_int_equal(id_behind(fixture, 0, 0), 1 << 16 | 0x8086);
	plug_device(fixture, 2);
	assert_true(port_get(fixture, 1, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	devices_close(&fixture->devices);
	assert_int_equal(fixture->closed, 7);
}

static void without_an_empty_port_it_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct vfio_source source = { fixture->config.devices[3].bdf, host.groups[3] };
	struct error err = { 0 };

	attach_one_of(fixture);
	plug_device(fixture, 1);
	plug_device(fixture, 2);
	assert_int_equal(devices_plug(&fixture->devices, 3, &source, 1, 9, &err), -ENOSPC);
	assert_non_null(strstr(err.hint, "--ports"));
	assert_false(is_open(host.groups[3]));
	devices_close(&fixture->devices);
}

/* Behind the first port, with power and no news. */
static void plug_and_use(struct fixture *fixture, unsigned i)
{
	plug_device(fixture, i);
	port_set(fixture, 0, PCI_EXP_SLTSTA, 0xffff);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
}

/* Slot 2: the first one has a device on the root bus. */
static void the_guest_is_asked_to_eject(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	attach_one_of(fixture);
	assert_int_equal(devices_patience(&fixture->devices), -1);
	for (unsigned i = 1; i < 3; i++) {
		plug_and_use(fixture, i);
		/* Of its own accord: nobody has asked. */
		devices_ejected(&fixture->devices, UINT32_MAX);
		loop_step(fixture->loop, 0);
		assert_int_equal(id_behind(fixture, 0, 0), i << 16 | 0x8086);
		assert_int_equal(fixture->asked, 0);
		assert_int_equal(devices_unplug(&fixture->devices, i, false, &err), 0);
		assert_int_equal(fixture->asked, 1 << 2);
		assert_false(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP);
		devices_ejected(&fixture->devices, 1 << 3);
		loop_step(fixture->loop, 0);
		assert_int_equal(id_behind(fixture, 0, 0), i << 16 | 0x8086);
		devices_ejected(&fixture->devices, 1 << 2);
		run_until(fixture, 1);
		assert_int_equal(fixture->asked, 0);
		assert_int_equal(devices_patience(&fixture->devices), -1);
		assert_false(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
		assert_false(is_open(host.files[i]));
		/* As a driver of the port does that finds its slot empty. */
		let_go(fixture, 0);
	}
	devices_close(&fixture->devices);
}

static void the_guest_is_asked_by_the_button_and_lets_go(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	int patience;

	attach_one_of(fixture);
	plug_and_use(fixture, 1);
	assert_int_equal(devices_unplug(&fixture->devices, 1, false, &err), 0);
	devices_keep_time(&fixture->devices);
	assert_false(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP);
	patience = devices_patience(&fixture->devices);
	assert_in_range(patience, 1, 1000);
	poll(NULL, 0, patience + 1);
	assert_int_equal(devices_patience(&fixture->devices), 0);
	devices_keep_time(&fixture->devices);
	assert_true(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP);
	/* Once. */
	assert_int_equal(devices_patience(&fixture->devices), -1);
	port_set(fixture, 0, PCI_EXP_SLTSTA, PCI_EXP_SLTSTA_ABP);
	devices_keep_time(&fixture->devices);
	assert_false(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP);
	assert_int_equal(id_behind(fixture, 0, 0), 1 << 16 | 0x8086);
	assert_int_equal(devices_unplug(&fixture->devices, 1, false, &err), -EALREADY);
	let_go(fixture, 0);
	run_until(fixture, 1);
	assert_int_equal(fixture->closed, 2);
	assert_false(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	assert_false(is_open(host.files[1]));
	plug_device(fixture, 2);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	assert_int_equal(id_behind(fixture, 0, 0), 2 << 16 | 0x8086);
	devices_close(&fixture->devices);
}

/* Nobody has asked for it: the slot is dark, and the device stays the guest's. */
static void a_guest_that_switches_a_slot_off_by_itself_has_it_back(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	attach_one_of(fixture);
	plug_device(fixture, 1);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	let_go(fixture, 0);
	assert_int_equal(id_behind(fixture, 0, 0), 0xffffffff);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	assert_int_equal(id_behind(fixture, 0, 0), 1 << 16 | 0x8086);
	/* But when it is off already, there is nothing to ask for. */
	let_go(fixture, 0);
	assert_int_equal(devices_unplug(&fixture->devices, 1, false, &err), 0);
	run_until(fixture, 1);
	assert_int_equal(fixture->closed, 2);
	devices_close(&fixture->devices);
}

/* Linux would hear nothing of it. */
static void what_comes_right_after_another_waits_a_while(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	attach_one_of(fixture);
	plug_device(fixture, 1);
	assert_int_equal(devices_unplug(&fixture->devices, 1, true, &err), 0);
	run_until(fixture, 1);
	assert_int_equal(devices_patience(&fixture->devices), -1);
	start_to_plug(fixture, 2, 1);
	assert_in_range(devices_patience(&fixture->devices), 1000, 1500);
	for (unsigned i = 0; i < 20; i++) {
		loop_step(fixture->loop, 10);
		devices_keep_time(&fixture->devices);
	}
	assert_false(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	run_until(fixture, 1);
	assert_true(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	assert_int_equal(devices_patience(&fixture->devices), -1);
	devices_close(&fixture->devices);
}

/* The guest waits for the link while the host's kernel resets the device. */
static void one_that_is_being_opened_is_announced(void **state)
{
	struct fixture *fixture = *state;

	attach_one_of(fixture);
	start_to_plug(fixture, 1, 1);
	assert_true(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	port_set(fixture, 0, PCI_EXP_SLTSTA, 0xffff);
	assert_int_equal(id_behind(fixture, 0, 0), 0xffffffff);
	run_until(fixture, 1);
	assert_int_equal(id_behind(fixture, 0, 0), 1 << 16 | 0x8086);
	assert_int_equal(port_get(fixture, 0, PCI_EXP_SLTSTA), PCI_EXP_SLTSTA_PDS);
	devices_close(&fixture->devices);
}

/* A guest that has waited a second in vain takes the slot for empty. */
static void one_that_opens_slowly_is_shown_anew(void **state)
{
	struct fixture *fixture = *state;

	attach_one_of(fixture);
	start_to_plug(fixture, 1, 1);
	poll(NULL, 0, 1100);
	loop_step(fixture->loop, 1000);
	assert_int_equal(fixture->plugged, 0);
	assert_false(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	assert_in_range(devices_patience(&fixture->devices), 2000, 2500);
	run_until(fixture, 1);
	assert_int_equal(fixture->failure.code, 0);
	assert_true(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	assert_int_equal(devices_patience(&fixture->devices), -1);
	devices_close(&fixture->devices);
}

static void by_force_it_is_gone_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	attach_one_of(fixture);
	plug_device(fixture, 1);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	port_set(fixture, 0, PCI_EXP_SLTSTA, 0xffff);
	assert_int_equal(devices_unplug(&fixture->devices, 1, true, &err), 0);
	assert_int_equal(id_behind(fixture, 0, 0), 0xffffffff);
	assert_int_equal(port_get(fixture, 0, PCI_EXP_SLTSTA) &
				 (PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC),
		PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	run_until(fixture, 1);
	/* Nor is the root bus's any longer. */
	assert_int_equal(devices_unplug(&fixture->devices, 0, false, &err), -EOPNOTSUPP);
	err = (struct error){ 0 };
	assert_int_equal(devices_unplug(&fixture->devices, 0, true, &err), 0);
	assert_int_equal(id_at(fixture, 1, 0), 0xffffffff);
	run_until(fixture, 1);
	assert_int_equal(fixture->closed, 3);
	assert_int_equal(devices_unplug(&fixture->devices, 0, true, &err), -ENODEV);
	devices_close(&fixture->devices);
}

/* The guest is asked once, and has half a minute, as the kernel says so every ten seconds. */
static void a_guest_that_is_asked_for_the_host_has_its_time(void **state)
{
	struct fixture *fixture = *state;

	attach_one_of(fixture);
	plug_device(fixture, 1);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	raise_event(fixture, host.request_fds[1]);
	assert_string_equal(fixture->said, "wanted 1 ask; ");
	assert_int_equal(fixture->asked, 1 << 2);
	for (unsigned i = 0; i < 2; i++) {
		raise_event(fixture, host.request_fds[1]);
		assert_string_equal(fixture->said, "");
	}
	assert_int_equal(id_behind(fixture, 0, 0), 1 << 16 | 0x8086);
	raise_event(fixture, host.request_fds[1]);
	assert_string_equal(fixture->said, "wanted 1 detach; ");
	assert_int_equal(fixture->asked, 0);
	assert_int_equal(id_behind(fixture, 0, 0), 0xffffffff);
	wait_until_closed(fixture, 2);
	devices_close(&fixture->devices);
}

/* Not a device whose slot is still empty, one that is gone, or none at all. */
static void a_wish_that_came_as_a_device_was_opened_is_heard(void **state)
{
	struct fixture *fixture = *state;

	attach_one_of(fixture);
	plug_device(fixture, 1);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	fixture->said[0] = '\0';
	devices_taken(&fixture->devices, 2);
	devices_taken(&fixture->devices, MACHINE_DEVICES_MAX);
	assert_string_equal(fixture->said, "");
	devices_taken(&fixture->devices, 1);
	assert_string_equal(fixture->said, "wanted 1 ask; ");
	assert_int_equal(fixture->asked, 1 << 2);
	let_go(fixture, 0);
	wait_until_closed(fixture, 2);
	devices_close(&fixture->devices);
}

/* Of two functions the one is wanted; a client has had the guest asked for the other already. */
static void a_guest_lets_go_of_what_the_host_wants(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	attach_one_of_three(fixture, 0, 1);
	start_to_plug(fixture, 1, 2);
	start_to_plug(fixture, 2, 2);
	run_until(fixture, 2);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	assert_int_equal(devices_unplug(&fixture->devices, 1, false, &err), 0);
	raise_event(fixture, host.request_fds[2]);
	assert_string_equal(fixture->said, "wanted 2 ask; ");
	let_go(fixture, 0);
	wait_until_closed(fixture, 6);
	devices_close(&fixture->devices);
}

static void one_that_does_not_open_leaves_the_port_empty(void **state)
{
	struct fixture *fixture = *state;

	attach_one_of(fixture);
	host.failing = VFIO_GROUP_GET_DEVICE_FD;
	host.failing_fd = host.groups[1];
	start_to_plug(fixture, 1, 1);
	run_until(fixture, 2);
	assert_int_equal(fixture->failure.code, -EIO);
	assert_int_equal(fixture->closed, 2);
	assert_false(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	host.failing = 0;
	plug_device(fixture, 2);
	assert_true(port_get(fixture, 0, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS);
	devices_close(&fixture->devices);
}

/* As where the broker could not send all of them. */
static void one_whose_companion_does_not_come_leaves_the_port_empty(void **state)
{
	struct fixture *fixture = *state;

	attach_one_of_three(fixture, 0, 1);
	start_to_plug(fixture, 1, 2);
	assert_in_range(devices_patience(&fixture->devices), 1000, 2000);
	run_until(fixture, 2);
	assert_int_equal(fixture->request, 101);
	assert_int_equal(fixture->failure.code, -ETIMEDOUT);
	assert_int_equal(fixture->closed, 2);
	assert_false(is_open(host.files[1]));
	assert_int_equal(devices_patience(&fixture->devices), -1);
	plug_device(fixture, 3);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	assert_int_equal(id_behind(fixture, 0, 0), 3 << 16 | 0x8086);
	devices_close(&fixture->devices);
}

static void functions_of_a_slot_come_and_go_together(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	attach_one_of_three(fixture, 0, 1);
	start_to_plug(fixture, 2, 2);
	start_to_plug(fixture, 1, 2);
	run_until(fixture, 2);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	assert_int_equal(id_behind(fixture, 0, 0), 1 << 16 | 0x8086);
	assert_int_equal(id_behind(fixture, 0, 1), 2 << 16 | 0x8086);
	assert_int_equal(devices_unplug(&fixture->devices, 2, true, &err), 0);
	run_until(fixture, 2);
	assert_int_equal(fixture->closed, 6);
	devices_close(&fixture->devices);
}

static void set_command(struct fixture *fixture, uint64_t function, uint16_t command)
{
	space_write(&fixture->mmio, LAYOUT_ECAM + function + PCI_COMMAND, 2, command);
}

/* What each has decoded, the first before the other came. */
static void two_reach_each_other_and_one_nobody(void **state)
{
	const uint64_t first = 1 << 15, second = PCI_ECAM_BUS_SIZE, port = 2 << 15;
	struct fixture *fixture = *state;
	struct error err = { 0 };

	host.has_bars = true;
	attach_one_of(fixture);
	set_command(fixture, first, PCI_COMMAND_MEMORY);
	assert_int_equal(host.maps, 0);
	plug_device(fixture, 1);
	assert_int_equal(host.maps, 1);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	space_write(&fixture->mmio, LAYOUT_ECAM + port + PCI_PRIMARY_BUS, 4, 0x010100);
	space_write(&fixture->mmio, LAYOUT_ECAM + port + PCI_MEMORY_BASE, 4, 0xa000a000);
	set_command(fixture, port, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	space_write(&fixture->mmio, LAYOUT_ECAM + second + PCI_BASE_ADDRESS_0, 4, 0xa0000000);
	set_command(fixture, second, PCI_COMMAND_MEMORY);
	assert_int_equal(host.maps, 2);
	assert_int_equal(devices_unplug(&fixture->devices, 1, true, &err), 0);
	assert_int_equal(host.unmaps, 1);
	run_until(fixture, 1);
	set_command(fixture, first, 0);
	assert_int_equal(host.unmaps, 2);
	set_command(fixture, first, PCI_COMMAND_MEMORY);
	assert_int_equal(host.maps, 2);
	devices_close(&fixture->devices);
}

/* As are the VFs of a PF with an odd number. A guest that finds no function 0 looks for no other. */
static void without_function_0_the_first_one_takes_its_place(void **state)
{
	struct fixture *fixture = *state;

	attach_one_of_three(fixture, 3, 1);
	start_to_plug(fixture, 1, 2);
	start_to_plug(fixture, 2, 2);
	run_until(fixture, 2);
	assert_int_equal(fixture->failure.code, 0);
	port_set(fixture, 0, PCI_EXP_SLTCTL, 0);
	assert_int_equal(id_behind(fixture, 0, 0), 2 << 16 | 0x8086);
	assert_int_equal(id_behind(fixture, 0, 3), 1 << 16 | 0x8086);
	devices_close(&fixture->devices);
}

static void functions_that_do_not_fit_together_are_refused(void **state)
{
	struct fixture *fixture = *state;

	attach_one_of_three(fixture, 0, 1);
	host.bar_size = fixture->pci.ports[0].bridge.secondary.windows.mem32.size;
	start_to_plug(fixture, 1, 2);
	start_to_plug(fixture, 2, 2);
	run_until(fixture, 2);
	assert_int_equal(fixture->failure.code, -ENOSPC);
	assert_string_equal(fixture->failure.what,
		"its BARs need 512 MiB of 32-bit addresses, and the empty port has 256 MiB");
	while (fixture->closed != 6)
		loop_step(fixture->loop, 1000);
	plug_device(fixture, 3);
	devices_close(&fixture->devices);
}

static void a_device_of_io_ports_alone_is_refused(void **state)
{
	static const uint32_t io = PCI_BASE_ADDRESS_SPACE_IO;
	struct fixture *fixture = *state;

	attach_one_of_three(fixture, 0, 1);
	host.bar_size = 32;
	assert_int_equal(pwrite(host.files[1], &io, sizeof(io), PCI_BASE_ADDRESS_0), sizeof(io));
	start_to_plug(fixture, 1, 1);
	run_until(fixture, 1);
	assert_int_equal(fixture->failure.code, -ENOSPC);
	assert_string_equal(fixture->failure.what,
		"its BARs are I/O ports alone, and the empty port has none for it");
	devices_close(&fixture->devices);
}

static void note_bus(
	void *opaque, const struct pci_device *device, const struct message_function *function)
{
	uint8_t *buses = opaque;

	(void)device;
	if (function->vendor == 0x8086 && function->device < COUNT)
		buses[function->device] = function->bus;
}

/* Two that nothing has been forwarded to yet are not on one bus for that. */
static void a_dark_slot_is_told_with_its_own_bus(void **state)
{
	struct fixture *fixture = *state;
	uint8_t buses[COUNT] = { 0 };

	attach_one_of(fixture);
	plug_device(fixture, 1);
	plug_device(fixture, 2);
	query_pci(&fixture->pci.root, note_bus, buses);
	assert_int_equal(buses[1], 1);
	assert_int_equal(buses[2], 2);
	devices_close(&fixture->devices);
}

static void the_end_comes_in_the_midst(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	attach_one_of(fixture);
	plug_device(fixture, 1);
	start_to_plug(fixture, 2, 1);
	assert_int_equal(devices_unplug(&fixture->devices, 1, true, &err), 0);
	devices_close(&fixture->devices);
	assert_int_equal(fixture->closed, 7);
	assert_false(is_open(host.files[1]) || is_open(host.files[2]));
}

#define DEVICES_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DEVICES_TEST(they_open_and_close_all_at_once),
		DEVICES_TEST(the_line_of_one_that_has_been_opened_is_off),
		DEVICES_TEST(a_device_that_does_not_open_is_told_and_the_others_are_closed),
		DEVICES_TEST(a_group_that_is_not_viable_is_refused),
		DEVICES_TEST(kvm_must_know_of_the_groups),
		DEVICES_TEST(they_are_in_the_slots_by_the_order_of_the_command_line),
		DEVICES_TEST(the_host_wants_one_back_that_has_no_port),
		DEVICES_TEST(one_may_report_errors),
		DEVICES_TEST(without_devices_there_is_nothing_to_do),
		DEVICES_TEST(the_pages_of_ports_are_given_once),
		DEVICES_TEST(one_that_is_plugged_is_seen_behind_the_first_empty_port),
		DEVICES_TEST(without_an_empty_port_it_is_refused),
		DEVICES_TEST(the_guest_is_asked_to_eject),
		DEVICES_TEST(the_guest_is_asked_by_the_button_and_lets_go),
		DEVICES_TEST(a_guest_that_switches_a_slot_off_by_itself_has_it_back),
		DEVICES_TEST(by_force_it_is_gone_at_once),
		DEVICES_TEST(what_comes_right_after_another_waits_a_while),
		DEVICES_TEST(one_that_is_being_opened_is_announced),
		DEVICES_TEST(one_that_opens_slowly_is_shown_anew),
		DEVICES_TEST(a_guest_that_is_asked_for_the_host_has_its_time),
		DEVICES_TEST(a_wish_that_came_as_a_device_was_opened_is_heard),
		DEVICES_TEST(a_guest_lets_go_of_what_the_host_wants),
		DEVICES_TEST(one_that_does_not_open_leaves_the_port_empty),
		DEVICES_TEST(one_whose_companion_does_not_come_leaves_the_port_empty),
		DEVICES_TEST(functions_of_a_slot_come_and_go_together),
		DEVICES_TEST(two_reach_each_other_and_one_nobody),
		DEVICES_TEST(without_function_0_the_first_one_takes_its_place),
		DEVICES_TEST(functions_that_do_not_fit_together_are_refused),
		DEVICES_TEST(a_device_of_io_ports_alone_is_refused),
		DEVICES_TEST(a_dark_slot_is_told_with_its_own_bus),
		DEVICES_TEST(the_end_comes_in_the_midst),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
