/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/vcpus.h"

#include <pthread.h>
#include <stdbool.h>

/*
 * A tiny machine: one vCPU in 64-bit mode (others wait for a start-up IPI), 2 MiB of RAM at 0 with the guest's code in it, the first
 * 4 GiB mapped to themselves, and a note of each access that is trapped.
 */

#define GUEST_RAM       0x200000
#define GUEST_CODE      0x100000 /* where the code is, and starts */
#define GUEST_STACK     0x80000
#define GUEST_DATA      0x180000 /* left to the test */
#define GUEST_DONE      0xf4     /* a port: the guest has done its work */
#define GUEST_ACTION    0xf5     /* a port: a write to it calls the test on the vCPU's thread */
#define GUEST_MMIO      0x80000000ULL
#define GUEST_MMIO_SIZE 0x10000

struct guest_access {
	bool is_port, is_write;
	uint64_t address;
	unsigned size;
	uint64_t value; /* written; or what the guest got */
};

struct guest {
	int kvm_fd;
	struct kvm_vm *vm;
	void *ram;
	struct space mmio, pio;
	struct vcpus *vcpus;
	unsigned cpus;                                       /* 0 is 1 */
	unsigned prefault;                                   /* this many pieces of GUEST_RAM */
	void (*action)(struct guest *guest, uint64_t value); /* of the port GUEST_ACTION */
	uint64_t answer;                                     /* to each read, and then one more */
	pthread_mutex_t lock;                                /* for the rest */
	pthread_cond_t changed;
	struct guest_access accesses[64];
	unsigned count;
	unsigned port_bytes; /* to and from all ports */
	unsigned dones, resets, failures;
	struct error failure;
};

/*
 * Guests are written in the test, as
 *
 *   GUEST(name, "instructions")
 *
 * which makes guest_name and guest_name_end. They end by GUEST_END.
 */
#define GUEST(name, code)                                                            \
	extern const uint8_t guest_##name[], guest_##name##_end[];                   \
	__asm__(".pushsection .rodata\n.balign 16\n.code64\nguest_" #name ":\n" code \
		"\nguest_" #name "_end:\n.popsection");

#define GUEST_END "movb $1, %al\nout %al, $0xf4\n9: hlt\njmp 9b\n"

/* For cmocka: state becomes a struct guest, or the test is skipped where there is no KVM. */
#define KVM_TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
int guest_setup(void **state);
int guest_teardown(void **state);

/* Load the code and start it; stop it before its notes are read without the lock. */
#define guest_start(guest, name) \
	guest_start_code(guest, guest_##name, guest_##name##_end - guest_##name)
void guest_start_code(struct guest *guest, const void *code, size_t size);
void guest_stop(struct guest *guest);

/* Wait until *count is at least wanted, and fail the test where it does not get there. */
void guest_wait(struct guest *guest, const unsigned *count, unsigned wanted);

/* Start, wait for the write to GUEST_DONE, stop. */
#define guest_run(guest, name)                         \
	do {                                           \
		guest_start(guest, name);              \
		guest_wait(guest, &(guest)->dones, 1); \
		guest_stop(guest);                     \
	} while (0)
