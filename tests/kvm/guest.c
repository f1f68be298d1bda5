/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest.h"

#include "base/size.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 20 /* a KVM that emulates takes its time */

#define GDT_AT     0x500
#define PAGE_TABLE 0x10000 /* one top table, one of 512 GiB, four of 1 GiB each */
#define PTE_TABLE  0x3
#define PTE_LARGE  0x83
#define GATE       0x8e00 /* present, privilege 0, interrupt gate */
#define CODE       0x10   /* selector */

static void note(struct guest *guest, struct guest_access access)
{
	pthread_mutex_lock(&guest->lock);
	if (guest->count < ARRAY_SIZE(guest->accesses))
		guest->accesses[guest->count++] = access;
	guest->port_bytes += access.is_port ? access.size : 0;
	pthread_cond_signal(&guest->changed);
	pthread_mutex_unlock(&guest->lock);
}

static void count_one(struct guest *guest, unsigned *count)
{
	pthread_mutex_lock(&guest->lock);
	(*count)++;
	pthread_cond_signal(&guest->changed);
	pthread_mutex_unlock(&guest->lock);
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
	struct guest *guest = opaque;

	note(guest, (struct guest_access){ true, false, offset, size, guest->answer });
	return guest->answer++;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct guest *guest = opaque;

	if (offset == GUEST_DONE) {
		count_one(guest, &guest->dones);
	} else if (offset == GUEST_ACTION) {
		guest->action(guest, value);
	} else {
		note(guest, (struct guest_access){ true, true, offset, size, value });
	}
}

static const struct space_ops port_ops = { port_read, port_write };

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
	struct guest *guest = opaque;

	note(guest,
		(struct guest_access){ false, false, GUEST_MMIO + offset, size, guest->answer });
	return guest->answer++;
}

static void mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct guest *guest = opaque;

	note(guest, (struct guest_access){ false, true, GUEST_MMIO + offset, size, value });
}

static const struct space_ops mmio_ops = { mmio_read, mmio_write };

static void on_triple_fault(void *opaque)
{
	struct guest *guest = opaque;

	count_one(guest, &guest->resets);
}

static void on_failed(void *opaque, const struct error *failure)
{
	struct guest *guest = opaque;

	guest->failure = *failure;
	count_one(guest, &guest->failures);
}

static bool on_populated(void *opaque, struct memory_range *range)
{
	struct guest *guest = opaque;
	unsigned left = __atomic_load_n(&guest->prefault, __ATOMIC_RELAXED);

	while (left && !__atomic_compare_exchange_n(&guest->prefault, &left, left - 1, false,
			       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		continue;
	*range = (struct memory_range){ (left - 1) * 64 * KIB, 64 * KIB };
	return left;
}

static void write_tables(void *ram)
{
	uint64_t *table = (uint64_t *)((char *)ram + PAGE_TABLE);

	table[0] = (PAGE_TABLE + 4096) | PTE_TABLE;
	for (unsigned i = 0; i < 4; i++)
		table[512 + i] = (PAGE_TABLE + (2 + i) * 4096) | PTE_TABLE;
	for (unsigned i = 0; i < 4 * 512; i++)
		table[1024 + i] = i * 2 * MIB | PTE_LARGE;
	memcpy((char *)ram + GDT_AT, kvm_vcpu_gdt, sizeof(kvm_vcpu_gdt));
}

int guest_setup(void **state)
{
	struct guest *guest = calloc(1, sizeof(*guest));
	struct error err = { 0 };

	*state = guest;
	pthread_mutex_init(&guest->lock, NULL);
	pthread_cond_init(&guest->changed, NULL);
	guest->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (guest->kvm_fd < 0)
		return 0; /* guest_start_code() skips */
	guest->vm = kvm_vm_new(guest->kvm_fd, &err);
	if (!guest->vm) {
		error_print(&err);
		return -1;
	}
	guest->ram =
		mmap(NULL, GUEST_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	write_tables(guest->ram);
	space_init(&guest->mmio);
	space_init(&guest->pio);
	space_add(&guest->pio, 0, 0x10000, &port_ops, guest);
	space_add(&guest->mmio, GUEST_MMIO, GUEST_MMIO_SIZE, &mmio_ops, guest);
	return kvm_slot_map(guest->vm, 0, GUEST_RAM, guest->ram, 0) < 0;
}

int guest_teardown(void **state)
{
	struct guest *guest = *state;

	guest_stop(guest);
	if (guest->vm) {
		kvm_vm_free(guest->vm);
		munmap(guest->ram, GUEST_RAM);
		space_destroy(&guest->mmio);
		space_destroy(&guest->pio);
	}
	if (guest->kvm_fd >= 0)
		close(guest->kvm_fd);
	free(guest);
	return 0;
}

void guest_start_code(struct guest *guest, const void *code, size_t size)
{
	const struct vcpus_ops ops = { .triple_fault = on_triple_fault,
		.failed = on_failed,
		.populated = on_populated,
		.opaque = guest };
	struct error err = { 0 };

	if (guest->kvm_fd < 0)
		test_skip("no /dev/kvm");
	memcpy((char *)guest->ram + GUEST_CODE, code, size);
	guest->vcpus = vcpus_new(guest->vm, &guest->mmio, &guest->pio,
		&KVM_CPUS(guest->cpus ? guest->cpus : 1), &ops, &err);
	if (!guest->vcpus ||
		kvm_vcpu_enter_long_mode(
			vcpus_first(guest->vcpus), PAGE_TABLE, GDT_AT, GUEST_CODE, 0x5151, &err) ||
		vcpus_start(guest->vcpus, &err))
		fail_msg("%s: %s", err.object, err.what);
}

void guest_stop(struct guest *guest)
{
	vcpus_free(guest->vcpus);
	guest->vcpus = NULL;
}

void guest_wait(struct guest *guest, const unsigned *count, unsigned wanted)
{
	struct timespec end;
	bool failed, arrived;
	int code = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += WAIT_S;
	pthread_mutex_lock(&guest->lock);
	while (*count < wanted && !code && (!guest->failures || count == &guest->failures))
		code = pthread_cond_timedwait(&guest->changed, &guest->lock, &end);
	arrived = *count >= wanted;
	failed = guest->failures;
	pthread_mutex_unlock(&guest->lock);
	if (!arrived)
		fail_msg("the guest did not get there%s%s", failed ? ": " : "",
			failed ? guest->failure.what : "");
}
