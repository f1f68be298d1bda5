/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/machine.h"

#include "base/fd.h"
#include "base/loop.h"
#include "base/mapped.h"
#include "base/size.h"
#include "kvm/cpuid.h"
#include "kvm/vcpu.h"
#include "machine/boot/boot.h"
#include "machine/devices.h"
#include "machine/display.h"
#include "machine/fill.h"
#include "machine/layout.h"
#include "machine/message.h"
#include "machine/pci.h"
#include "machine/platform/events.h"
#include "machine/platform/panic.h"
#include "machine/platform/power.h"
#include "machine/platform/rtc.h"
#include "machine/platform/serial.h"
#include "machine/query.h"
#include "machine/sandbox.h"
#include "machine/vcpus.h"
#include "machine/virtio.h"

#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>

#define HOLD_AFTER_S \
	10 /* seconds of waiting for RAM; Linux looks for locked-up CPUs after 10 or 20 */

struct machine {
	const struct machine_config *config;
	struct loop *loop;
	struct kvm_vm *vm;
	struct memory memory;
	struct fill *fill; /* NULL where RAM comes as the guest touches it */
	struct space mmio, pio;
	struct topology topology;
	struct machine_pci pci;
	struct console console;
	bool has_console;
	struct serial serial;
	struct rtc rtc;
	struct power power;
	struct panic panic;
	struct tpm tpm;
	bool has_tpm;
	struct machine_display display;
	struct events events;
	struct machine_devices devices;
	struct machine_virtio virtio;
	struct boot *boot;
	struct vcpus *vcpus;
	unsigned held_for; /* what the guest is held for, bits of enum machine_end; set by vCPUs */
	bool crash_loaded; /* the broker has been told; atomic */
	pthread_mutex_t holding; /* the vCPUs, by one that waits for RAM */
	pthread_mutex_t lock;    /* for what follows */
	enum machine_end end;
	struct error *err;
	bool ended;
};

/* A broker that has gone away needs no news. */
static void tell(struct machine *machine, const struct message *message)
{
	message_send(machine->config->control_fd, message);
}

/* Any thread may end the machine; the first one says how. */
static void end(struct machine *machine, enum machine_end how)
{
	pthread_mutex_lock(&machine->lock);
	if (!machine->ended) {
		machine->ended = true;
		machine->end = how;
		tell(machine, &(struct message){ .type = MESSAGE_ENDING });
	}
	pthread_mutex_unlock(&machine->lock);
	if (machine->loop)
		loop_stop(machine->loop);
}

static void on_off(void *opaque)
{
	end(opaque, MACHINE_OFF);
}

/* What the guest has done, on a vCPU's thread. */
static void end_or_hold(struct machine *machine, enum machine_end how, bool hold)
{
	if (!hold) {
		end(machine, how);
		return;
	}
	vcpus_hold(machine->vcpus, VCPUS_GUEST);
	/* Once: what a guest can have told again and again would fill the socket, and then stop this vCPU. */
	if (!(__atomic_fetch_or(&machine->held_for, 1U << how, __ATOMIC_ACQ_REL) >> how & 1))
		tell(machine, &(struct message){ .type = MESSAGE_HELD, .end = how });
}

static void on_reset(void *opaque)
{
	struct machine *machine = opaque;

	end_or_hold(machine, MACHINE_RESET, machine->config->hold_at_reboot);
}

static void on_panic(void *opaque)
{
	struct machine *machine = opaque;

	end_or_hold(machine, MACHINE_PANICKED, machine->config->hold_at_crash);
}

static void on_triple_fault(void *opaque)
{
	struct machine *machine = opaque;

	end_or_hold(machine, MACHINE_TRIPLE_FAULT, machine->config->hold_at_crash);
}

static void on_crash_loaded(void *opaque)
{
	struct machine *machine = opaque;

	if (!__atomic_exchange_n(&machine->crash_loaded, true, __ATOMIC_RELAXED))
		tell(machine, &(struct message){ .type = MESSAGE_CRASH_LOADED });
}

static void on_quit(void *opaque)
{
	end(opaque, MACHINE_QUIT);
}

static void on_button(void *opaque)
{
	struct machine *machine = opaque;

	events_raise(&machine->events, EVENTS_BUTTON);
}

static void on_failure(void *opaque, const struct error *failure)
{
	struct machine *machine = opaque;

	pthread_mutex_lock(&machine->lock);
	if (!machine->ended)
		*machine->err = *failure;
	pthread_mutex_unlock(&machine->lock);
	end(machine, MACHINE_FAILED);
}

/* The access that this vCPU makes has to wait for RAM. */
static _Thread_local bool must_wait;

static bool on_ready(void *opaque)
{
	struct machine *machine = opaque;
	struct fill *fill = __atomic_load_n(&machine->fill, __ATOMIC_ACQUIRE);

	if (!fill || fill_is_done(fill))
		return true;
	pthread_mutex_lock(&machine->lock);
	must_wait = !machine->ended;
	pthread_mutex_unlock(&machine->lock);
	return false;
}

static bool on_must_wait(void *opaque)
{
	bool is = must_wait;

	(void)opaque;
	must_wait = false;
	return is;
}

/*
 * Linux writes Bus Master with interrupts off. Where that takes long, the other vCPUs are held, too, and
 * as all of them are told that the guest stood still, their watchdogs see no CPU that is locked up.
 */
static void on_wait(void *opaque)
{
	struct machine *machine = opaque;

	if (fill_wait(machine->fill, HOLD_AFTER_S) != -ETIMEDOUT)
		return;
	/* By one vCPU alone, where several wait. */
	pthread_mutex_lock(&machine->holding);
	if (!fill_is_done(machine->fill)) {
		vcpus_pause(machine->vcpus, VCPUS_MEMORY);
		fill_wait(machine->fill, 0);
		vcpus_resume(machine->vcpus, VCPUS_MEMORY);
	}
	pthread_mutex_unlock(&machine->holding);
}

static bool on_populated(void *opaque, struct memory_range *range)
{
	struct machine *machine = opaque;
	struct fill *fill = __atomic_load_n(&machine->fill, __ATOMIC_ACQUIRE);

	return machine_pci_next_page(&machine->pci, range) ||
	       memory_next_first(&machine->memory, range) || (fill && fill_next(fill, range));
}

static void on_closed(void *opaque, unsigned device)
{
	tell(opaque, &(struct message){ .type = MESSAGE_CLOSED, .device = device });
}

static void on_plugged(void *opaque, uint32_t request, const struct error *err)
{
	tell(opaque, &(struct message){ .type = MESSAGE_REPLY, .id = request, .error = *err });
}

static void on_wanted(void *opaque, unsigned device, enum machine_action action)
{
	tell(opaque, &(struct message){ .type = MESSAGE_WANTED, .event = { device, action } });
}

static void on_faulty(void *opaque, unsigned device, enum machine_action action)
{
	tell(opaque, &(struct message){ .type = MESSAGE_FAILED, .event = { device, action } });
}

static void on_hold(void *opaque, bool held)
{
	struct machine *machine = opaque;

	if (held)
		vcpus_pause(machine->vcpus, VCPUS_PLUG);
	else
		vcpus_resume(machine->vcpus, VCPUS_PLUG);
}

static void on_eject(void *opaque, unsigned slot, bool wanted)
{
	struct machine *machine = opaque;

	if (wanted)
		events_raise(&machine->events, 1U << slot);
	else
		events_withdraw(&machine->events, 1U << slot);
}

static void on_ejected(void *opaque, uint32_t slots)
{
	struct machine *machine = opaque;

	devices_ejected(&machine->devices, slots);
}

static void tell_cpus(struct machine *machine, uint32_t id)
{
	for (unsigned i = 0; i < machine->config->cpus.count; i++)
		tell(machine, &(struct message){
				      .type = MESSAGE_CPU,
				      .id = id,
				      .cpu = { i, vcpus_thread(machine->vcpus, i) },
			      });
}

struct listing {
	struct machine *machine;
	uint32_t id;
};

static void tell_function(
	void *opaque, const struct pci_device *device, const struct message_function *function)
{
	const struct listing *listing = opaque;
	struct message message = {
		.type = MESSAGE_FUNCTION,
		.id = listing->id,
		.function = *function,
	};

	message.function.number = devices_number(&listing->machine->devices, device);
	tell(listing->machine, &message);
}

static int attach(struct machine *machine, const struct message *message, struct error *err)
{
	const struct message_attach *attach = &message->attach;
	const struct vfio_source source = { attach->bdf, message->fds[0] };

	return devices_plug(
		&machine->devices, attach->device, &source, attach->functions, message->id, err);
}

/*
 * What vCPUs have told the broker is told before the answer, as none is in an access then; what they tell next
 * comes behind it.
 */
static void let_go_on(struct machine *machine, struct message *reply)
{
	vcpus_pause(machine->vcpus, VCPUS_USER);
	/* The broker may not have heard of it when it passed this on, or of another vCPU's panic alone. */
	if (machine->held_for & (1U << MACHINE_RESET | 1U << MACHINE_TRIPLE_FAULT)) {
		error_set(&reply->error, -EBUSY, NULL, MACHINE_MUST_RESET);
		error_hint(&reply->error, MACHINE_MUST_RESET_HINT);
	}
	tell(machine, reply);
	if (!reply->error.code) {
		machine->held_for = 0;
		vcpus_resume(machine->vcpus, VCPUS_GUEST);
	}
	vcpus_resume(machine->vcpus, VCPUS_USER);
}

static void obey(struct machine *machine, const struct message *message)
{
	struct message reply = { .type = MESSAGE_REPLY, .id = message->id };

	switch (message->type) {
	case MESSAGE_PRESS_BUTTON:
		events_raise(&machine->events, EVENTS_BUTTON);
		return;
	case MESSAGE_RESET:
		end(machine, MACHINE_RESET);
		return;
	case MESSAGE_STOP:
		vcpus_pause(machine->vcpus, VCPUS_USER);
		break;
	case MESSAGE_CONT:
		let_go_on(machine, &reply);
		return;
	case MESSAGE_ATTACH:
		if (attach(machine, message, &reply.error) == 0)
			return; /* on_plugged() answers */
		break;
	case MESSAGE_DETACH:
		devices_unplug(&machine->devices, message->detach.device, message->detach.force,
			&reply.error);
		break;
	case MESSAGE_TAKEN:
		devices_taken(&machine->devices, message->device);
		return;
	case MESSAGE_RESIZED:
		machine_virtio_resize(
			&machine->virtio, message->resized.number, message->resized.size);
		return;
	case MESSAGE_QUERY_CPUS:
		tell_cpus(machine, message->id);
		break;
	case MESSAGE_QUERY_PCI:
		query_pci(&machine->pci.root, tell_function,
			&(struct listing){ machine, message->id });
		break;
	default: /* not to a machine */
		return;
	}
	tell(machine, &reply);
	/* As after one that fails later. */
	if (message->type == MESSAGE_ATTACH)
		on_closed(machine, message->attach.device);
}

static void on_control(void *opaque, uint32_t events)
{
	struct machine *machine = opaque;
	struct message message;
	int got = message_receive(machine->config->control_fd, &message);

	(void)events;
	if (got == 1)
		obey(machine, &message);
	else if (got != -EBADMSG)
		end(machine, MACHINE_QUIT);
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

/* Once: devices that come later reach what is mapped. */
static int fill_memory(void *opaque, struct error *err)
{
	struct machine *machine = opaque;
	const struct fill_ops ops = { on_failure, machine };
	struct fill *fill;

	if (machine->fill)
		return 0;
	fill = fill_start(&machine->memory, machine->devices.iommu, &ops, err);
	__atomic_store_n(&machine->fill, fill, __ATOMIC_RELEASE);
	return err->code;
}

/* What a VGA card is shown at has no RAM, for a BIOS that has one: it is trapped. */
static int show_memory(
	struct machine *machine, const struct memory_region *region, struct error *err)
{
	uint64_t end = region->gpa + region->size;
	bool has_hole = !region->gpa && devices_have_vga(&machine->devices);
	const struct memory_range parts[] = {
		{ region->gpa, has_hole ? LAYOUT_VGA : region->size },
		{ LAYOUT_VGA_END, end - LAYOUT_VGA_END },
	};

	for (unsigned i = 0; i < 1U + has_hole; i++) {
		int slot = kvm_slot_map(machine->vm, parts[i].gpa, parts[i].size,
			(char *)region->hva + (parts[i].gpa - region->gpa), 0);

		if (slot < 0)
			return error_sys(err, slot, NULL, "cannot give the guest its RAM");
	}
	return 0;
}

static int make_memory(struct machine *machine, struct error *err)
{
	const struct machine_config *config = machine->config;
	struct vfio_iommu *iommu = machine->devices.iommu;

	/* An IOMMU that no device has joined yet tells nothing. */
	if (memory_place(&machine->memory, config->memory, config->memory_page,
		    config->device_count ? iommu->ranges : NULL,
		    config->device_count ? iommu->range_count : 0, err) ||
		memory_map(&machine->memory, config->memory_fd, config->memory_kind, err))
		return err->code;
	for (unsigned i = 0; i < machine->memory.count; i++)
		if (show_memory(machine, &machine->memory.regions[i], err))
			return err->code;
	return 0;
}

static bool runs_firmware(const struct machine_config *config)
{
	return config->boot.firmware_fd >= 0;
}

static bool has_display(const struct machine_config *config)
{
	return config->display.memory_fd >= 0;
}

static int make_pci(struct machine *machine, struct error *err)
{
	struct topology *topology = &machine->topology;

	machine->pci.reset = on_reset;
	machine->pci.opaque = machine;
	topology->firmware = runs_firmware(machine->config);
	topology->virtio_count = machine->config->virtio_count;
	topology->display = has_display(machine->config);
	if (topology_windows(kvm_physical_bits(machine->config->kvm_fd),
		    memory_end(&machine->memory), topology->firmware, &topology->windows, err) ||
		devices_describe(&machine->devices, topology, err) ||
		topology_plan(topology, machine->config->ports, err))
		return err->code;
	if (machine->config->boot.bios)
		topology_widen(&topology->windows, memory_end(&machine->memory));
	return machine_pci_init(&machine->pci, machine->vm, &machine->mmio, &machine->pio, topology,
		topology->firmware, err);
}

static int make_platform(struct machine *machine, struct error *err)
{
	struct console_ops ops = { console_receive, console_room, on_quit, on_button, machine };
	int code;

	if (console_init(&machine->console, &machine->config->console, &ops, err))
		return err->code;
	machine->has_console = true;
	machine->power.off = on_off;
	machine->power.reset = on_reset;
	machine->power.opaque = machine;
	machine->panic.panicked = on_panic;
	machine->panic.crash_loaded = on_crash_loaded;
	machine->panic.opaque = machine;
	machine->events.ejected = on_ejected;
	machine->events.opaque = machine;
	code = serial_init(&machine->serial, &machine->pio, machine->vm, &machine->console);
	if (!code)
		code = rtc_init(
			&machine->rtc, &machine->pio, machine->config->rtc_local, &machine->memory);
	if (!code)
		code = power_init(&machine->power, &machine->pio, has_display(machine->config));
	if (!code)
		code = events_init(&machine->events, &machine->pio, machine->vm);
	if (!code)
		code = panic_init(&machine->panic, &machine->pio);
	if (!code && machine->config->tpm.fd >= 0) {
		code = tpm_init(&machine->tpm, machine->config->name, &machine->config->tpm,
			&machine->mmio, machine->loop);
		machine->has_tpm = true;
	}
	return code ? error_sys(err, code, NULL, "cannot make the platform's devices") : 0;
}

static int make_display(struct machine *machine, struct error *err)
{
	machine->display.i8042.reset = on_reset;
	machine->display.i8042.opaque = machine;
	return machine_display_attach(&machine->display, &machine->config->display, &machine->pci,
		&machine->pio, machine->topology.display_devfn, machine->loop, err);
}

/* Whoever breaks out of the guest has no use of them; firmware reads them as it runs. */
static void close_inputs(const struct boot_files *files)
{
	if (files->firmware_fd >= 0)
		return;
	close(files->kernel_fd);
	if (files->initrd_fd >= 0)
		close(files->initrd_fd);
}

static int make_boot(struct machine *machine, struct error *err)
{
	const struct boot_machine what = {
		.name = machine->config->name,
		.smbios = machine->config->smbios,
		.vm = machine->vm,
		.memory = &machine->memory,
		.mmio = &machine->mmio,
		.pio = &machine->pio,
		.pci = &machine->pci,
		.cpus = &machine->config->cpus,
		.tpm = machine->has_tpm,
		.keyboard = has_display(machine->config),
		.off = on_off,
		.reset = on_reset,
		.opaque = machine,
	};

	machine->boot = boot_load(&machine->config->boot, &what, err);
	if (machine->boot)
		close_inputs(&machine->config->boot);
	return err->code;
}

static int make_vcpus(struct machine *machine, struct error *err)
{
	const struct vcpus_ops ops = {
		.triple_fault = on_triple_fault,
		.failed = on_failure,
		.populated = on_populated,
		.must_wait = on_must_wait,
		.wait = on_wait,
		.opaque = machine,
	};

	machine->vcpus = vcpus_new(
		machine->vm, &machine->mmio, &machine->pio, &machine->config->cpus, &ops, err);
	if (!machine->vcpus)
		return err->code;
	return boot_enter(machine->boot, vcpus_first(machine->vcpus), err);
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
	if (!machine->vm || (config->cpus.dedicated && kvm_vm_dedicate(machine->vm, err)))
		return err->code;
	if (devices_open(&machine->devices, config, machine->vm, err) ||
		make_memory(machine, err) || make_pci(machine, err) ||
		make_platform(machine, err) ||
		devices_attach(
			&machine->devices, &machine->pci, &machine->topology, machine->loop, err) ||
		machine_virtio_attach(&machine->virtio, config, &machine->memory, &machine->pci,
			&machine->topology, machine->loop, err) ||
		make_display(machine, err) || make_boot(machine, err))
		return err->code;
	return make_vcpus(machine, err);
}

/* In reverse order. Memory slots are left to the VM's end: deleting each would cost, for nothing. */
static void take_apart(struct machine *machine)
{
	if (machine->fill)
		fill_stop(machine->fill); /* a vCPU may be waiting for it */
	vcpus_free(machine->vcpus);
	fill_free(machine->fill);
	machine_display_close(&machine->display);
	machine_virtio_close(&machine->virtio);
	devices_close(&machine->devices);
	boot_free(machine->boot);
	machine_pci_destroy(&machine->pci);
	if (machine->has_tpm)
		tpm_destroy(&machine->tpm);
	if (machine->has_console)
		console_destroy(&machine->console);
	kvm_vm_free(machine->vm);
	memory_free(&machine->memory);
	space_destroy(&machine->pio);
	space_destroy(&machine->mmio);
	loop_free(machine->loop);
	pthread_mutex_destroy(&machine->holding);
	pthread_mutex_destroy(&machine->lock);
}

/* What is passed through can reach all of RAM; otherwise much of it may never be used. */
static bool needs_all_memory(const struct machine_config *config)
{
	for (unsigned i = 0; i < config->virtio_count; i++)
		if (config->virtio[i].is_vdpa)
			return true;
	return config->device_count;
}

/*
 * RAM is filled from the moment that nothing else of the start is left: each change of this process's
 * mappings, a BAR's or a thread's stack, would wait for the pieces that are being made present.
 */
static void start_guest(struct machine *machine, struct error *err)
{
	vcpus_hold(machine->vcpus, VCPUS_MEMORY);
	if (vcpus_start(machine->vcpus, err) == 0 && needs_all_memory(machine->config))
		fill_memory(machine, err);
	if (!err->code)
		vcpus_resume(machine->vcpus, VCPUS_MEMORY);
}

static void run(struct machine *machine)
{
	struct error failure = { 0 }; /* machine->err may be a running thread's to write */

	if (machine->config->prealloc &&
		(fill_memory(machine, &failure) || fill_wait(machine->fill, 0))) {
		if (failure.code)
			on_failure(machine, &failure);
		return;
	}
	if (console_start(&machine->console, &failure) == 0) {
		tell(machine, &(struct message){ .type = MESSAGE_READY });
		start_guest(machine, &failure);
		mapped_let_go();
	}
	if (failure.code)
		on_failure(machine, &failure);
	while (loop_step(machine->loop, devices_patience(&machine->devices)))
		devices_keep_time(&machine->devices);
}

enum machine_end machine_run(const struct machine_config *config, struct error *err)
{
	/* Large, and most of it for what a machine may lack: cleared by hand it would all be there. */
	cleanup_free struct machine *machine = calloc(1, sizeof(*machine));
	struct error failure = { 0 }; /* err may be a thread's to write, which fills RAM */

	if (!machine) {
		error_sys(err, -ENOMEM, NULL, "cannot start");
		return MACHINE_FAILED;
	}
	if (sandbox_enter(err))
		return MACHINE_FAILED;
	machine->config = config;
	machine->err = err;
	machine->display = (struct machine_display)MACHINE_DISPLAY_NONE;
	machine->virtio.ram = (struct virtio_ram){ .ready = on_ready, .opaque = machine };
	machine->devices = (struct machine_devices){
		.ready = on_ready,
		.wanted = on_wanted,
		.faulty = on_faulty,
		.failed = on_failure,
		.closed = on_closed,
		.reach = fill_memory,
		.plugged = on_plugged,
		.hold = on_hold,
		.eject = on_eject,
		.opaque = machine,
	};
	pthread_mutex_init(&machine->holding, NULL);
	pthread_mutex_init(&machine->lock, NULL);
	space_init(&machine->mmio);
	space_init(&machine->pio);
	machine->memory.fd = -1;
	if (assemble(machine, &failure) == 0)
		run(machine);
	else
		on_failure(machine, &failure);
	take_apart(machine);
	return machine->end;
}
