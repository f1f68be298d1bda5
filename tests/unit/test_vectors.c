/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "passthrough_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Interrupts: what VFIO and KVM are told for what the guest writes, and that they are told no more. */

/* INTx */

static void intx_goes_from_vfio_to_kvm(void **state)
{
	struct fixture *fixture = *state;
	const struct fake_irqfd *irqfd;

	add_intx(fixture, 3);
	attach(fixture);
	assert_int_equal(get(fixture, PCI_INTERRUPT_PIN, 1), 3);
	assert_true(host.intx_on);
	assert_false(host.intx_masked);
	irqfd = irqfd_of(host.intx_fd);
	assert_non_null(irqfd);
	assert_int_equal(irqfd->gsi, 18); /* INTC's */
	assert_int_equal(irqfd->resamplefd, host.intx_resample);
	assert_true(host.intx_resample > 0);
}

/* What no reset has silenced raises it, and others may share it. */
static void the_line_is_off_until_somebody_hears_it(void **state)
{
	struct fixture *fixture = *state;

	add_intx(fixture, 1);
	attach(fixture);
	assert_true(host.intx_command & PCI_COMMAND_INTX_DISABLE);
	assert_false(device_get(fixture, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE);
}

/* Pins are four; a device has one of them if VFIO can give it. */
static void a_pin_is_a_line(void **state)
{
	struct fixture *fixture = *state;

	add_intx(fixture, 9);
	attach(fixture);
	assert_int_equal(get(fixture, PCI_INTERRUPT_PIN, 1), 4);
	assert_int_equal(irqfd_of(host.intx_fd)->gsi, 19);
}

static void without_a_pin_there_is_no_intx(void **state)
{
	struct fixture *fixture = *state;

	add_intx(fixture, 0);
	attach(fixture);
	assert_false(host.intx_on);
}

/* By the command register: the device is not to be stopped, so VFIO masks the line. */
static void intx_is_masked_by_the_guest(void **state)
{
	struct fixture *fixture = *state;

	add_intx(fixture, 1);
	attach(fixture);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_true(host.intx_on && host.intx_masked);
	assert_null(irqfd_of(host.intx_fd));
	/* Masking goes before; a second write changes nothing. */
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE | PCI_COMMAND_MASTER);
	assert_true(host.intx_on && host.intx_masked);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_true(host.intx_on && !host.intx_masked);
	assert_int_equal(irqfd_of(host.intx_fd)->resamplefd, host.intx_resample);
	assert_false(fixture->device.told);
}

static void msix_takes_the_place_of_intx(void **state)
{
	struct fixture *fixture = *state;

	add_intx(fixture, 1);
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 4);
	attach(fixture);
	use_msix(fixture, 2);
	assert_false(host.intx_on);
	assert_null(irqfd_of(host.intx_fd));
	assert_int_equal(host.index, VFIO_PCI_MSIX_IRQ_INDEX);
	assert_int_equal(connected(), 2);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(host.enabled, 0);
	assert_true(host.intx_on && !host.intx_masked);
	assert_non_null(irqfd_of(host.intx_fd));
}

/* It was masked before, and is when it comes back. */
static void intx_comes_back_masked(void **state)
{
	struct fixture *fixture = *state;
	unsigned before;

	add_intx(fixture, 1);
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msi(fixture, 0x40, 0, 0);
	attach(fixture);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	set(fixture, 0x40 + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	assert_false(host.intx_on);
	before = host.irqfd_calls;
	set(fixture, 0x40 + PCI_MSI_FLAGS, 2, 0);
	assert_true(host.intx_on && host.intx_masked);
	assert_null(irqfd_of(host.intx_fd));
	assert_int_equal(host.irqfd_calls, before + 1); /* that of the MSI, taken away */
	set(fixture, PCI_COMMAND, 2, 0);
	assert_false(host.intx_masked);
	assert_non_null(irqfd_of(host.intx_fd));
}

static void intx_that_cannot_be_masked_is_told(void **state)
{
	struct fixture *fixture = *state;

	add_intx(fixture, 1);
	attach(fixture);
	host.failing = VFIO_DEVICE_SET_IRQS;
	host.error = EIO;
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_true(fixture->device.told);
}

/* Nobody would acknowledge what VFIO lets through then. */
static void intx_that_kvm_does_not_take_stays_masked(void **state)
{
	struct fixture *fixture = *state;

	add_intx(fixture, 1);
	attach(fixture);
	set(fixture, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	host.failing = KVM_IRQFD;
	host.error = EBUSY;
	set(fixture, PCI_COMMAND, 2, 0);
	assert_true(host.intx_masked);
	assert_true(fixture->device.told);
}

static void intx_that_kvm_does_not_take_is_left_off(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	add_intx(fixture, 1);
	host.failing = KVM_IRQFD;
	host.error = EBUSY;
	assert_int_equal(try_attach(fixture, &err), -EBUSY);
	assert_false(host.intx_on);
}

/* MSI */

static void msi_vectors_have_the_guests_messages(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msi(fixture, 0x40, 0, 2 << 1 | PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT);
	attach(fixture);
	set(fixture, 0x40 + PCI_MSI_ADDRESS_LO, 4, 0xfee01000);
	set(fixture, 0x40 + PCI_MSI_ADDRESS_HI, 4, 0x00000100);
	set(fixture, 0x40 + PCI_MSI_DATA_64, 2, 0x4044);
	set(fixture, 0x40 + PCI_MSI_MASK_64, 4, 1 << 1);
	assert_int_equal(host.calls, 0);
	set(fixture, 0x40 + PCI_MSI_FLAGS, 2, 2 << 4 | PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(host.index, VFIO_PCI_MSI_IRQ_INDEX);
	assert_int_equal(host.enabled, 4);
	assert_int_equal(connected(), 3);
	assert_int_equal(host.fds[1], -1);
	for (unsigned i = 0; i < 4; i++) {
		const struct kvm_irq_routing_msi *message;

		if (i == 1)
			continue;
		message = message_of(irqfd_of(host.fds[i])->gsi);
		assert_int_equal(message->address_lo, 0xfee01000);
		assert_int_equal(message->address_hi, 0x100);
		assert_int_equal(message->data, 0x4044 + i);
	}
	set(fixture, 0x40 + PCI_MSI_MASK_64, 4, 1);
	assert_int_equal(connected(), 4);
	assert_null(irqfd_of(host.fds[0]));
	assert_non_null(irqfd_of(host.fds[1]));
	set(fixture, 0x40 + PCI_MSI_FLAGS, 2, 0);
	assert_int_equal(host.enabled, 0);
}

/* Fewer than the device has. */
static void msi_has_the_vectors_that_the_guest_enables(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msi(fixture, 0x40, 0, 3 << 1);
	attach(fixture);
	set(fixture, 0x40 + PCI_MSI_FLAGS, 2, 1 << 4 | PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(host.enabled, 2);
	assert_int_equal(connected(), 2);
	/* What systems must not do: another number while it is on. */
	set(fixture, 0x40 + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	assert_null(irqfd_of(host.fds[1]));
	assert_non_null(irqfd_of(host.fds[0]));
	set(fixture, 0x40 + PCI_MSI_FLAGS, 2, 3 << 4 | PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(host.enabled, 2);
}

/* MSI-X */

static void setup_msix(struct fixture *fixture, unsigned vectors)
{
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, vectors);
	attach(fixture);
}

static void mask(struct fixture *fixture, unsigned vector, bool masked)
{
	write_entry(fixture, vector, PCI_MSIX_ENTRY_VECTOR_CTRL, masked);
}

static void mask_all(struct fixture *fixture, bool masked)
{
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2,
		PCI_MSIX_FLAGS_ENABLE | (masked ? PCI_MSIX_FLAGS_MASKALL : 0));
}

static void msix_is_on_at_the_device_before_a_vector_is_used(void **state)
{
	struct fixture *fixture = *state;

	setup_msix(fixture, 8);
	use_msix(fixture, 0);
	assert_int_equal(host.enabled, 1);
	assert_int_equal(connected(), 0);
	assert_int_equal(host.calls, 1);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(host.enabled, 0);
	/* A table that is written to while MSI-X is off is for later. */
	mask(fixture, 5, false);
	assert_int_equal(host.calls, 2);
	mask_all(fixture, false);
	assert_int_equal(connected(), 1);
	assert_true(host.fds[5] >= 0);
}

static void msix_vectors_have_the_guests_messages(void **state)
{
	struct fixture *fixture = *state;
	const struct kvm_irq_routing_msi *message;
	unsigned calls;

	setup_msix(fixture, 8);
	use_msix(fixture, 3);
	message = message_of(irqfd_of(host.fds[2])->gsi);
	assert_int_equal(message->address_lo, 0xfee00000);
	assert_int_equal(message->data, 0x42);
	/* Linux moves a vector to another CPU like this. */
	mask(fixture, 2, true);
	assert_null(irqfd_of(host.fds[2]));
	write_entry(fixture, 2, PCI_MSIX_ENTRY_LOWER_ADDR, 0xfee03000);
	write_entry(fixture, 2, PCI_MSIX_ENTRY_UPPER_ADDR, 0x00000200);
	write_entry(fixture, 2, PCI_MSIX_ENTRY_DATA, 0x55);
	calls = host.route_calls;
	mask(fixture, 2, false);
	assert_int_equal(host.route_calls, calls + 1);
	message = message_of(irqfd_of(host.fds[2])->gsi);
	assert_int_equal(message->address_lo, 0xfee03000);
	assert_int_equal(message->address_hi, 0x200);
	assert_int_equal(message->data, 0x55);
	assert_int_equal(message_of(irqfd_of(host.fds[1])->gsi)->data, 0x41);
	/* An address or the data alone is another message as well. */
	write_entry(fixture, 2, PCI_MSIX_ENTRY_DATA, 0x56);
	assert_int_equal(message_of(irqfd_of(host.fds[2])->gsi)->data, 0x56);
	write_entry(fixture, 2, PCI_MSIX_ENTRY_LOWER_ADDR, 0xfee04000);
	assert_int_equal(message_of(irqfd_of(host.fds[2])->gsi)->address_lo, 0xfee04000);
	/* The same again needs no call. */
	calls = host.route_calls;
	mask(fixture, 2, true);
	mask(fixture, 2, false);
	assert_int_equal(host.route_calls, calls);
}

static void masking_leaves_the_vector_with_vfio(void **state)
{
	struct fixture *fixture = *state;
	unsigned calls;

	setup_msix(fixture, 8);
	use_msix(fixture, 2);
	calls = host.calls;
	mask(fixture, 0, true);
	assert_null(irqfd_of(host.fds[0]));
	assert_non_null(irqfd_of(host.fds[1]));
	mask(fixture, 0, false);
	assert_non_null(irqfd_of(host.fds[0]));
	mask_all(fixture, true);
	assert_null(irqfd_of(host.fds[0]));
	assert_null(irqfd_of(host.fds[1]));
	assert_int_equal(connected(), 2);
	mask_all(fixture, false);
	assert_non_null(irqfd_of(host.fds[0]));
	assert_int_equal(host.calls, calls);
	assert_int_equal(host.asked[0], 2); /* to switch MSI-X on, and to connect it */
	assert_int_equal(host.asked[1], 1);
	assert_false(fixture->device.told);
}

/* VFIO stops a vector that is named again for a moment, and what comes then is lost. */
static void new_vectors_leave_those_in_use_alone(void **state)
{
	static const unsigned new[] = { 0, 1, 3, 6, 7 };
	struct fixture *fixture = *state;
	unsigned before[8], calls;

	setup_msix(fixture, 8);
	use_msix(fixture, 0);
	mask(fixture, 2, false);
	mask(fixture, 4, false);
	mask(fixture, 5, false);
	mask(fixture, 5, true);
	mask_all(fixture, true);
	for (unsigned i = 0; i < ARRAY_SIZE(new); i++)
		mask(fixture, new[i], false);
	calls = host.calls;
	memcpy(before, host.asked, sizeof(before));
	mask_all(fixture, false);
	assert_int_equal(connected(), 8);
	assert_int_equal(host.calls, calls + 3); /* 0 and 1, 3, 6 and 7 */
	for (unsigned i = 0; i < ARRAY_SIZE(new); i++)
		before[new[i]]++;
	assert_memory_equal(host.asked, before, sizeof(before));
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(irqfd_of(host.fds[i]) == NULL, i == 5);
}

/* Neither one in use, nor one that is new as well. */
static void a_vector_that_the_host_refuses_stops_no_other(void **state)
{
	struct fixture *fixture = *state;
	unsigned before;

	setup_msix(fixture, 8);
	use_msix(fixture, 0);
	/* A run of two. */
	host.refused = 1 << 1;
	mask_all(fixture, true);
	mask(fixture, 0, false);
	mask(fixture, 1, false);
	mask_all(fixture, false);
	assert_int_equal(connected(), 1);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	mask(fixture, 0, true);
	mask(fixture, 1, true);
	fixture->device.told = false;
	memset(host.asked, 0, sizeof(host.asked));
	mask_all(fixture, false);
	host.refused = 1 << 4 | 1 << 7;
	mask(fixture, 2, false);
	before = host.asked[2];
	mask(fixture, 4, false);
	assert_int_equal(host.asked[4], 1); /* alone, it need not be tried again */
	assert_true(fixture->device.told);
	assert_int_equal(connected(), 1);
	mask_all(fixture, true);
	for (unsigned i = 0; i < 8; i++)
		mask(fixture, i, false);
	mask_all(fixture, false);
	assert_int_equal(connected(), 6);
	assert_int_equal(host.asked[2], before);
	assert_int_equal(host.fds[4], -1);
	assert_int_equal(host.fds[7], -1);
	for (unsigned i = 0; i < 8; i++)
		assert_true(host.asked[i] <= 4);
	/* It is asked for again when there may be one. */
	host.refused = 0;
	mask_all(fixture, false);
	assert_int_equal(connected(), 8);
}

static void a_vector_that_kvm_refuses_is_told_and_tried_again(void **state)
{
	struct fixture *fixture = *state;

	setup_msix(fixture, 8);
	use_msix(fixture, 0);
	host.failing = KVM_IRQFD;
	host.error = EINVAL;
	mask(fixture, 3, false);
	assert_true(fixture->device.told);
	assert_int_equal(connected(), 0);
	host.failing = 0;
	mask_all(fixture, false);
	assert_int_equal(connected(), 1);
	assert_non_null(irqfd_of(host.fds[3]));
}

static void a_route_that_kvm_refuses_is_told_and_tried_again(void **state)
{
	struct fixture *fixture = *state;

	setup_msix(fixture, 8);
	use_msix(fixture, 2);
	mask(fixture, 1, true);
	write_entry(fixture, 1, PCI_MSIX_ENTRY_DATA, 0x99);
	host.failing = KVM_SET_GSI_ROUTING;
	host.error = ENOMEM;
	mask(fixture, 1, false);
	assert_true(fixture->device.told);
	assert_int_equal(message_of(irqfd_of(host.fds[1])->gsi)->data, 0x41);
	host.failing = 0;
	mask(fixture, 1, false);
	assert_int_equal(message_of(irqfd_of(host.fds[1])->gsi)->data, 0x99);
}

static void a_guest_without_gsis_misses_those_vectors(void **state)
{
	struct fixture *fixture = *state;

	setup_msix(fixture, 8);
	memset(fixture->vm.gsis_used, 0xff, sizeof(fixture->vm.gsis_used));
	use_msix(fixture, 3);
	assert_true(fixture->device.told);
	assert_int_equal(connected(), 0);
	fixture->vm.gsis_used[1] = ~3ULL; /* two come free */
	mask_all(fixture, false);
	assert_int_equal(connected(), 2);
}

static void msix_that_cannot_be_switched_on_is_tried_again(void **state)
{
	struct fixture *fixture = *state;

	setup_msix(fixture, 8);
	host.failing = VFIO_DEVICE_SET_IRQS;
	host.error = ENOMEM;
	use_msix(fixture, 3);
	assert_true(fixture->device.told);
	assert_int_equal(fixture->device.interrupts.mode, MODE_NONE);
	host.failing = 0;
	mask_all(fixture, false);
	assert_int_equal(connected(), 3);
}

/* A host without a single one left. */
static void msix_without_vectors_is_told(void **state)
{
	struct fixture *fixture = *state;

	setup_msix(fixture, 8);
	host.failing = VFIO_DEVICE_SET_IRQS;
	host.error = ENOSPC;
	use_msix(fixture, 3);
	assert_true(fixture->device.told);
	assert_int_equal(host.enabled, 0);
	/* And pending is nothing. */
	assert_true(space_read(&fixture->mmio, MEM32 + 0x2000, 8) == 0);
}

/* The table's last vectors are beyond what the host had: they are never asked for. */
static void vectors_beyond_the_hosts_are_not_asked_for(void **state)
{
	struct fixture *fixture = *state;
	unsigned calls;

	host.can_grow = false;
	host.offered = 2;
	setup_msix(fixture, 8);
	use_msix(fixture, 8);
	assert_int_equal(connected(), 2);
	calls = host.calls;
	mask(fixture, 1, true);
	mask(fixture, 1, false);
	mask(fixture, 2, true);
	mask(fixture, 2, false);
	mask(fixture, 7, true);
	mask(fixture, 7, false);
	mask_all(fixture, true);
	mask_all(fixture, false);
	assert_int_equal(host.calls, calls);
	/* A write over both is served as far as it goes. */
	space_write(&fixture->mmio, MEM32 + 0x101c, 8, 1);
	assert_null(irqfd_of(host.fds[1]));
}

/* A write may touch two vectors. */
static void a_write_over_two_entries_counts_for_both(void **state)
{
	struct fixture *fixture = *state;

	setup_msix(fixture, 8);
	use_msix(fixture, 3);
	space_write(&fixture->mmio, MEM32 + 0x101c, 8, 0xfee0500000000001);
	assert_null(irqfd_of(host.fds[1]));
	assert_int_equal(message_of(irqfd_of(host.fds[2])->gsi)->address_lo, 0xfee05000);
	assert_non_null(irqfd_of(host.fds[0]));
}

/* From one that has been told of some, more have been taken meanwhile. */
static void a_host_that_loses_vectors_meanwhile_gives_none(void **state)
{
	struct fixture *fixture = *state;

	host.can_grow = false;
	host.offered = 4;
	host.offered_next = 2;
	setup_msix(fixture, 8);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_true(fixture->device.told);
	assert_int_equal(fixture->device.interrupts.mode, MODE_NONE);
	host.offered_next = 0;
	mask_all(fixture, false);
	assert_int_equal(host.enabled, 2);
}

/* Neither is a descriptor of a kind that blocks, or that a child would have, or that counts already. */
static void check_eventfd(int fd)
{
	eventfd_t count;

	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(eventfd_read(fd, &count), -1);
	assert_int_equal(errno, EAGAIN);
}

static void descriptors_are_ours_alone_and_are_closed(void **state)
{
	struct fixture *fixture = *state;
	unsigned before;

	add_intx(fixture, 1);
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	before = open_files();
	attach(fixture);
	assert_int_equal(open_files(), before + 2);
	check_eventfd(host.intx_fd);
	check_eventfd(host.intx_resample);
	use_msix(fixture, 8);
	assert_int_equal(open_files(), before + 8);
	check_eventfd(host.fds[7]);
	assert_int_equal(irqfd_of(host.fds[7])->resamplefd, -1);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(open_files(), before + 2);
	host.no_intx = true;
	use_msix(fixture, 1);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(open_files(), before);
	host.intx_on = true; /* what it was refused, it does not hear of again */
}

static void without_descriptors_there_is_no_intx(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	add_intx(fixture, 1);
	for (unsigned i = 0; i < 2; i++) { /* neither of the two, or one */
		unsigned before = open_files();
		rlim_t limit = set_limit(lowest_free() + i);

		err = (struct error){ 0 };
		assert_int_equal(try_attach(fixture, &err), -EMFILE);
		set_limit(limit);
		assert_int_equal(open_files(), before);
		assert_false(host.intx_on);
	}
}

static void without_descriptors_vectors_are_missing(void **state)
{
	struct fixture *fixture = *state;
	rlim_t limit;

	setup_msix(fixture, 8);
	limit = set_limit(lowest_free() + 2);
	use_msix(fixture, 8);
	set_limit(limit);
	assert_true(fixture->device.told);
	assert_int_equal(connected(), 2);
	mask_all(fixture, false);
	assert_int_equal(connected(), 8);
}

static void the_guest_is_told_of_once(void **state)
{
	struct fixture *fixture = *state;
	int file = memfd_create("messages", MFD_CLOEXEC), errors = dup(STDERR_FILENO);
	char text[1024] = "";

	setup_msix(fixture, 8);
	host.refused = 1 << 3 | 1 << 5;
	dup2(file, STDERR_FILENO);
	for (unsigned i = 3; i <= 5; i += 2) {
		use_msix(fixture, i + 1);
		assert_true(pread(file, text, sizeof(text) - 1, 0) > 0);
		assert_ptr_equal(strchr(text, '\n'), strrchr(text, '\n'));
	}
	dup2(errors, STDERR_FILENO);
	close(file);
	close(errors);
	assert_non_null(strstr(text, "0000:01:00.0: VFIO cannot enable interrupt vectors"));
	assert_non_null(strstr(text, "No space left on device; the guest will miss interrupts"));
}

static void what_msix_had_is_given_back_when_it_goes_off(void **state)
{
	struct fixture *fixture = *state;

	setup_msix(fixture, 8);
	use_msix(fixture, 8);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(host.enabled, 0);
	for (unsigned i = 0; i < VECTORS; i++)
		assert_int_equal(host.irqfds[i].fd, 0);
	assert_true(fixture->vm.gsis_used[0] == 0);
	assert_int_equal(fixture->vm.routing->nr, 0);
	use_msix(fixture, 8);
	assert_int_equal(connected(), 8);
}

static void each_vector_is_connected_at_its_first_use(void **state)
{
	struct fixture *fixture = *state;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	attach(fixture);
	use_msix(fixture, 3);
	assert_int_equal(connected(), 3);
	assert_int_equal(host.calls, 4); /* one to switch it on */
}

/* Kernels before 6.5: all vectors are there from the start, and are connected when they are used. */
static void vectors_that_cannot_be_added_are_there_from_the_start(void **state)
{
	struct fixture *fixture = *state;

	host.can_grow = false;
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	attach(fixture);
	use_msix(fixture, 3);
	assert_int_equal(host.enabled, 8);
	assert_int_equal(connected(), 3);
	assert_int_equal(host.calls, 4);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(host.enabled, 0);
}

static void a_host_with_few_vectors_gives_those(void **state)
{
	struct fixture *fixture = *state;

	host.can_grow = false;
	host.offered = 2;
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	attach(fixture);
	use_msix(fixture, 3);
	assert_int_equal(host.enabled, 2);
	assert_int_equal(connected(), 2);
	assert_true(fixture->device.told);
}

static void a_host_with_few_vectors_gives_those_by_msi(void **state)
{
	struct fixture *fixture = *state;

	host.offered = 1;
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msi(fixture, 0x40, 0, 2 << 1); /* four vectors */
	attach(fixture);
	set(fixture, 0x40 + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	set(fixture, 0x40 + PCI_MSI_FLAGS, 2, 2 << 4 | PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(connected(), 1);
	assert_true(fixture->device.told);
}

/* Its line is shared with a device of the host, say: a driver with MSI does not need it. */
static void a_device_with_msi_goes_without_intx(void **state)
{
	struct fixture *fixture = *state;

	host.no_intx = true;
	add_intx(fixture, 1);
	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 8);
	attach(fixture);
	use_msix(fixture, 1);
	assert_int_equal(get(fixture, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(connected(), 1);
}

static void a_device_with_nothing_but_intx_needs_it(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	host.no_intx = true;
	add_intx(fixture, 1);
	assert_int_equal(try_attach(fixture, &err), -EBUSY);
	assert_non_null(strstr(err.hint, "/proc/interrupts"));
	/* Another failure has another cause. */
	host.no_intx = false;
	host.failing = VFIO_DEVICE_SET_IRQS;
	host.error = EIO;
	err = (struct error){ 0 };
	assert_int_equal(try_attach(fixture, &err), -EIO);
	assert_string_equal(err.hint, "");
}

/* Also after another message has gone by the same GSI. */
static void a_message_of_zeros_is_one(void **state)
{
	struct fixture *fixture = *state;
	const struct kvm_irq_routing_msi *message;

	fixture->config[PCI_CAPABILITY_LIST] = 0x40;
	add_msix(fixture, 0x40, 0, 4);
	attach(fixture);
	use_msix(fixture, 1);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	write_entry(fixture, 0, PCI_MSIX_ENTRY_LOWER_ADDR, 0);
	write_entry(fixture, 0, PCI_MSIX_ENTRY_DATA, 0);
	set(fixture, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	message = message_of(irqfd_of(host.fds[0])->gsi);
	assert_non_null(message);
	assert_int_equal(message->address_lo, 0);
	assert_int_equal(message->data, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PASSTHROUGH_TEST(intx_goes_from_vfio_to_kvm),
		PASSTHROUGH_TEST(the_line_is_off_until_somebody_hears_it),
		PASSTHROUGH_TEST(a_pin_is_a_line),
		PASSTHROUGH_TEST(without_a_pin_there_is_no_intx),
		PASSTHROUGH_TEST(intx_is_masked_by_the_guest),
		PASSTHROUGH_TEST(msix_takes_the_place_of_intx),
		PASSTHROUGH_TEST(intx_comes_back_masked),
		PASSTHROUGH_TEST(intx_that_cannot_be_masked_is_told),
		PASSTHROUGH_TEST(intx_that_kvm_does_not_take_stays_masked),
		PASSTHROUGH_TEST(intx_that_kvm_does_not_take_is_left_off),
		PASSTHROUGH_TEST(msi_vectors_have_the_guests_messages),
		PASSTHROUGH_TEST(msi_has_the_vectors_that_the_guest_enables),
		PASSTHROUGH_TEST(msix_is_on_at_the_device_before_a_vector_is_used),
		PASSTHROUGH_TEST(msix_vectors_have_the_guests_messages),
		PASSTHROUGH_TEST(masking_leaves_the_vector_with_vfio),
		PASSTHROUGH_TEST(new_vectors_leave_those_in_use_alone),
		PASSTHROUGH_TEST(a_vector_that_the_host_refuses_stops_no_other),
		PASSTHROUGH_TEST(a_vector_that_kvm_refuses_is_told_and_tried_again),
		PASSTHROUGH_TEST(a_route_that_kvm_refuses_is_told_and_tried_again),
		PASSTHROUGH_TEST(a_guest_without_gsis_misses_those_vectors),
		PASSTHROUGH_TEST(msix_that_cannot_be_switched_on_is_tried_again),
		PASSTHROUGH_TEST(msix_without_vectors_is_told),
		PASSTHROUGH_TEST(vectors_beyond_the_hosts_are_not_asked_for),
		PASSTHROUGH_TEST(a_write_over_two_entries_counts_for_both),
		PASSTHROUGH_TEST(a_host_that_loses_vectors_meanwhile_gives_none),
		PASSTHROUGH_TEST(descriptors_are_ours_alone_and_are_closed),
		PASSTHROUGH_TEST(without_descriptors_there_is_no_intx),
		PASSTHROUGH_TEST(without_descriptors_vectors_are_missing),
		PASSTHROUGH_TEST(the_guest_is_told_of_once),
		PASSTHROUGH_TEST(what_msix_had_is_given_back_when_it_goes_off),
		PASSTHROUGH_TEST(each_vector_is_connected_at_its_first_use),
		PASSTHROUGH_TEST(vectors_that_cannot_be_added_are_there_from_the_start),
		PASSTHROUGH_TEST(a_host_with_few_vectors_gives_those),
		PASSTHROUGH_TEST(a_host_with_few_vectors_gives_those_by_msi),
		PASSTHROUGH_TEST(a_device_with_msi_goes_without_intx),
		PASSTHROUGH_TEST(a_message_of_zeros_is_one),
		PASSTHROUGH_TEST(a_device_with_nothing_but_intx_needs_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
