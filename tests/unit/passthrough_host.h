/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/size.h"
#include "passthrough/passthrough.h"
#include "pci/root.h"
#include "test.h"

#include <sys/resource.h>

/*
 * A guest with one passed device, on a host that is made up: the device is a file, its configuration
 * space, then its BARs and its ROM. The linker hands us the ioctls (-Wl,--wrap=ioctl): KVM's and VFIO's are noted
 * and answered as the kernel does. Accesses to the file come by here as well (--wrap=pread64 and pwrite64).
 */

#define ECAM       0xe0000000ULL
#define DEVFN      (1 << 3)
#define CONFIG     (ECAM + (DEVFN << 12))
#define MEM32      0x80000000ULL
#define MEM64      (1ULL << 40)
#define BAR_ROOM   (64 * KIB)
#define BAR_AT(i)  (PCI_CONFIG_SIZE + (i)*BAR_ROOM) /* in the file */
#define VECTORS    128
#define FAKE_SLOTS 32

struct fake_irqfd {
	int fd; /* 0: unused */
	unsigned gsi;
	int resamplefd; /* -1: none */
};

struct fake_host {
	int device; /* the descriptor of the device that it is about */
	/* What it can do. */
	unsigned offered;      /* vectors that it has */
	bool can_grow;         /* vectors can be added to MSI-X that is on */
	unsigned offered_next; /* how many it has after it has refused once; 0: as many */
	uint64_t refused;      /* of these vectors none is given */
	bool no_intx;
	unsigned pm;           /* offset of PM_CTRL, whose state is kept if it is in pm_states */
	uint8_t pm_states;     /* a bit a state */
	unsigned long failing; /* this ioctl fails, with this errno */
	int error;
	void (*on_write)(uint64_t offset); /* before a write to the device */
	/* What was asked of it. */
	unsigned wrong; /* to take away what was not there */
	unsigned accesses,
		access;   /* to the device by the file: how many, and the last one's size */
	unsigned enabled; /* vectors of MSI or MSI-X that are on */
	unsigned index;   /* of which of them */
	int fds[VECTORS];
	unsigned asked[VECTORS]; /* how often a call has named the vector */
	unsigned calls;          /* for MSI and MSI-X */
	int intx_fd, intx_resample;
	bool intx_on, intx_masked;
	uint16_t intx_command; /* the device's, as it was switched on or off */
	int request_fd, error_fd;
	struct kvm_userspace_memory_region slots[FAKE_SLOTS];
	unsigned slot_calls, irqfd_calls;
	struct fake_irqfd irqfds[VECTORS];
	struct kvm_irq_routing_entry routes[VECTORS + 64];
	unsigned route_count, route_calls;
	/* What other devices reach. */
	struct {
		uint64_t iova, size;
		void *hva;
		unsigned region;
		uint64_t offset;
	} parts[FAKE_SLOTS];
	unsigned part_calls;
	int part_error; /* why no more of it can be mapped */
};

extern struct fake_host host;
extern struct vfio_iommu
	fake_iommu; /* whose only device is the fixture's, unless a test says more */

struct fixture {
	struct kvm_vm vm;
	struct space mmio, pio;
	struct pci_root root;
	struct passthrough device;
	struct passthrough_place place;
	bool detached;                   /* by the test */
	uint8_t config[PCI_CONFIG_SIZE]; /* the device's own, before it is attached */
};

int setup(void **state);
int teardown(void **state);
void attach(struct fixture *fixture);
int try_attach(struct fixture *fixture, struct error *err);
/* So that it can be attached again, as another. */
void detach(struct fixture *fixture);
/* Only as far as the guest's view of its configuration space. */
int config_init(struct fixture *fixture, struct error *err);

void put16(uint8_t *bytes, uint16_t value);
void put32(uint8_t *bytes, uint32_t value);
/* A memory BAR that VFIO lets map as a whole. */
void add_bar(struct fixture *fixture, unsigned i, uint64_t size);
/* Table at 1000 of BAR 0, pending bits at 2000. */
void add_msix(struct fixture *fixture, unsigned at, unsigned next, unsigned vectors);
void add_msi(struct fixture *fixture, unsigned at, unsigned next, uint16_t flags);
void add_cap(struct fixture *fixture, unsigned at, unsigned next, uint8_t id);
void add_intx(struct fixture *fixture, unsigned pin);

/* The guest's accesses to configuration space. */
uint32_t get(struct fixture *fixture, unsigned offset, unsigned size);
void set(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value);
/* What Linux does: all masked, on, then a vector after the other. MSI-X is at 40. */
void use_msix(struct fixture *fixture, unsigned vectors);
void write_entry(struct fixture *fixture, unsigned vector, unsigned offset, uint32_t value);
/* The device's own registers. */
uint32_t device_get(struct fixture *fixture, unsigned offset, unsigned size);
void device_put(struct fixture *fixture, unsigned offset, unsigned size, uint32_t value);

/* Descriptors; no more than so many from now on, returning the limit before; the next one's number. */
unsigned open_files(void);
rlim_t set_limit(rlim_t files);
int lowest_free(void);
/* The slot that holds a GPA, or NULL. */
const struct kvm_userspace_memory_region *slot_at(uint64_t gpa);
unsigned slot_count(void);
/* What other devices find at a GPA: where this process has it, or NULL. */
void *reached_at(uint64_t gpa);
unsigned part_count(void);
/* Vectors that VFIO signals. */
unsigned connected(void);
/* The device raises a vector; KVM, if it is attached, does not take it. */
void raise_vector(unsigned i);
/* What KVM makes of an eventfd: its irqfd, or NULL; and the message of its GSI. */
const struct fake_irqfd *irqfd_of(int fd);
const struct kvm_irq_routing_msi *message_of(unsigned gsi);

#define PASSTHROUGH_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
