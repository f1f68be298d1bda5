/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "passthrough/passthrough.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/eventfd.h>

/*
 * Interrupts go from VFIO's handler through an eventfd into KVM's irqfd, with no exit and no thread
 * of ours; where the hardware can post them, the kernel pairs the two ends and they skip even that.
 *
 * The guest's view is in the device: capability registers and the MSI-X table. What VFIO and KVM have
 * is in struct passthrough_interrupts. Updating compares the two and makes the calls that the
 * difference needs: three for a vector's first use (route, irqfd, VFIO), one to mask it, one or two to
 * unmask it. A masked vector stays enabled at the device's end: its eventfd counts what comes in, which
 * is the pending bit, and attaching the irqfd again delivers it.
 */

/* MSI-X is one index to VFIO, MSI another, INTx a third; one at a time can be on. */
static unsigned vfio_index(enum passthrough_mode mode)
{
	switch (mode) {
	case MODE_MSIX:
		return VFIO_PCI_MSIX_IRQ_INDEX;
	case MODE_MSI:
		return VFIO_PCI_MSI_IRQ_INDEX;
	default:
		return VFIO_PCI_INTX_IRQ_INDEX;
	}
}

static enum passthrough_mode wanted_mode(const struct passthrough *device)
{
	if (msix_enabled(&device->msix, &device->pci))
		return MODE_MSIX;
	if (msi_enabled(&device->msi, &device->pci))
		return MODE_MSI;
	return device->pci.config[PCI_INTERRUPT_PIN] ? MODE_INTX : MODE_NONE;
}

static void report(struct passthrough *device, const char *what, int code)
{
	if (!device->told)
		log_warning("%s: %s: %s; the guest will miss interrupts", device->vfio.name, what,
			strerror(-code));
	device->told = true;
}

/* INTx: a level. KVM lowers it and signals the resamplefd when the guest has acknowledged; that
 * unmasks the line in VFIO, which raises it again if the device still asserts it. */

static bool intx_masked(const struct passthrough *device)
{
	return pci_get16(&device->pci, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
}

static int intx_attach(struct passthrough *device)
{
	struct passthrough_interrupts *irqs = &device->interrupts;
	int code;

	code = kvm_irqfd_attach(device->vm, device->gsi, irqs->intx_trigger, irqs->intx_resample);
	irqs->intx_attached = !code;
	return code;
}

static void intx_detach(struct passthrough *device)
{
	struct passthrough_interrupts *irqs = &device->interrupts;

	if (irqs->intx_attached)
		kvm_irqfd_detach(device->vm, device->gsi, irqs->intx_trigger);
	irqs->intx_attached = false;
}

static void close_intx(struct passthrough *device)
{
	struct passthrough_interrupts *irqs = &device->interrupts;

	intx_detach(device);
	if (irqs->intx_trigger >= 0)
		close(irqs->intx_trigger);
	if (irqs->intx_resample >= 0)
		close(irqs->intx_resample);
	irqs->intx_trigger = irqs->intx_resample = -1;
}

static int open_intx(struct passthrough *device)
{
	struct passthrough_interrupts *irqs = &device->interrupts;
	int code = 0;

	irqs->intx_trigger = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	irqs->intx_resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (irqs->intx_trigger < 0 || irqs->intx_resample < 0)
		code = -errno;
	if (!code)
		code = vfio_irq_set(
			&device->vfio, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &irqs->intx_trigger);
	if (!code)
		code = vfio_intx_unmask_by(&device->vfio, irqs->intx_resample);
	if (!code && intx_masked(device))
		code = vfio_intx_mask(&device->vfio, true);
	else if (!code)
		code = intx_attach(device);
	return code;
}

/* The guest has changed the mask bit: with the irqfd away, no acknowledgement can unmask the line. */
static void update_intx(struct passthrough *device)
{
	int code = 0;

	if (intx_masked(device) && device->interrupts.intx_attached) {
		intx_detach(device);
		code = vfio_intx_mask(&device->vfio, true);
	} else if (!intx_masked(device) && !device->interrupts.intx_attached) {
		code = intx_attach(device);
		if (!code)
			code = vfio_intx_mask(&device->vfio, false);
	}
	if (code)
		report(device, "cannot mask or unmask INTx", code);
}

/* MSI and MSI-X: vectors, each with an eventfd, a GSI and a route. */

static bool vector_wanted(const struct passthrough *device, unsigned i)
{
	if (device->interrupts.mode == MODE_MSIX)
		return !msix_masked(&device->msix, &device->pci, i);
	return i < msi_enabled_vectors(&device->msi, &device->pci) &&
	       !msi_masked(&device->msi, &device->pci, i);
}

static struct msi_message vector_message(const struct passthrough *device, unsigned i)
{
	if (device->interrupts.mode == MODE_MSIX)
		return msix_message(&device->msix, i);
	return msi_message(&device->msi, &device->pci, i);
}

/* Set the route if the guest's message is another than KVM has. True: a commit is needed. */
static bool route_vector(struct passthrough *device, unsigned i)
{
	struct msi_message message = vector_message(device, i);

	return kvm_vector_route(
		&device->interrupts.vectors[i].irq, device->vm, message.address, message.data);
}

static void attach_vector(struct passthrough *device, struct passthrough_vector *vector)
{
	int code = kvm_vector_attach(&vector->irq, device->vm);

	if (code)
		report(device, "cannot attach an interrupt vector", code);
}

/*
 * Switch MSI or MSI-X on at VFIO with so many vectors, none connected. Fewer is better than none: where
 * the host has not that many, the others do not exist.
 */
static int switch_on(struct passthrough *device, unsigned count)
{
	unsigned index = vfio_index(device->interrupts.mode);
	int fds[MSIX_VECTORS_MAX];
	int code;

	memset(fds, 0xff, sizeof(fds));
	code = vfio_irq_set(&device->vfio, index, 0, count, fds);
	if (code <= 0)
		return code;
	report(device, "the host has too few interrupt vectors", -ENOSPC);
	device->interrupts.count = count = min_u64(count, code);
	code = vfio_irq_set(&device->vfio, index, 0, count, fds);
	return code > 0 ? -ENOSPC : code;
}

/* Let VFIO signal the eventfds of these vectors. A call that fails leaves none of them connected. */
static int connect_vectors(struct passthrough *device, unsigned first, unsigned count)
{
	struct passthrough_vector *vectors = &device->interrupts.vectors[first];
	int fds[MSIX_VECTORS_MAX];
	int code;

	for (unsigned i = 0; i < count; i++)
		fds[i] = vectors[i].irq.eventfd;
	code = vfio_irq_set(&device->vfio, vfio_index(device->interrupts.mode), first, count, fds);
	for (unsigned i = 0; i < count; i++)
		vectors[i].enabled = !code;
	return code;
}

/* One that the host cannot give must not keep its neighbours from working. */
static void connect_run(struct passthrough *device, unsigned first, unsigned count)
{
	int code = connect_vectors(device, first, count);

	if (code)
		report(device, "VFIO cannot enable interrupt vectors", code);
	for (unsigned i = 0; code && count > 1 && i < count; i++)
		connect_vectors(device, first + i, 1);
}

/* Attached and not connected: there is one to connect. */
static bool is_new(const struct passthrough_vector *vector)
{
	return vector->irq.attached && !vector->enabled;
}

/* A call for each run of new vectors: VFIO would stop those in use for a moment, if they were named. */
static void connect_new(struct passthrough *device, unsigned first, unsigned last)
{
	const struct passthrough_vector *vectors = device->interrupts.vectors;
	unsigned end;

	for (unsigned i = first; i <= last; i = end + 1) {
		for (end = i; end <= last && is_new(&vectors[end]);)
			end++;
		if (end > i)
			connect_run(device, i, end - i);
	}
}

/* Bring vectors first to last in line with what the guest wants of them. */
static void update_vectors(struct passthrough *device, unsigned first, unsigned last)
{
	struct passthrough_interrupts *irqs = &device->interrupts;
	bool commit = false;
	int code = 0;

	for (unsigned i = first; i <= last; i++) {
		if (!vector_wanted(device, i)) {
			kvm_vector_detach(&irqs->vectors[i].irq, device->vm);
			continue;
		}
		code = kvm_vector_prepare(&irqs->vectors[i].irq, device->vm);
		if (code)
			report(device, "cannot make an interrupt vector", code);
		else
			commit |= route_vector(device, i);
	}
	code = commit ? kvm_routes_commit(device->vm) : 0;
	if (code)
		report(device, "cannot set interrupt routes", code);
	for (unsigned i = first; i <= last && code; i++)
		irqs->vectors[i].irq.is_routed = false; /* to be tried again */
	for (unsigned i = first; i <= last; i++)
		if (vector_wanted(device, i) && irqs->vectors[i].irq.gsi >= 0)
			attach_vector(device, &irqs->vectors[i]);
	connect_new(device, first, last);
}

static void close_vectors(struct passthrough *device)
{
	struct passthrough_interrupts *irqs = &device->interrupts;

	for (unsigned i = 0; i < irqs->count; i++)
		kvm_vector_destroy(&irqs->vectors[i].irq, device->vm);
	free(irqs->vectors);
	irqs->vectors = NULL;
	irqs->count = 0;
}

static int open_vectors(struct passthrough *device, unsigned count)
{
	struct passthrough_interrupts *irqs = &device->interrupts;

	irqs->vectors = calloc(count, sizeof(*irqs->vectors));
	if (!irqs->vectors)
		return -ENOMEM;
	irqs->count = count;
	for (unsigned i = 0; i < count; i++)
		irqs->vectors[i] = (struct passthrough_vector){ .irq = KVM_VECTOR_NONE };
	/*
	 * Vectors that cannot be added later are there from the start, for adding one would need all to
	 * be switched off for a moment; else one, for MSI-X is switched on at the device when the guest
	 * does so, be it with no vector in use: firmware looks at that, and an INTx that is free now
	 * must not be raised.
	 */
	return switch_on(device, device->vfio.irqs[vfio_index(irqs->mode)].can_grow ? 1 : count);
}

static void leave_mode(struct passthrough *device)
{
	struct passthrough_interrupts *irqs = &device->interrupts;

	if (irqs->mode == MODE_NONE)
		return;
	vfio_irq_disable(&device->vfio, vfio_index(irqs->mode));
	if (irqs->mode == MODE_INTX)
		close_intx(device);
	else
		close_vectors(device);
	irqs->mode = MODE_NONE;
}

static int enter_mode(struct passthrough *device, enum passthrough_mode mode)
{
	int code = 0;

	device->interrupts.mode = mode;
	if (mode == MODE_INTX)
		code = open_intx(device);
	if (mode == MODE_MSI)
		code = open_vectors(device, msi_enabled_vectors(&device->msi, &device->pci));
	if (mode == MODE_MSIX)
		code = open_vectors(device, device->msix.vectors);
	if (code)
		leave_mode(device);
	return code;
}

void passthrough_interrupts_update(struct passthrough *device)
{
	struct passthrough_interrupts *irqs = &device->interrupts;
	enum passthrough_mode mode = wanted_mode(device);
	int code = 0;

	if (mode != irqs->mode) {
		leave_mode(device);
		code = enter_mode(device, mode);
	}
	if (code)
		report(device, "cannot switch interrupts on", code);
	if (irqs->mode == MODE_INTX)
		update_intx(device);
	else if (irqs->count)
		update_vectors(device, 0, irqs->count - 1);
}

void passthrough_vectors_update(struct passthrough *device, unsigned first, unsigned last)
{
	const struct passthrough_interrupts *irqs = &device->interrupts;

	if (irqs->mode == MODE_MSIX && first < irqs->count)
		update_vectors(device, first, min_u64(last, irqs->count - 1));
}

uint64_t passthrough_pending(struct passthrough *device, unsigned first_vector)
{
	struct passthrough_interrupts *irqs = &device->interrupts;
	uint64_t pending = 0;

	for (unsigned i = 0; i < 64 && first_vector + i < irqs->count; i++)
		if (kvm_vector_is_pending(&irqs->vectors[first_vector + i].irq))
			pending |= 1ULL << i;
	return pending;
}

/* The line may be shared with a device that the host uses; a driver that has MSI does without. */
static int go_without_intx(struct passthrough *device, int code, struct error *err)
{
	if (device->msi.cap || device->msix.cap) {
		log_warning("%s: the guest gets it without INTx: %s", device->vfio.name,
			strerror(-code));
		device->pci.config[PCI_INTERRUPT_PIN] = 0;
		return 0;
	}
	error_sys(err, code, device->vfio.name,
		"its interrupt (INTx) cannot be set up, and it has no MSI");
	if (code == -EBUSY)
		error_hint(err,
			"/proc/interrupts shows what shares its line: bind that to vfio-pci as well, "
			"or put the device into another slot");
	return code;
}

int passthrough_interrupts_init(struct passthrough *device, struct error *err)
{
	int code;

	device->interrupts = (struct passthrough_interrupts){
		.intx_trigger = -1,
		.intx_resample = -1,
	};
	code = enter_mode(device, wanted_mode(device));
	if (code)
		return go_without_intx(device, code, err);
	device->has_handler = true;
	passthrough_forward_command(device);
	return 0;
}

void passthrough_interrupts_destroy(struct passthrough *device)
{
	leave_mode(device);
}
