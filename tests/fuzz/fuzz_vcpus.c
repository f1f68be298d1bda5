/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exits of a vCPU as KVM hands them over: string I/O of any size and count, and MMIO of any length from
 * 1 to 8 at any alignment. The input is what KVM_RUN gives, one exit after another; the devices are
 * memory and a queue, so that each byte can be told.
 */
#include "fuzz.h"

#include "base/size.h"
#include "kernel.h"
#include "machine/vcpus.h"

#include <errno.h>
#include <linux/kvm.h>
#include <semaphore.h>
#include <string.h>

#define EXITS_MAX 200
#define PAGE      (4 * KIB)
#define CANARY    0xa5
#define RAM       0x1000 /* [RAM, RAM + RAM_SIZE) is memory; around it is nothing */
#define RAM_SIZE  0x100
#define PORTS     0x8000 /* ports from here on are nobody's */

enum { STRINGS, PIECES, SPLITS, ENDS };

struct fuzz_goal fuzz_goals[] = {
	[STRINGS] = { "string accesses", 2, 0 },
	[PIECES] = { "values through ports", 1, 0 },
	[SPLITS] = { "MMIO of odd lengths", 2, 0 },
	[ENDS] = { "failures of a vCPU", 100, 0 },
	{ 0 },
};

static struct {
	struct fuzz_input *input;
	struct kvm_run *run; /* the vCPU's, as the code under test sees it */
	unsigned exits;
	bool pending; /* an exit is being served, to be checked at the next call */
	bool ends;    /* it must be the last */
	struct kvm_run before;
	uint8_t data[PAGE]; /* before the exit, for string I/O */
	uint8_t ram[RAM_SIZE], ram_before[RAM_SIZE];
	unsigned queued; /* values that the port's device has taken or given */
	unsigned resets, failures;
	sem_t ended;
} world;

/* The port's device: takes what must come next, and gives numbers. */

static uint64_t number(unsigned i, unsigned size)
{
	return (0x01234567u + i * 0x9e3779b9u) & ((1ULL << 8 * size) - 1);
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque;
	fuzz_check(size <= 4 && offset + size <= PORTS && offset == world.before.io.port);
	/* More than was asked for: it must not reach the data. */
	return number(world.queued++, size) | ~0ULL << 8 * size;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	uint64_t wanted = 0;

	(void)opaque;
	fuzz_check(size <= 4 && offset + size <= PORTS && offset == world.before.io.port);
	fuzz_check(world.queued < world.before.io.count);
	memcpy(&wanted, &world.data[world.queued++ * size], size);
	fuzz_check(value == wanted);
}

static const struct space_ops port_ops = { port_read, port_write };

static uint64_t ram_read(void *opaque, uint64_t offset, unsigned size)
{
	uint64_t value = ~0ULL;

	(void)opaque;
	fuzz_check((size == 1 || size == 2 || size == 4 || size == 8) && offset + size <= RAM_SIZE);
	memcpy(&value, &world.ram[offset], size);
	return value;
}

static void ram_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque;
	fuzz_check((size == 1 || size == 2 || size == 4 || size == 8) && offset + size <= RAM_SIZE);
	fuzz_check(size == 8 || value >> 8 * size == 0);
	memcpy(&world.ram[offset], &value, size);
}

static const struct space_ops ram_ops = { ram_read, ram_write };

/* After an exit: what must have come of it. */

static void check_string(void)
{
	const struct kvm_run *before = &world.before;
	const uint8_t *data = (const uint8_t *)world.run + before->io.data_offset;
	unsigned size = before->io.size, length = size * before->io.count;
	bool there = before->io.port + size <= PORTS;
	bool in = before->io.direction == KVM_EXIT_IO_IN;

	fuzz_check(world.queued == (there ? before->io.count : 0));
	for (unsigned i = 0; in && i < before->io.count; i++) {
		uint64_t wanted = there ? number(i, size) : ~0ULL;

		fuzz_check(memcmp(&data[i * size], &wanted, size) == 0);
	}
	if (!in)
		fuzz_check(memcmp(data, world.data, length) == 0);
	for (uint64_t at = before->io.data_offset + length; at < 2 * PAGE; at++)
		fuzz_check(((const uint8_t *)world.run)[at] == CANARY);
	fuzz_goals[STRINGS].count += before->io.count > 1;
	fuzz_goals[PIECES].count += world.queued;
}

/* A byte of the memory as it must be after the exit; bytes that no device has stay what they were. */
static void check_mmio(void)
{
	const struct kvm_run *before = &world.before;
	uint64_t start = before->mmio.phys_addr;
	unsigned length = before->mmio.len;
	/* A piece that runs over an end is nobody's, so only what lies whole inside is certain. */
	bool inside = start >= RAM && start <= RAM + RAM_SIZE - length;

	for (unsigned i = 0; i < RAM_SIZE; i++) {
		uint64_t at = i + RAM - start;

		if (at >= length)
			fuzz_check(world.ram[i] == world.ram_before[i]);
		else if (inside && before->mmio.is_write)
			fuzz_check(world.ram[i] == before->mmio.data[at]);
		else if (inside)
			fuzz_check(world.run->mmio.data[at] == world.ram[i]);
	}
	if (!before->mmio.is_write && (start + length <= RAM || start >= RAM + RAM_SIZE))
		for (unsigned i = 0; i < length; i++)
			fuzz_check(world.run->mmio.data[i] == 0xff);
	for (unsigned i = length; i < sizeof(before->mmio.data); i++)
		fuzz_check(world.run->mmio.data[i] == before->mmio.data[i]);
	fuzz_goals[SPLITS].count += (length & (length - 1)) != 0;
}

static void check_exit(void)
{
	if (!world.pending)
		return;
	world.pending = false;
	fuzz_check(!world.ends);
	if (world.before.exit_reason == KVM_EXIT_IO)
		check_string();
	if (world.before.exit_reason == KVM_EXIT_MMIO)
		check_mmio();
}

/* KVM_RUN: an exit. */

/* As KVM has it: the data is in the page behind the structure's and does not leave it. */
static void exit_io(struct kvm_run *run)
{
	uint8_t how = fuzz_byte(world.input);
	uint8_t *page = (uint8_t *)run + PAGE;
	unsigned length;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = how & 1 ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.size = how & 4 ? 4 : how & 2 ? 2 : 1;
	run->io.port = fuzz_number(world.input, 2);
	run->io.count = 1 + fuzz_number(world.input, 2) % (how & 16 ? PAGE / run->io.size : 40);
	length = run->io.count * run->io.size;
	run->io.data_offset = PAGE + (how & 8 ? PAGE - length : 0);
	memset(page, CANARY, PAGE);
	memset(world.data, 0, sizeof(world.data));
	if (how & 1) {
		fuzz_bytes(world.input, world.data, min_u64(length, 32));
		memcpy((uint8_t *)run + run->io.data_offset, world.data, length);
	}
	world.queued = 0;
}

static void exit_mmio(struct kvm_run *run)
{
	uint8_t how = fuzz_byte(world.input);

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.is_write = how & 1;
	run->mmio.len = 1 + (how >> 1) % 8;
	/* Mostly near the memory. */
	run->mmio.phys_addr = how & 0x80 ? fuzz_number(world.input, 8)
					 : fuzz_number(world.input, 2) % (RAM + RAM_SIZE + 16);
	fuzz_bytes(world.input, run->mmio.data, sizeof(run->mmio.data));
	if (how & 0x80 && run->mmio.phys_addr > UINT64_MAX - 8)
		run->mmio.phys_addr -= 8; /* no CPU has as many bits */
}

static int fail(int code)
{
	errno = code;
	return -1;
}

static int next_exit(struct kvm_run *run, uint8_t kind)
{
	static const int others[] = { KVM_EXIT_INTR, KVM_EXIT_IRQ_WINDOW_OPEN };
	static const int last[] = { KVM_EXIT_FAIL_ENTRY, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_HLT,
		KVM_EXIT_SHUTDOWN };

	if (kind < 110)
		exit_io(run);
	else if (kind < 230)
		exit_mmio(run);
	else if (kind < 240)
		run->exit_reason = others[kind % ARRAY_SIZE(others)];
	else if (kind < 248)
		return fail(kind & 1 ? EINTR : EAGAIN);
	else if (kind < 250)
		return fail(EFAULT);
	else
		run->exit_reason = last[kind % ARRAY_SIZE(last)];
	return 0;
}

static int run_vcpu(int fd)
{
	struct kvm_run *run = world.run;
	uint8_t kind = fuzz_byte(world.input);
	int code;

	(void)fd;
	check_exit();
	if (!world.input->size || world.exits++ == EXITS_MAX)
		kind = 255; /* a triple fault is an end */
	memcpy(world.ram_before, world.ram, sizeof(world.ram));
	code = next_exit(run, kind);
	world.ends = kind >= 248;
	world.pending = code == 0;
	world.before = *run;
	return code;
}

static void on_triple_fault(void *opaque)
{
	(void)opaque;
	fuzz_check(world.before.exit_reason == KVM_EXIT_SHUTDOWN);
	world.resets++;
	sem_post(&world.ended);
}

static void on_failure(void *opaque, const struct error *failure)
{
	(void)opaque;
	fuzz_check(world.ends && failure->code && failure->what[0]);
	world.failures++;
	sem_post(&world.ended);
}

void fuzz_one(struct fuzz_input *input)
{
	const struct vcpus_ops ops = { .triple_fault = on_triple_fault, .failed = on_failure };
	unsigned before = fuzz_descriptors();
	struct space mmio, pio;
	struct error err = { 0 };
	struct vcpus *vcpus;
	struct kvm_vm *vm;

	memset(&world, 0, sizeof(world));
	world.input = input;
	sem_init(&world.ended, 0, 0);
	kernel_reset(input);
	kernel.run = run_vcpu;
	space_init(&mmio);
	space_init(&pio);
	fuzz_check(space_add(&mmio, RAM, RAM_SIZE, &ram_ops, NULL) == 0);
	fuzz_check(space_add(&pio, 0, PORTS, &port_ops, NULL) == 0);
	vm = kvm_vm_new(-1, &err);
	vcpus = vm ? vcpus_new(vm, &mmio, &pio, &KVM_CPUS(1), &ops, &err) : NULL;
	fuzz_check(vcpus);
	world.run = vcpus_first(vcpus)->run;
	fuzz_check(vcpus_start(vcpus, &err) == 0);
	while (sem_wait(&world.ended) < 0) /* libFuzzer's timer interrupts it */
		continue;
	vcpus_free(vcpus);
	fuzz_check(world.resets + world.failures == 1);
	fuzz_goals[ENDS].count += world.failures;
	kvm_vm_free(vm);
	space_destroy(&mmio);
	space_destroy(&pio);
	sem_destroy(&world.ended);
	kernel_check_idle();
	fuzz_check(fuzz_descriptors() == before);
}
