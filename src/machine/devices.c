/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/devices.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define WISHES_MAX 4 /* of the host's for a device; then it is pulled from the guest */

struct job {
	pthread_t thread;
	bool threaded;
	struct machine_device *device;
	void (*work)(struct job *job);
	struct error err;
};

static void *do_job(void *opaque)
{
	struct job *job = opaque;

	job->work(job);
	return NULL;
}

/* All at once. The first error is the one that is told. */
static int for_all(
	struct machine_devices *devices, void (*work)(struct job *job), struct error *err)
{
	struct job jobs[MACHINE_DEVICES_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++)
		if (devices->table[i])
			jobs[count++] = (struct job){ .device = devices->table[i], .work = work };
	for (unsigned i = 0; i < count; i++) {
		struct job *job = &jobs[i];

		job->threaded = i + 1 < count && !pthread_create(&job->thread, NULL, do_job, job);
		if (!job->threaded)
			work(job);
	}
	for (unsigned i = 0; i < count; i++) {
		if (jobs[i].threaded)
			pthread_join(jobs[i].thread, NULL);
		if (jobs[i].err.code && !err->code)
			*err = jobs[i].err;
	}
	return err->code;
}

static void open_job(struct job *job)
{
	struct machine_device *device = job->device;

	vfio_device_open(
		&device->passthrough.vfio, device->devices->iommu, &device->source, &job->err);
}

static int open_all(struct machine_devices *devices, struct error *err)
{
	for (unsigned i = 0; i < devices->config->device_count; i++) {
		struct machine_device *device = calloc(1, sizeof(*device));

		if (!device)
			return error_sys(err, -ENOMEM, NULL, "cannot open the devices");
		device->devices = devices;
		device->number = i;
		device->source = devices->config->devices[i];
		device->passthrough.vfio.fd = -1;
		device->passthrough.rom = devices->config->roms[i];
		device->passthrough.vga = devices->config->boot.bios;
		device->passthrough.plain = devices->config->plain[i];
		devices->table[i] = device;
	}
	return for_all(devices, open_job, err);
}

void devices_close_one(struct machine_device *device)
{
	if (device->attached)
		passthrough_detach(&device->passthrough);
	else
		vfio_device_close(&device->passthrough.vfio);
}

static void close_job(struct job *job)
{
	struct machine_device *device = job->device;

	devices_close_one(device);
	device->devices->closed(device->devices->opaque, device->number);
}

static int on_opening(void *vm, int fd)
{
	return kvm_add_vfio_file(vm, fd);
}

static void on_file_closed(void *vm, int fd)
{
	kvm_remove_vfio_file(vm, fd);
}

int devices_open(struct machine_devices *devices, const struct machine_config *config,
	struct kvm_vm *vm, struct error *err)
{
	const struct vfio_file_events files = { on_opening, on_file_closed, vm };

	devices->config = config;
	devices->news = -1;
	if (config->iommu_fd < 0)
		return 0;
	devices->iommu = vfio_iommu_open(config->iommu, config->iommu_fd, &files, err);
	if (!devices->iommu || open_all(devices, err))
		return err->code;
	if (!config->device_count)
		return 0;
	return devices->iommu->ops->read_ranges(devices->iommu, err);
}

bool devices_have_vga(const struct machine_devices *devices)
{
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++) {
		const struct machine_device *device = devices->table[i];

		if (device && device->passthrough.vga &&
			device->passthrough.vfio.regions[VFIO_PCI_VGA_REGION_INDEX].size)
			return true;
	}
	return false;
}

int devices_describe_one(
	struct machine_device *device, struct topology_device *where, struct error *err)
{
	struct passthrough_traits traits;

	if (passthrough_describe(&device->passthrough, &traits, err))
		return err->code;
	*where = (struct topology_device){
		.bdf = device->source.bdf,
		.endpoint = traits.endpoint,
		.link = traits.link,
	};
	memcpy(where->bars, traits.bars, sizeof(where->bars));
	return 0;
}

int devices_describe(struct machine_devices *devices, struct topology *topology, struct error *err)
{
	topology->device_count = devices->config->device_count;
	for (unsigned i = 0; i < topology->device_count; i++)
		if (devices_describe_one(devices->table[i], &topology->devices[i], err))
			return err->code;
	return 0;
}

/*
 * The kernel says so every ten seconds for as long as the device is open. The guest is asked the first time.
 * By the last time it has had 20 seconds at least; Linux needs six seconds where it knows the button alone. Where
 * nobody can be asked, the first time is the last.
 */
static void on_requested(void *opaque)
{
	struct machine_device *device = opaque;
	struct machine_devices *devices = device->devices;
	bool last = ++device->wishes == WISHES_MAX || !device->slot->port;
	struct error asked = { 0 }; /* it may have been, by a client of the monitor */

	if (!last && device->wishes > 1)
		return;
	devices_unplug(devices, device->number, last, &asked);
	devices->wanted(devices->opaque, device->number, last ? MACHINE_DETACH : MACHINE_ASK);
}

void devices_taken(struct machine_devices *devices, unsigned number)
{
	struct machine_device *device =
		number < MACHINE_DEVICES_MAX ? devices->table[number] : NULL;

	if (device && device->attached && device->slot->state != SLOT_CLOSING)
		on_requested(device);
}

static void on_failed(void *opaque)
{
	struct machine_device *device = opaque;
	struct machine_devices *devices = device->devices;
	enum machine_action action = devices->config->on_device_error;
	struct error err = { 0 };

	if (action == MACHINE_DETACH)
		devices_unplug(devices, device->number, true, &err);
	devices->faulty(devices->opaque, device->number, action);
	if (action != MACHINE_STOP)
		return;
	error_set(&err, -EIO, device->passthrough.vfio.name, "it reports an uncorrectable error");
	error_hint(&err, "dmesg says which (AER)");
	devices->failed(devices->opaque, &err);
}

int devices_put(
	struct machine_device *device, const struct topology_device *where, struct error *err)
{
	struct machine_devices *devices = device->devices;
	const struct passthrough_events events = { on_requested, on_failed, device };
	struct pci_port *port = device->slot->port;
	const struct passthrough_place place = {
		.bus = port ? &port->bridge.secondary : &devices->pci->root.bus,
		.devfn = where->devfn,
		.multifunction = where->multifunction,
	};
	struct passthrough *passthrough = &device->passthrough;
	int code;

	passthrough->ready = devices->ready;
	passthrough->ready_opaque = devices->opaque;
	device->attached = true;
	if (passthrough_attach(passthrough, devices->pci->vm, &place, err))
		return err->code;
	if (port && passthrough->vga)
		pci_bridge_set_vga(&port->bridge);
	code = passthrough_watch(passthrough, devices->loop, &events);
	if (code)
		return error_sys(err, code, passthrough->vfio.name, "cannot watch for its events");
	log_info("%s is the guest's %02x:%02x.%x", passthrough->vfio.name,
		port ? pci_port_slot(port) : 0, where->devfn >> 3, where->devfn & 7);
	return 0;
}

static void make_slots(struct machine_devices *devices, const struct topology *topology)
{
	for (unsigned i = 0; i < topology->port_count; i++)
		devices->slots[topology->ports[i].devfn >> 3].port = &devices->pci->ports[i];
}

static int attach_one(struct machine_device *device, const struct topology *topology,
	const struct topology_device *where, struct error *err)
{
	uint8_t devfn = where->port < 0 ? where->devfn : topology->ports[where->port].devfn;
	struct machine_slot *slot = &device->devices->slots[devfn >> 3];

	device->slot = slot;
	slot->state = SLOT_PLUGGED;
	slot->functions[slot->count++] = device;
	if (devices_put(device, where, err) || pci_bus_place(&device->passthrough.pci, err))
		return err->code;
	if (slot->port && where->devfn % 8 == 0)
		pci_port_occupy(slot->port, &where->link);
	return 0;
}

int devices_attach(struct machine_devices *devices, struct machine_pci *pci,
	const struct topology *topology, struct loop *loop, struct error *err)
{
	devices->pci = pci;
	devices->loop = loop;
	make_slots(devices, topology);
	for (unsigned i = 0; i < topology->device_count; i++)
		if (attach_one(devices->table[i], topology, &topology->devices[i], err))
			return err->code;
	return devices_plug_init(devices, err);
}

int devices_number(const struct machine_devices *devices, const struct pci_device *device)
{
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++)
		if (devices->table[i] && &devices->table[i]->passthrough.pci == device)
			return i;
	return -1;
}

void devices_close(struct machine_devices *devices)
{
	struct error none = { 0 };

	devices_plug_end(devices);
	for_all(devices, close_job, &none);
	if (devices->iommu)
		devices->iommu->ops->close(devices->iommu);
	for (unsigned i = 0; i < MACHINE_DEVICES_MAX; i++)
		free(devices->table[i]);
}
