/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/loop.h"
#include "kvm/vector.h"
#include "passthrough/quirks.h"
#include "passthrough/rom.h"
#include "pci/bus.h"
#include "pci/msi.h"
#include "pci/port.h"
#include "vfio/device.h"

/*
 * Where a VFIO device becomes a guest's PCI device. The three ways in which they meet have a file
 * each: registers.c (configuration space in config.c, the option ROM in rom.c), dma.c, interrupts.c. Direct
 * wherever the hardware can do it; trapped is only what must be guarded.
 */

/* A part of a BAR that the guest reaches without an exit. */
struct passthrough_window {
	uint64_t offset; /* in the BAR */
	uint64_t size;
	void *hva;
	int slot;     /* KVM memory slot while the BAR is decoded; -1 */
	bool reached; /* by other devices' DMA */
};

#define PASSTHROUGH_WINDOWS_MAX (VFIO_AREAS_MAX + 2) /* each hole cuts an area in two */

struct passthrough_bar {
	struct passthrough_window windows[PASSTHROUGH_WINDOWS_MAX];
	unsigned count;
};

/* One MSI or MSI-X vector: what the guest wants of it is in the device, this is what it has. */
struct passthrough_vector {
	struct kvm_vector irq; /* VFIO signals its eventfd */
	bool enabled;          /* VFIO does so */
};

enum passthrough_mode { MODE_NONE, MODE_INTX, MODE_MSI, MODE_MSIX };

struct passthrough_interrupts {
	enum passthrough_mode mode;         /* what VFIO is set to */
	struct passthrough_vector *vectors; /* of MSI or MSI-X */
	unsigned count;
	int intx_trigger, intx_resample; /* eventfds; -1 */
	bool intx_attached;
};

/* What a device can tell while it runs, again and again; in the event loop's thread. */
struct passthrough_events {
	void (*requested)(void *opaque); /* the host wants it back; every ten seconds */
	void (*failed)(void *opaque);    /* it reports an error */
	void *opaque;
};

struct passthrough {
	struct pci_device pci;
	struct vfio_device vfio;
	struct passthrough_rom rom; /* set before passthrough_describe() */
	bool vga; /* show the guest a VGA card's fixed addresses; set before passthrough_attach() */
	bool plain; /* whatever quirks.h says of it; set before passthrough_describe() */
	struct kvm_vm *vm;
	bool at_3c3;      /* QUIRK_PORTS_AT_3C3 */
	bool has_handler; /* on the host, for its line; without one the line stays off at the device */
	unsigned gsi;     /* the line that its interrupt pin is wired to */
	unsigned pm;      /* offset of the power-management capability; 0: none */
	unsigned express; /* of PCI Express's */
	struct msi msi;
	struct msix msix;
	uint8_t direct[PCI_CONFIG_SIZE / 8]; /* a bit a byte: the device itself answers */
	struct passthrough_bar bars[PCI_BARS];
	void *rom_bytes; /* what the guest sees of rom; NULL: none */
	bool rom_known;  /* they are in rom_bytes, where they are the device's own */
	int rom_slot;    /* KVM memory slot while the ROM is decoded; -1 */
	struct passthrough_interrupts interrupts;
	/*
	 * Is all that the device may reach by DMA mapped? Asked, with its lock held, before a write that gives
	 * it Bus Master; where not, the write is not made, and whoever makes it has to make it again. NULL:
	 * always. To be set before the device is attached.
	 */
	bool (*ready)(void *opaque);
	void *ready_opaque;
	bool told; /* of an interrupt that could not be set up: once is enough */
	struct passthrough_events events;
	int request_fd, error_fd; /* eventfds of these */
};

/* What an opened device is to the one who chooses its place in the guest. */
struct passthrough_traits {
	bool endpoint;        /* a PCI Express endpoint: it belongs behind a port */
	struct pci_link link; /* for a port; the slowest where it has none */
	struct pci_bar bars[PCI_RANGES];
};

int passthrough_describe(
	struct passthrough *device, struct passthrough_traits *traits, struct error *err);

/* Where in the guest a device goes. */
struct passthrough_place {
	struct pci_bus *bus;
	uint8_t devfn;
	bool multifunction; /* other functions of this slot exist */
};

/*
 * Take an opened VFIO device (vfio is filled in by vfio_device_open(), and rom) and make it a device of the
 * guest at a place.
 */
int passthrough_attach(struct passthrough *device, struct kvm_vm *vm,
	const struct passthrough_place *place, struct error *err);
/*
 * Interrupts off, mappings gone, the VFIO device closed. The guest does not run any more, or the device has
 * been taken from its bus by pci_bus_remove().
 */
void passthrough_detach(struct passthrough *device);

/* Call back when these come. */
int passthrough_watch(
	struct passthrough *device, struct loop *loop, const struct passthrough_events *events);
/* Not any more. */
void passthrough_unwatch(struct passthrough *device, struct loop *loop);

/* dma.c: let the devices behind this IOMMU reach guest RAM: size bytes at gpa, here at hva. */
int passthrough_map_memory(
	struct vfio_iommu *iommu, uint64_t gpa, uint64_t size, void *hva, struct error *err);

/*
 * Another device has joined the IOMMU: from now on the others reach what the guest has decoded of this one,
 * too. What it decodes later they reach by themselves.
 */
void passthrough_reach(struct passthrough *device);

/* Between the files of this room. */
/* Let other devices reach a window at its GPA, as far as they can, or not any more. Lock held. */
void passthrough_reach_window(
	struct passthrough *device, unsigned bar, struct passthrough_window *window);
void passthrough_unreach_window(
	struct passthrough *device, unsigned bar, struct passthrough_window *window);
extern const struct pci_device_ops passthrough_pci_ops;
void passthrough_forward_command(struct passthrough *device);
int passthrough_config_init(
	struct passthrough *device, const struct passthrough_place *place, struct error *err);
uint32_t passthrough_config_read(struct pci_device *pci, unsigned offset, unsigned size);
void passthrough_config_write(
	struct pci_device *pci, unsigned offset, unsigned size, uint32_t value);
int passthrough_registers_init(struct passthrough *device, struct error *err);
void passthrough_registers_destroy(struct passthrough *device);
int passthrough_rom_init(struct passthrough *device, struct error *err);
void passthrough_rom_destroy(struct passthrough *device);
/* The guest decodes the ROM's BAR, or not any more. Lock held. */
void passthrough_rom_show(struct passthrough *device);
void passthrough_rom_hide(struct passthrough *device);
/* Within the BAR. */
uint64_t passthrough_rom_read(const struct passthrough *device, uint64_t offset, unsigned size);
int passthrough_interrupts_init(struct passthrough *device, struct error *err);
void passthrough_interrupts_destroy(struct passthrough *device);
/* The guest has changed something that interrupts depend on: bring VFIO and KVM in line with it. */
void passthrough_interrupts_update(struct passthrough *device);
/* The same where only these MSI-X vectors, first to last, can have changed. */
void passthrough_vectors_update(struct passthrough *device, unsigned first, unsigned last);
/* A word of the pending-bit array, eight bytes at a multiple of eight. */
uint64_t passthrough_pending(struct passthrough *device, unsigned first_vector);
