/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/machine.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/size.h"
#include "kvm/vcpu.h"
#include "machine/boot/linux.h"
#include "machine/layout.h"
#include "machine/platform/acpi.h"
#include "machine/platform/power.h"
#include "machine/platform/rtc.h"
#include "machine/platform/serial.h"
#include "machine/sandbox.h"
#include "machine/vcpus.h"
#include "passthrough/passthrough.h"
#include "vfio/iommu.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <sys/epoll.h>

struct machine {
	const struct machine_config *config;
	struct loop *loop;
	struct kvm_vm *vm;
	struct memory memory;
	struct space mmio, pio;
	struct pci_bus pci;
	struct pci_device host_bridge;
	struct console console;
	struct serial serial;
	struct rtc rtc;
	struct power power;
	struct vfio_iommu *iommu;
	struct passthrough *devices; /* config->device_count */
	unsigned attached;           /* of them */
	struct vcpus *vcpus;
	pthread_mutex_t lock; /* for the next two */
	enum machine_end end;
	struct error *err;
	bool ended;
};

/* Any thread may end the machine; the first one says how. */
static void end(struct machine *machine, enum machine_end how)
{
	pthread_mutex_lock(&machine->lock);
	if (!machine->ended) {
		machine->ended = true;
		machine->end = how;
	}
	pthread_mutex_unlock(&machine->lock);
	loop_stop(machine->loop);
}

static void on_off(void *opaque)
{
	end(opaque, MACHINE_OFF);
}

static void on_reset(void *opaque)
{
	end(opaque, MACHINE_RESET);
}

static void on_quit(void *opaque)
{
	end(opaque, MACHINE_QUIT);
}

static void on_button(void *opaque)
{
	struct machine *machine = opaque;

	power_press_button(&machine->power);
}

static void on_vcpu_failed(void *opaque, const struct error *failure)
{
	struct machine *machine = opaque;

	pthread_mutex_lock(&machine->lock);
	if (!machine->ended)
		*machine->err = *failure;
	pthread_mutex_unlock(&machine->lock);
	end(machine, MACHINE_FAILED);
}

static void on_device_requested(void *opaque, uint32_t events)
{
	struct machine *machine = opaque;

	(void)events;
	error_set(machine->err, -EBUSY, machine->config->name,
		"the host wants a device back (someone unbinds it or removes its driver)");
	end(machine, MACHINE_FAILED);
}

static void on_device_failed(void *opaque, uint32_t events)
{
	struct machine *machine = opaque;

	(void)events;
	error_set(machine->err, -EIO, machine->config->name,
		"a device has reported an uncorrectable error; dmesg says which (AER)");
	end(machine, MACHINE_FAILED);
}

static void on_control(void *opaque, uint32_t events)
{
	struct machine *machine = opaque;
	char command;

	(void)events;
	if (read(machine->config->control_fd, &command, 1) != 1)
		end(machine, MACHINE_QUIT);
	else if (command == MACHINE_PRESS_BUTTON)
		power_press_button(&machine->power);
}

static bool console_receive(void *opaque, uint8_t byte)
{
	struct machine *machine = opaque;

	return serial_receive(&machine->serial, byte);
}

static void console_room(void *opaque)
{
	struct machine *machine = opaque;

	serial_room(&machine->serial);
}

/* Devices open one by one in threads of their own: the kernel resets each, 100 ms or more. */
struct opening {
	pthread_t thread;
	bool threaded;
	struct machine *machine;
	unsigned index;
	struct error err;
};

static void *open_device(void *opaque)
{
	struct opening *opening = opaque;
	struct machine *machine = opening->machine;
	const struct machine_device *device = &machine->config->devices[opening->index];

	vfio_device_open(&machine->devices[opening->index].vfio, machine->iommu, device->group_fd,
		&device->bdf, &opening->err);
	return NULL;
}

static int open_devices(struct machine *machine, struct error *err)
{
	unsigned count = machine->config->device_count;
	cleanup_free struct opening *openings = calloc(count, sizeof(*openings));

	machine->devices = calloc(count, sizeof(*machine->devices));
	if (!openings || !machine->devices)
		return error_sys(err, -ENOMEM, NULL, "cannot open the devices");
	for (unsigned i = 0; i < count; i++) {
		openings[i].machine = machine;
		openings[i].index = i;
		openings[i].threaded = i + 1 < count && !pthread_create(&openings[i].thread, NULL,
								open_device, &openings[i]);
		if (!openings[i].threaded)
			open_device(&openings[i]);
	}
	for (unsigned i = 0; i < count; i++) {
		if (openings[i].threaded)
			pthread_join(openings[i].thread, NULL);
		if (openings[i].err.code && !err->code)
			*err = openings[i].err;
	}
	return err->code;
}

static int open_iommu(struct machine *machine, struct error *err)
{
	const struct machine_config *config = machine->config;
	char text[MACHINE_DEVICES_MAX][BDF_TEXT];
	const char *names[MACHINE_DEVICES_MAX];
	int groups[MACHINE_DEVICES_MAX];

	if (!config->device_count)
		return 0;
	for (unsigned i = 0; i < config->device_count; i++) {
		names[i] = bdf_format(&config->devices[i].bdf, text[i]);
		groups[i] = config->devices[i].group_fd;
	}
	machine->iommu =
		vfio_type1_open(config->container_fd, groups, names, config->device_count, err);
	if (!machine->iommu)
		return err->code;
	/* KVM learns of the groups before their devices open. */
	for (unsigned i = 0; i < config->device_count; i++) {
		int code = kvm_add_vfio_group(machine->vm, groups[i]);

		if (code && code != -EEXIST)
			return error_sys(err, code, names[i], "cannot tell KVM of the VFIO group");
	}
	return 0;
}

static void *populate(void *opaque)
{
	struct machine *machine = opaque;

	memory_populate(&machine->memory, machine->err);
	return NULL;
}

/* Populating RAM and opening devices both take long and need nothing of each other. */
static int open_devices_and_memory(struct machine *machine, struct error *err)
{
	struct error opening = { 0 };
	pthread_t thread;
	bool threaded;

	if (!machine->config->device_count)
		return 0;
	threaded = !pthread_create(&thread, NULL, populate, machine);
	if (!threaded)
		populate(machine);
	open_devices(machine, &opening);
	if (threaded)
		pthread_join(thread, NULL);
	if (!err->code)
		*err = opening;
	if (err->code)
		return err->code;
	for (unsigned i = 0; i < machine->memory.count; i++) {
		const struct memory_region *region = &machine->memory.regions[i];

		if (passthrough_map_memory(
			    machine->iommu, region->gpa, region->size, region->hva, err))
			return err->code;
	}
	return 0;
}

static int make_memory(struct machine *machine, struct error *err)
{
	const struct machine_config *config = machine->config;
	const struct iova_range *ranges = machine->iommu ? machine->iommu->ranges : NULL;
	unsigned count = machine->iommu ? machine->iommu->range_count : 0;

	if (memory_place(&machine->memory, config->memory, ranges, count, err) ||
		memory_allocate(&machine->memory, config->backing, err))
		return err->code;
	for (unsigned i = 0; i < machine->memory.count; i++) {
		const struct memory_region *region = &machine->memory.regions[i];
		int slot = kvm_slot_map(machine->vm, region->gpa, region->size, region->hva, 0);

		if (slot < 0)
			return error_sys(err, slot, NULL, "cannot give the guest its RAM");
	}
	return 0;
}

/* Half way up the guest-physical addresses; no more than 47 bits, which four-level tables reach. */
static int make_windows(struct machine *machine, struct pci_windows *windows, struct error *err)
{
	unsigned bits = min_u64(kvm_physical_bits(machine->config->kvm_fd), 47);
	uint64_t half = 1ULL << (bits - 1);
	char text[24];

	if (memory_end(&machine->memory) > half)
		return error_set(err, -ENOSPC, NULL,
			"guest RAM reaches beyond %s, half of what this host's %u address bits allow",
			size_format(half, text), bits);
	*windows = (struct pci_windows){
		.io = { LAYOUT_IO_BASE, LAYOUT_IO_SIZE, LAYOUT_IO_BASE },
		.mem32 = { LAYOUT_MEM32_BASE, LAYOUT_MEM32_SIZE, LAYOUT_MEM32_BASE },
		.mem64 = { half, half, half },
	};
	return 0;
}

static const struct pci_device_ops host_bridge_ops;

/* The Q35's, which stock firmware knows. */
static int make_pci(struct machine *machine, struct error *err)
{
	struct pci_device *bridge = &machine->host_bridge;
	struct pci_windows windows;

	if (make_windows(machine, &windows, err) ||
		pci_bus_init(
			&machine->pci, &machine->mmio, &machine->pio, LAYOUT_ECAM, &windows, err))
		return err->code;
	machine->pci.reset = on_reset;
	machine->pci.reset_opaque = machine;
	pci_device_init(bridge, &host_bridge_ops);
	pci_set16(bridge, PCI_VENDOR_ID, 0x8086);
	pci_set16(bridge, PCI_DEVICE_ID, 0x29c0);
	pci_set16(bridge, PCI_CLASS_DEVICE, 0x0600);
	return pci_bus_add(&machine->pci, bridge, 0, err);
}

static int make_platform(struct machine *machine, struct error *err)
{
	struct console_ops ops = { console_receive, console_room, on_quit, on_button, machine };
	int code;

	if (console_init(&machine->console, machine->loop, &machine->config->console, &ops, err))
		return err->code;
	machine->power.off = on_off;
	machine->power.reset = on_reset;
	machine->power.opaque = machine;
	code = serial_init(&machine->serial, &machine->pio, machine->vm, &machine->console);
	if (!code)
		code = rtc_init(&machine->rtc, &machine->pio);
	if (!code)
		code = power_init(&machine->power, &machine->pio, machine->vm);
	return code ? error_sys(err, code, NULL, "cannot make the platform's devices") : 0;
}

static bool same_slot(const struct bdf *a, const struct bdf *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device;
}

/* Another function of device i's slot that is passed too; its function 0 where number is 0. */
static bool has_sibling(const struct machine_config *config, unsigned i, bool function_0)
{
	for (unsigned j = 0; j < config->device_count; j++)
		if (j != i && same_slot(&config->devices[i].bdf, &config->devices[j].bdf) &&
			(!function_0 || config->devices[j].bdf.function == 0))
			return true;
	return false;
}

/*
 * The guest's slots from 1 on, in the order of the command line. Functions of one slot of the host
 * stay together, as their drivers expect (a graphics card and its sound), if function 0 is there: a
 * slot without one does not exist to a guest.
 */
static unsigned choose_slot(const struct machine *machine, unsigned i, bool together)
{
	const struct machine_config *config = machine->config;
	const struct bdf *bdf = &config->devices[i].bdf;
	unsigned slot = 1;

	for (unsigned j = 0; together && j < i; j++)
		if (same_slot(bdf, &config->devices[j].bdf))
			return machine->devices[j].pci.devfn >> 3;
	for (unsigned j = 0; j < i; j++)
		slot = max_u64(slot, (machine->devices[j].pci.devfn >> 3) + 1);
	return slot;
}

static int choose_place(const struct machine *machine, unsigned i, struct passthrough_place *place)
{
	uint8_t function = machine->config->devices[i].bdf.function;
	bool together = has_sibling(machine->config, i, function != 0);
	unsigned slot = choose_slot(machine, i, together);

	if (slot > 31)
		return -ENOSPC;
	place->devfn = slot << 3 | (together ? function : 0);
	place->multifunction = together;
	for (unsigned pin = 1; pin <= 4; pin++)
		place->gsi[pin - 1] = layout_pci_gsi(slot, pin);
	return 0;
}

static int attach_devices(struct machine *machine, struct error *err)
{
	for (unsigned i = 0; i < machine->config->device_count; i++) {
		struct passthrough *device = &machine->devices[i];
		struct passthrough_place place;
		int code;

		if (choose_place(machine, i, &place))
			return error_set(err, -ENOSPC, device->vfio.name,
				"the guest's PCI bus has no slot left");
		machine->attached = i + 1;
		if (passthrough_attach(device, machine->vm, &machine->pci, &place, err))
			return err->code;
		code = passthrough_watch(
			device, machine->loop, on_device_requested, on_device_failed, machine);
		if (code)
			return error_sys(
				err, code, device->vfio.name, "cannot watch for its events");
		log_info("%s is the guest's 00:%02x.%x", device->vfio.name, place.devfn >> 3,
			place.devfn & 7);
	}
	return 0;
}

static int make_vcpus(struct machine *machine, struct error *err)
{
	const struct machine_config *config = machine->config;
	struct linux_boot boot = {
		.kernel_fd = config->kernel_fd,
		.kernel_name = config->kernel_name,
		.initrd_fd = config->initrd_fd,
		.initrd_name = config->initrd_name,
		.cmdline = config->cmdline,
	};
	struct vcpus_ops ops = { on_reset, on_vcpu_failed, machine };
	struct linux_entry entry;

	if (acpi_write(&machine->memory, &machine->pci, config->cpus, &boot.rsdp, err) ||
		linux_load(&machine->memory, &boot, &entry, err))
		return err->code;
	machine->vcpus =
		vcpus_new(machine->vm, &machine->mmio, &machine->pio, config->cpus, &ops, err);
	if (!machine->vcpus)
		return err->code;
	return kvm_vcpu_enter_long_mode(
		vcpus_first(machine->vcpus), entry.cr3, entry.gdt, entry.rip, entry.rsi, err);
}

static int assemble(struct machine *machine, struct error *err)
{
	const struct machine_config *config = machine->config;
	int code;

	machine->loop = loop_new(err);
	if (!machine->loop)
		return err->code;
	code = loop_add(machine->loop, config->control_fd, EPOLLIN, on_control, machine);
	if (code)
		return error_sys(err, code, NULL, "cannot listen to the broker");
	machine->vm = kvm_vm_new(config->kvm_fd, err);
	if (!machine->vm)
		return err->code;
	if (open_iommu(machine, err) || make_memory(machine, err) ||
		open_devices_and_memory(machine, err) || make_pci(machine, err) ||
		make_platform(machine, err) || attach_devices(machine, err))
		return err->code;
	return make_vcpus(machine, err);
}

/* In reverse order. Memory slots are left to the VM's end: deleting each would cost, for nothing. */
static void take_apart(struct machine *machine)
{
	vcpus_free(machine->vcpus);
	for (unsigned i = 0; i < machine->attached; i++)
		passthrough_detach(&machine->devices[i]);
	if (machine->console.loop)
		console_destroy(&machine->console);
	if (machine->iommu)
		machine->iommu->ops->close(machine->iommu);
	free(machine->devices);
	kvm_vm_free(machine->vm);
	memory_free(&machine->memory);
	space_destroy(&machine->pio);
	space_destroy(&machine->mmio);
	loop_free(machine->loop);
	pthread_mutex_destroy(&machine->lock);
}

enum machine_end machine_run(const struct machine_config *config, struct error *err)
{
	struct machine machine = { .config = config, .end = MACHINE_FAILED, .err = err };
	bool prefault = config->device_count; /* only then is all of the RAM there already */

	if (sandbox_enter(err))
		return MACHINE_FAILED;
	pthread_mutex_init(&machine.lock, NULL);
	space_init(&machine.mmio);
	space_init(&machine.pio);
	machine.memory.fd = -1;
	if (assemble(&machine, err) == 0 &&
		vcpus_start(machine.vcpus, prefault ? &machine.memory : NULL, err) == 0)
		loop_run(machine.loop);
	take_apart(&machine);
	return machine.end;
}
