/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "passthrough/passthrough.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

int passthrough_attach(struct passthrough *device, struct kvm_vm *vm,
	const struct passthrough_place *place, struct error *err)
{
	uint8_t pin;
	int code;

	device->vm = vm;
	device->request_fd = device->error_fd = device->rom_slot = -1;
	code = pci_device_init(&device->pci, &passthrough_pci_ops);
	if (code)
		return error_sys(err, code, device->vfio.name, "cannot become a guest's device");
	if (passthrough_config_init(device, place, err))
		return err->code;
	pin = device->pci.config[PCI_INTERRUPT_PIN];
	device->gsi = pin ? pci_bus_line(place->bus, place->devfn >> 3, pin) : 0;
	if (passthrough_registers_init(device, err) || passthrough_rom_init(device, err) ||
		passthrough_interrupts_init(device, err))
		return err->code;
	return pci_bus_add(place->bus, &device->pci, place->devfn, err);
}

void passthrough_detach(struct passthrough *device)
{
	passthrough_interrupts_destroy(device);
	passthrough_rom_destroy(device);
	passthrough_registers_destroy(device);
	msix_destroy(&device->msix);
	if (device->request_fd >= 0)
		close(device->request_fd);
	if (device->error_fd >= 0)
		close(device->error_fd);
	vfio_device_close(&device->vfio);
	pci_device_destroy(&device->pci);
}

/* An event that this device does not have is none that we could miss. */
static int watch(struct passthrough *device, unsigned index, int *fd, struct loop *loop,
	loop_handler handler)
{
	int code;

	if (!device->vfio.irqs[index].count)
		return 0;
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (*fd < 0)
		return -errno;
	code = vfio_irq_set(&device->vfio, index, 0, 1, fd);
	return code ? code : loop_add(loop, *fd, EPOLLIN, handler, device);
}

static void on_request(void *opaque, uint32_t events)
{
	struct passthrough *device = opaque;
	eventfd_t count;

	(void)events;
	eventfd_read(device->request_fd, &count);
	device->events.requested(device->events.opaque);
}

static void on_error(void *opaque, uint32_t events)
{
	struct passthrough *device = opaque;
	eventfd_t count;

	(void)events;
	eventfd_read(device->error_fd, &count);
	device->events.failed(device->events.opaque);
}

int passthrough_watch(
	struct passthrough *device, struct loop *loop, const struct passthrough_events *events)
{
	int code;

	device->events = *events;
	code = watch(device, VFIO_PCI_REQ_IRQ_INDEX, &device->request_fd, loop, on_request);
	if (!code)
		code = watch(device, VFIO_PCI_ERR_IRQ_INDEX, &device->error_fd, loop, on_error);
	return code;
}

void passthrough_unwatch(struct passthrough *device, struct loop *loop)
{
	if (device->request_fd >= 0)
		loop_remove(loop, device->request_fd);
	if (device->error_fd >= 0)
		loop_remove(loop, device->error_fd);
}
