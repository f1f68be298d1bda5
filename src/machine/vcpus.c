/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/vcpus.h"

#include "base/fd.h"
#include "base/size.h"
#include "kvm/hyperv.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KICK_SIGNAL SIGUSR1 /* makes KVM_RUN return; its handler does nothing */

struct vcpu_thread {
	struct vcpus *vcpus;
	struct kvm_vcpu vcpu;
	pthread_t thread;
	bool started;
	pid_t id;
};

struct vcpus {
	struct space *mmio;
	struct space *pio;
	struct vcpus_ops ops;
	pthread_mutex_t gate;   /* held while threads are being started */
	bool stop;              /* kicked ones look at it, and at the next */
	unsigned holders;       /* of enum vcpus_holder */
	pthread_mutex_t lock;   /* for what follows, and for changes of these two */
	pthread_cond_t changed; /* stop, holders or running */
	unsigned running;       /* threads that are neither held nor at their end */
	struct kvm_cpus cpus;
	unsigned count; /* of those that have been made */
	struct vcpu_thread threads[];
};

static void serve_io(struct vcpus *vcpus, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (unsigned i = 0; i < run->io.count; i++, data += run->io.size) {
		uint64_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, run->io.size);
			space_write(vcpus->pio, run->io.port, run->io.size, value);
		} else {
			value = space_read(vcpus->pio, run->io.port, run->io.size);
			memcpy(data, &value, run->io.size);
		}
	}
}

/* KVM cuts an access at a page's end, so the length may be any from 1 to 8: serve it in powers of 2. */
static void serve_mmio(struct vcpus *vcpus, struct kvm_run *run)
{
	unsigned done = 0;

	while (done < run->mmio.len) {
		unsigned left = run->mmio.len - done;
		unsigned size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
		uint64_t value = 0;

		if (run->mmio.is_write) {
			memcpy(&value, run->mmio.data + done, size);
			space_write(vcpus->mmio, run->mmio.phys_addr + done, size, value);
		} else {
			value = space_read(vcpus->mmio, run->mmio.phys_addr + done, size);
			memcpy(run->mmio.data + done, &value, size);
		}
		done += size;
	}
}

static void fail(struct vcpu_thread *thread, const char *format, unsigned long long detail)
{
	struct error failure = { 0 };
	char object[16];

	snprintf(object, sizeof(object), "vCPU %u", thread->vcpu.index);
	error_set(&failure, -EIO, object, format, detail);
	error_hint(&failure, "dmesg may tell more of what KVM could not do");
	thread->vcpus->ops.failed(thread->vcpus->ops.opaque, &failure);
}

/* False: this vCPU runs no more. */
static bool serve_exit(struct vcpu_thread *thread)
{
	struct vcpus *vcpus = thread->vcpus;
	struct kvm_run *run = thread->vcpu.run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		serve_io(vcpus, run);
		return true;
	case KVM_EXIT_MMIO:
		serve_mmio(vcpus, run);
		return true;
	case KVM_EXIT_HYPERV:
		kvm_hyperv_serve(run);
		return true;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return true;
	case KVM_EXIT_SHUTDOWN:
		vcpus->ops.triple_fault(vcpus->ops.opaque);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		fail(thread, "the CPU refuses to enter the guest (reason %#llx)",
			run->fail_entry.hardware_entry_failure_reason);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		fail(thread, "KVM cannot go on (suberror %llu)", run->internal.suberror);
		return false;
	default:
		fail(thread, "unexpected exit %llu from KVM", run->exit_reason);
		return false;
	}
}

/*
 * Fill the tables for RAM that has become present: a vCPU can do that alone, and only while it does not
 * run. Without it the guest would fault at each huge page. False: there is none.
 */
static bool prefault(struct vcpu_thread *thread)
{
	struct vcpus *vcpus = thread->vcpus;
	struct memory_range range;

	if (!vcpus->ops.populated || __atomic_load_n(&vcpus->stop, __ATOMIC_ACQUIRE) ||
		!vcpus->ops.populated(vcpus->ops.opaque, &range))
		return false;
	kvm_vcpu_prefault(&thread->vcpu, range.gpa, range.size, &vcpus->stop);
	return true;
}

/* With the lock held. */
static void leave_guest(struct vcpus *vcpus)
{
	vcpus->running--;
	pthread_cond_broadcast(&vcpus->changed);
}

/* With the lock held. */
static void return_to_guest(struct vcpu_thread *thread)
{
	struct vcpus *vcpus = thread->vcpus;

	while (vcpus->holders && !vcpus->stop)
		pthread_cond_wait(&vcpus->changed, &vcpus->lock);
	vcpus->running++;
	if (!vcpus->stop)
		kvm_vcpu_resume(&thread->vcpu);
}

static void wait_while_paused(struct vcpu_thread *thread)
{
	struct vcpus *vcpus = thread->vcpus;

	pthread_mutex_lock(&vcpus->lock);
	if (vcpus->holders && !vcpus->stop) {
		leave_guest(vcpus);
		return_to_guest(thread);
	}
	pthread_mutex_unlock(&vcpus->lock);
}

/* An access that has to wait is served again, until it is made. False: this vCPU runs no more. */
static bool serve(struct vcpu_thread *thread)
{
	struct vcpus *vcpus = thread->vcpus;

	while (serve_exit(thread)) {
		if (!vcpus->ops.must_wait || !vcpus->ops.must_wait(vcpus->ops.opaque) ||
			__atomic_load_n(&vcpus->stop, __ATOMIC_ACQUIRE))
			return true;
		pthread_mutex_lock(&vcpus->lock);
		leave_guest(vcpus);
		pthread_mutex_unlock(&vcpus->lock);
		vcpus->ops.wait(vcpus->ops.opaque);
		pthread_mutex_lock(&vcpus->lock);
		return_to_guest(thread);
		pthread_mutex_unlock(&vcpus->lock);
	}
	return false;
}

static void run_guest(struct vcpu_thread *thread)
{
	struct vcpus *vcpus = thread->vcpus;

	while (!__atomic_load_n(&vcpus->stop, __ATOMIC_ACQUIRE)) {
		int code;

		if (__atomic_load_n(&vcpus->holders, __ATOMIC_ACQUIRE))
			wait_while_paused(thread);
		code = kvm_vcpu_run(&thread->vcpu);
		if (code == -EINTR || code == -EAGAIN)
			continue;
		if (code) {
			fail(thread,
				code == -EFAULT
					? "the host has no memory for a page that it touches (error %llu)"
					: "KVM_RUN fails with error %llu",
				-code);
			break;
		}
		if (!serve(thread))
			break;
		prefault(thread);
	}
}

/* False: this vCPU does not run. */
static bool go_to_pin(struct vcpu_thread *thread)
{
	const struct kvm_cpus *cpus = &thread->vcpus->cpus;
	unsigned cpu = cpus->pins[thread->vcpu.index];
	cpu_set_t set;

	if (!cpus->pinned)
		return true;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) == 0)
		return true;
	fail(thread, "the host does not let it run on CPU %llu any more", cpu);
	return false;
}

static void *run_vcpu(void *opaque)
{
	struct vcpu_thread *thread = opaque;
	struct vcpus *vcpus = thread->vcpus;

	/* Not before all threads are there: what fails to start them is then the only failure. */
	pthread_mutex_lock(&vcpus->gate);
	pthread_mutex_unlock(&vcpus->gate);
	__atomic_store_n(&thread->id, gettid(), __ATOMIC_RELAXED);
	if (go_to_pin(thread)) {
		while (prefault(thread))
			continue;
		run_guest(thread);
	}
	pthread_mutex_lock(&vcpus->lock);
	leave_guest(vcpus);
	pthread_mutex_unlock(&vcpus->lock);
	return NULL;
}

static void ignore(int signal)
{
	(void)signal;
}

struct vcpus *vcpus_new(struct kvm_vm *vm, struct space *mmio, struct space *pio,
	const struct kvm_cpus *cpus, const struct vcpus_ops *ops, struct error *err)
{
	struct vcpus *vcpus = calloc(1, sizeof(*vcpus) + cpus->count * sizeof(vcpus->threads[0]));

	if (!vcpus) {
		error_sys(err, -ENOMEM, NULL, "cannot make the vCPUs");
		return NULL;
	}
	*vcpus = (struct vcpus){ .mmio = mmio, .pio = pio, .ops = *ops, .cpus = *cpus };
	pthread_mutex_init(&vcpus->gate, NULL);
	pthread_mutex_init(&vcpus->lock, NULL);
	pthread_cond_init(&vcpus->changed, NULL);
	for (unsigned i = 0; i < cpus->count; i++) {
		struct vcpu_thread *thread = &vcpus->threads[i];

		thread->vcpus = vcpus;
		vcpus->count = i + 1;
		if (kvm_vcpu_open(&thread->vcpu, vm, cpus, i, err)) {
			vcpus_free(vcpus);
			return NULL;
		}
	}
	return vcpus;
}

struct kvm_vcpu *vcpus_first(struct vcpus *vcpus)
{
	return &vcpus->threads[0].vcpu;
}

int vcpus_start(struct vcpus *vcpus, struct error *err)
{
	struct sigaction action = { .sa_handler = ignore }; /* no SA_RESTART */
	int code = 0;

	sigaction(KICK_SIGNAL, &action, NULL);
	pthread_mutex_lock(&vcpus->gate);
	for (unsigned i = 0; i < vcpus->count && !code; i++) {
		struct vcpu_thread *thread = &vcpus->threads[i];

		code = -pthread_create(&thread->thread, NULL, run_vcpu, thread);
		thread->started = !code;
		vcpus->running += !code;
		if (code)
			error_sys(err, code, NULL, "cannot start the thread of vCPU %u", i);
	}
	if (code)
		__atomic_store_n(&vcpus->stop, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&vcpus->gate);
	return code;
}

static void kick_all(struct vcpus *vcpus)
{
	for (unsigned i = 0; i < vcpus->count; i++) {
		struct vcpu_thread *thread = &vcpus->threads[i];

		if (!thread->started)
			continue;
		/* A signal that comes before KVM_RUN is remembered by the kick. */
		kvm_vcpu_kick(&thread->vcpu);
		pthread_kill(thread->thread, KICK_SIGNAL);
	}
}

static void set_holders(struct vcpus *vcpus, unsigned clear, unsigned set)
{
	pthread_mutex_lock(&vcpus->lock);
	__atomic_store_n(&vcpus->holders, (vcpus->holders & ~clear) | set, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_hold(struct vcpus *vcpus, enum vcpus_holder holder)
{
	set_holders(vcpus, 0, holder);
	kick_all(vcpus);
}

void vcpus_pause(struct vcpus *vcpus, enum vcpus_holder holder)
{
	vcpus_hold(vcpus, holder);
	pthread_mutex_lock(&vcpus->lock);
	while (vcpus->running)
		pthread_cond_wait(&vcpus->changed, &vcpus->lock);
	pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_resume(struct vcpus *vcpus, enum vcpus_holder holder)
{
	set_holders(vcpus, holder, 0);
}

pid_t vcpus_thread(const struct vcpus *vcpus, unsigned index)
{
	return __atomic_load_n(&vcpus->threads[index].id, __ATOMIC_RELAXED);
}

void vcpus_free(struct vcpus *vcpus)
{
	if (!vcpus)
		return;
	pthread_mutex_lock(&vcpus->lock);
	__atomic_store_n(&vcpus->stop, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&vcpus->changed);
	pthread_mutex_unlock(&vcpus->lock);
	kick_all(vcpus);
	for (unsigned i = 0; i < vcpus->count; i++)
		if (vcpus->threads[i].started)
			pthread_join(vcpus->threads[i].thread, NULL);
	for (unsigned i = 0; i < vcpus->count; i++)
		kvm_vcpu_close(&vcpus->threads[i].vcpu);
	pthread_cond_destroy(&vcpus->changed);
	pthread_mutex_destroy(&vcpus->lock);
	pthread_mutex_destroy(&vcpus->gate);
	free(vcpus);
}
