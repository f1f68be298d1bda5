/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/devices.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/*
 * A device is opened, and closed, in a thread of its own: the kernel resets it then, which takes 100 ms
 * or, where it does not come back, a minute.
 */
struct job {
	pthread_t thread;
	bool threaded;
	struct machine_devices *devices;
	unsigned index;
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
static int for_all(struct machine_devices *devices, unsigned count, void (*work)(struct job *job),
	struct error *err)
{
	struct job jobs[MACHINE_DEVICES_MAX];

	for (unsigned i = 0; i < count; i++) {
		struct job *job = &jobs[i];

		*job = (struct job){ .devices = devices, .index = i, .work = work };
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

static void open_device(struct job *job)
{
	struct machine_devices *devices = job->devices;

	vfio_device_open(&devices->devices[job->index].vfio, devices->iommu,
		&devices->config->devices[job->index], &job->err);
}

static int open_all(struct machine_devices *devices, struct error *err)
{
	unsigned count = devices->config->device_count;

	devices->devices = calloc(count, sizeof(*devices->devices));
	if (!devices->devices)
		return error_sys(err, -ENOMEM, NULL, "cannot open the devices");
	devices->opened = count;
	return for_all(devices, count, open_device, err);
}

static void close_device(struct job *job)
{
	struct machine_devices *devices = job->devices;
	struct passthrough *device = &devices->devices[job->index];

	if (job->index < devices->attached)
		passthrough_detach(device);
	else
		vfio_device_close(&device->vfio);
	devices->closed(devices->opaque, job->index);
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
	if (!config->device_count)
		return 0;
	devices->iommu = vfio_iommu_open(config->iommu, config->iommu_fd, &files, err);
	if (!devices->iommu || open_all(devices, err))
		return err->code;
	return devices->iommu->ops->read_ranges(devices->iommu, err);
}

int devices_describe(struct machine_devices *devices, struct topology *topology, struct error *err)
{
	topology->device_count = devices->config->device_count;
	for (unsigned i = 0; i < topology->device_count; i++) {
		struct topology_device *device = &topology->devices[i];
		struct passthrough_traits traits;

		if (passthrough_describe(&devices->devices[i].vfio, &traits, err))
			return err->code;
		*device = (struct topology_device){
			.bdf = devices->config->devices[i].bdf,
			.endpoint = traits.endpoint,
			.link = traits.link,
		};
		memcpy(device->bars, traits.bars, sizeof(device->bars));
	}
	return 0;
}

static void on_requested(void *opaque, const char *name)
{
	struct machine_devices *devices = opaque;
	struct error failure = { 0 };

	error_set(&failure, -EBUSY, name,
		"the host wants it back: someone unbinds it, or removes it or its driver");
	devices->failed(devices->opaque, &failure);
}

static void on_failed(void *opaque, const char *name)
{
	struct machine_devices *devices = opaque;
	struct error failure = { 0 };

	error_set(&failure, -EIO, name, "it reports an uncorrectable error");
	error_hint(&failure, "dmesg says which (AER)");
	devices->failed(devices->opaque, &failure);
}

static int attach_one(struct machine_devices *devices, struct machine_pci *pci, unsigned i,
	const struct topology_device *where, struct error *err)
{
	struct passthrough *device = &devices->devices[i];
	struct pci_port *port = where->port < 0 ? NULL : &pci->ports[where->port];
	const struct passthrough_place place = {
		.bus = port ? &port->bridge.secondary : &pci->root.bus,
		.devfn = where->devfn,
		.multifunction = where->multifunction,
	};

	device->ready = devices->ready;
	device->ready_opaque = devices->opaque;
	devices->attached = i + 1;
	if (passthrough_attach(device, pci->vm, &place, err) || pci_bus_place(&device->pci, err))
		return err->code;
	if (port && place.devfn % 8 == 0)
		pci_port_occupy(port, &where->link);
	log_info("%s is the guest's %02x:%02x.%x", device->vfio.name,
		port ? topology_slot(where->port) : 0, place.devfn >> 3, place.devfn & 7);
	return 0;
}

int devices_attach(struct machine_devices *devices, struct machine_pci *pci,
	const struct topology *topology, struct loop *loop, struct error *err)
{
	const struct passthrough_events events = { on_requested, on_failed, devices };

	for (unsigned i = 0; i < topology->device_count; i++) {
		struct passthrough *device = &devices->devices[i];
		int code;

		if (attach_one(devices, pci, i, &topology->devices[i], err))
			return err->code;
		code = passthrough_watch(device, loop, &events);
		if (code)
			return error_sys(
				err, code, device->vfio.name, "cannot watch for its events");
	}
	return 0;
}

int devices_number(const struct machine_devices *devices, const struct pci_device *device)
{
	for (unsigned i = 0; i < devices->attached; i++)
		if (&devices->devices[i].pci == device)
			return i;
	return -1;
}

void devices_close(struct machine_devices *devices)
{
	struct error none = { 0 };

	for_all(devices, devices->opened, close_device, &none);
	if (devices->iommu)
		devices->iommu->ops->close(devices->iommu);
	free(devices->devices);
}
