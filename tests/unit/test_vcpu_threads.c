/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "fake_kvm.h"
#include "machine/vcpus.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * vCPUs' threads over a KVM that comes back as the test wants: exits that are hard to get from a real
 * one, failures, and starts and stops in great number. Runs under ThreadSanitizer, too.
 */

#define CPUS      4
#define WAIT_MS   20000
#define CHUNK_MAX (64 * MIB) /* a write to a memory slot may have to wait for one of these */
#define IO_AT     2048       /* in what a vCPU shares with the kernel */

int __real_pthread_create(
	pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *opaque);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *opaque);

static unsigned threads_left; /* that may be started */

int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *opaque)
{
	if (threads_left--)
		return __real_pthread_create(thread, attr, run, opaque);
	/* Those that were started get the time to fail in. */
	usleep(50000);
	return EAGAIN;
}

struct access {
	bool is_port, is_write;
	uint64_t address;
	unsigned size;
	uint64_t value;
};

static struct fixture {
	struct kvm_vm *vm;
	struct space mmio, pio;
	struct vcpus *vcpus;
	pthread_mutex_t lock; /* for the rest, as in a machine */
	struct error err;
	unsigned failures, resets;
	struct access accesses[64];
	unsigned count;
	uint64_t present, given; /* bytes of RAM, and of them to vCPUs */
} fixture;

static void on_triple_fault(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&fixture.lock);
	fixture.resets++;
	pthread_mutex_unlock(&fixture.lock);
}

static void on_failed(void *opaque, const struct error *failure)
{
	(void)opaque;
	pthread_mutex_lock(&fixture.lock);
	fixture.err = *failure;
	fixture.failures++;
	pthread_mutex_unlock(&fixture.lock);
}

static bool on_populated(void *opaque, struct memory_range *range)
{
	bool is_more;

	(void)opaque;
	pthread_mutex_lock(&fixture.lock);
	*range = (struct memory_range){ fixture.given,
		min_u64(fixture.present - fixture.given, 32 * MIB) };
	fixture.given += range->size;
	is_more = range->size;
	pthread_mutex_unlock(&fixture.lock);
	return is_more;
}

/* An access to BLOCKED_PORT is not made before ready is set, and sets this. */
#define BLOCKED_PORT 0x90
static _Thread_local bool must_wait;
static bool ready;
static unsigned in_wait;

static bool on_must_wait(void *opaque)
{
	bool is = must_wait;

	(void)opaque;
	must_wait = false;
	return is;
}

static void on_wait(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&fixture.lock);
	in_wait++;
	pthread_mutex_unlock(&fixture.lock);
	while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
		usleep(1000);
}

static void note(struct access access)
{
	pthread_mutex_lock(&fixture.lock);
	if (fixture.count < ARRAY_SIZE(fixture.accesses))
		fixture.accesses[fixture.count++] = access;
	pthread_mutex_unlock(&fixture.lock);
}

/* Reads answer with 11 and the low byte of the address in each byte. */
static uint64_t answer(uint64_t address)
{
	return 0x1111111111111111 * (address & 0xf);
}

static uint64_t read_port(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque;
	note((struct access){ true, false, offset, size, 0 });
	return answer(offset);
}

static void write_port(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque;
	if (offset == BLOCKED_PORT && !__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) {
		must_wait = true;
		return;
	}
	note((struct access){ true, true, offset, size, value });
}

static uint64_t read_memory(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque;
	note((struct access){ false, false, offset, size, 0 });
	return answer(offset);
}

static void write_memory(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque;
	note((struct access){ false, true, offset, size, value });
}

static const struct space_ops port_ops = { read_port, write_port };
static const struct space_ops memory_ops = { read_memory, write_memory };

static int setup(void **state)
{
	(void)state;
	fake_kvm_reset();
	threads_left = 1000000;
	fixture = (struct fixture){ .lock = PTHREAD_MUTEX_INITIALIZER };
	space_init(&fixture.mmio);
	space_init(&fixture.pio);
	space_add(&fixture.pio, 0, 0x10000, &port_ops, NULL);
	space_add(&fixture.mmio, 0, 0x100000000, &memory_ops, NULL);
	fixture.vm = kvm_vm_new(FAKE_KVM_FD, &fixture.err);
	return fixture.vm ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	vcpus_free(fixture.vcpus);
	kvm_vm_free(fixture.vm);
	space_destroy(&fixture.mmio);
	space_destroy(&fixture.pio);
	return 0;
}

static void make(unsigned count)
{
	const struct vcpus_ops ops = {
		.triple_fault = on_triple_fault,
		.failed = on_failed,
		.populated = on_populated,
		.must_wait = on_must_wait,
		.wait = on_wait,
	};

	fixture.vcpus = vcpus_new(
		fixture.vm, &fixture.mmio, &fixture.pio, &KVM_CPUS(count), &ops, &fixture.err);
	assert_non_null(fixture.vcpus);
}

static int start(unsigned count)
{
	make(count);
	return vcpus_start(fixture.vcpus, &fixture.err);
}

static void stop(void)
{
	vcpus_free(fixture.vcpus);
	fixture.vcpus = NULL;
}

static void wait_for(const unsigned *count, unsigned wanted)
{
	for (unsigned i = 0; i < WAIT_MS; i++) {
		bool there;

		pthread_mutex_lock(&fixture.lock);
		there = *count >= wanted;
		pthread_mutex_unlock(&fixture.lock);
		if (there)
			return;
		usleep(1000);
	}
	fail_msg("%u of %u came", *count, wanted);
}

/* A vCPU that comes back for the reasons in a list, one after the other, and then waits. */

static void (*reasons[16])(struct kvm_run *run);
static unsigned reason_count;
static struct kvm_run *seen; /* as it was left for the kernel after the last of them */

static int come_back(unsigned id, struct kvm_run *run)
{
	static unsigned at;

	(void)id;
	if (at < reason_count) {
		run->exit_reason = KVM_EXIT_UNKNOWN;
		reasons[at++](run);
		return 0;
	}
	at = 0;
	pthread_mutex_lock(&fixture.lock);
	seen = run;
	fixture.resets++; /* all were served */
	reason_count = 0;
	pthread_mutex_unlock(&fixture.lock);
	while (!__atomic_load_n(&run->immediate_exit, __ATOMIC_ACQUIRE))
		usleep(1000);
	return -EINTR;
}

static void run_one(void (*reason)(struct kvm_run *run))
{
	reasons[0] = reason;
	reason_count = 1;
	fake_kvm.run = come_back;
	assert_int_equal(start(1), 0);
	wait_for(&fixture.resets, 1);
}

static void assert_access(
	unsigned i, bool is_port, bool is_write, uint64_t address, unsigned size, uint64_t value)
{
	const struct access *access = &fixture.accesses[i];

	assert_true(i < fixture.count);
	assert_int_equal(access->is_port, is_port);
	assert_int_equal(access->is_write, is_write);
	assert_int_equal(access->address, address);
	assert_int_equal(access->size, size);
	assert_int_equal(access->value, value);
}

static void io(struct kvm_run *run, unsigned direction, unsigned port, unsigned size,
	unsigned count, const void *data)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = direction;
	run->io.port = port;
	run->io.size = size;
	run->io.count = count;
	run->io.data_offset = IO_AT;
	memcpy((char *)run + IO_AT, data, 16);
}

static void out_words(struct kvm_run *run)
{
	io(run, KVM_EXIT_IO_OUT, 0x3f8, 2, 3, "\x01\x02\x03\x04\x05\x06----------");
}

TEST(a_string_goes_out_word_by_word)
{
	run_one(out_words);
	assert_int_equal(fixture.count, 3);
	assert_access(0, true, true, 0x3f8, 2, 0x0201);
	assert_access(1, true, true, 0x3f8, 2, 0x0403);
	assert_access(2, true, true, 0x3f8, 2, 0x0605);
}

static void in_dwords(struct kvm_run *run)
{
	io(run, KVM_EXIT_IO_IN, 0x3f5, 4, 2, "0123456789abcdef");
}

/* No byte before or behind is touched. */
TEST(a_string_comes_in_dword_by_dword)
{
	run_one(in_dwords);
	assert_int_equal(fixture.count, 2);
	assert_access(0, true, false, 0x3f5, 4, 0);
	assert_access(1, true, false, 0x3f5, 4, 0);
	assert_memory_equal((char *)seen + IO_AT,
		"\x55\x55\x55\x55\x55\x55\x55\x55"
		"89abcdef",
		16);
}

static void memory(struct kvm_run *run, bool is_write, uint64_t address, unsigned length)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.is_write = is_write;
	run->mmio.phys_addr = address;
	run->mmio.len = length;
	memcpy(run->mmio.data, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
}

static void write_seven(struct kvm_run *run)
{
	memory(run, true, 0x80000fc1, 7);
}

/* A length that is no power of two comes of an access over a page's end. */
TEST(seven_bytes_are_written_in_three_accesses)
{
	run_one(write_seven);
	assert_int_equal(fixture.count, 3);
	assert_access(0, false, true, 0x80000fc1, 4, 0x04030201);
	assert_access(1, false, true, 0x80000fc5, 2, 0x0605);
	assert_access(2, false, true, 0x80000fc7, 1, 0x07);
}

static void read_three(struct kvm_run *run)
{
	memory(run, false, 0x80000ffd, 3);
}

TEST(three_bytes_are_read_in_two_accesses)
{
	run_one(read_three);
	assert_int_equal(fixture.count, 2);
	assert_access(0, false, false, 0x80000ffd, 2, 0);
	assert_access(1, false, false, 0x80000fff, 1, 0);
	assert_memory_equal(seen->mmio.data, "\xdd\xdd\xff\x04\x05\x06\x07\x08", 8);
}

static void write_eight(struct kvm_run *run)
{
	memory(run, true, 0x80000000, 8);
}

TEST(eight_bytes_are_one_access)
{
	run_one(write_eight);
	assert_int_equal(fixture.count, 1);
	assert_access(0, false, true, 0x80000000, 8, 0x0807060504030201);
}

static void signalled(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTR;
}

static void window_open(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
}

static void hypercall(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_HYPERV;
	run->hyperv.type = KVM_EXIT_HYPERV_HCALL;
}

TEST(an_exit_that_asks_for_nothing_goes_on)
{
	reasons[1] = window_open;
	reasons[2] = hypercall;
	reasons[3] = write_eight;
	reasons[0] = signalled;
	reason_count = 4;
	fake_kvm.run = come_back;
	assert_int_equal(start(1), 0);
	wait_for(&fixture.resets, 1);
	assert_int_equal(fixture.count, 1);
	assert_int_equal(fixture.failures, 0);
}

static int comes_back_twice(unsigned id, struct kvm_run *run)
{
	static unsigned calls;

	(void)id;
	if (calls++ < 2)
		return calls == 1 ? -EINTR : -EAGAIN;
	run->exit_reason = KVM_EXIT_SHUTDOWN;
	return 0;
}

TEST(an_interrupted_run_is_done_again)
{
	fake_kvm.run = comes_back_twice;
	assert_int_equal(start(1), 0);
	wait_for(&fixture.resets, 1);
	stop();
	/* A reset is the last thing that a vCPU does. */
	assert_int_equal(fake_kvm_calls(KVM_RUN), 3);
	assert_int_equal(fixture.resets, 1);
	assert_int_equal(fixture.failures, 0);
}

/* Failures */

static int refuses_entry(unsigned id, struct kvm_run *run)
{
	(void)id;
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = 0x80000021;
	return 0;
}

static int cannot_emulate(unsigned id, struct kvm_run *run)
{
	(void)id;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = 3;
	return 0;
}

static int comes_back_oddly(unsigned id, struct kvm_run *run)
{
	(void)id;
	run->exit_reason = 4321;
	return 0;
}

static int is_refused(unsigned id, struct kvm_run *run)
{
	(void)id;
	(void)run;
	return -EFAULT;
}

static void assert_fails(int (*run)(unsigned id, struct kvm_run *run), const char *words)
{
	fake_kvm.run = run;
	assert_int_equal(start(1), 0);
	wait_for(&fixture.failures, 1);
	stop();
	/* It is told once, and this vCPU runs no more. */
	assert_int_equal(fixture.failures, 1);
	assert_int_equal(fake_kvm_calls(KVM_RUN), 1);
	assert_int_equal(fixture.err.code, -EIO);
	assert_string_equal(fixture.err.object, "vCPU 0");
	assert_non_null(strstr(fixture.err.what, words));
	assert_true(fixture.err.hint[0]);
}

TEST(an_entry_that_fails_is_told)
{
	assert_fails(refuses_entry, "0x80000021");
}

TEST(what_kvm_cannot_emulate_is_told)
{
	assert_fails(cannot_emulate, "suberror 3");
}

TEST(an_unknown_exit_is_told)
{
	assert_fails(comes_back_oddly, "exit 4321");
}

TEST(a_run_that_fails_is_told)
{
	assert_fails(is_refused, "no memory for a page that it touches (error 14)");
}

TEST(vcpus_that_cannot_be_made_leave_nothing_behind)
{
	const struct vcpus_ops ops = { .triple_fault = on_triple_fault, .failed = on_failed };

	fake_kvm.failing = KVM_SET_CPUID2;
	fake_kvm.code = EINVAL;
	assert_null(vcpus_new(
		fixture.vm, &fixture.mmio, &fixture.pio, &KVM_CPUS(2), &ops, &fixture.err));
	assert_int_equal(fixture.err.code, -EINVAL);
	assert_string_equal(fixture.err.object, "vCPU 0");
	assert_int_equal(fake_kvm_calls(KVM_CREATE_VCPU), 1);
}

static void start_pinned(unsigned cpu)
{
	const struct vcpus_ops ops = { .triple_fault = on_triple_fault, .failed = on_failed };
	struct kvm_cpus cpus = KVM_CPUS(1);

	cpus.pinned = true;
	cpus.pins[0] = cpu;
	fixture.vcpus =
		vcpus_new(fixture.vm, &fixture.mmio, &fixture.pio, &cpus, &ops, &fixture.err);
	assert_non_null(fixture.vcpus);
	assert_int_equal(vcpus_start(fixture.vcpus, &fixture.err), 0);
}

static int seen_on; /* CPUs that a vCPU's thread may have when it runs; and their first */

static int note_cpus(unsigned id, struct kvm_run *run)
{
	cpu_set_t set;

	(void)id, (void)run;
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int cpu = 0; CPU_COUNT(&set) == 1 && cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set))
			__atomic_store_n(&seen_on, cpu, __ATOMIC_RELEASE);
	run->exit_reason = KVM_EXIT_SHUTDOWN;
	return 0;
}

TEST(a_vcpu_runs_on_its_cpu)
{
	cpu_set_t ours;
	int last = 0;

	assert_int_equal(sched_getaffinity(0, sizeof(ours), &ours), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		last = CPU_ISSET(cpu, &ours) ? cpu : last;
	seen_on = -1;
	fake_kvm.run = note_cpus;
	start_pinned(last);
	wait_for(&fixture.resets, 1);
	stop();
	assert_int_equal(__atomic_load_n(&seen_on, __ATOMIC_ACQUIRE), last);
}

TEST(a_vcpu_whose_cpu_is_gone_does_not_run)
{
	start_pinned(1023);
	wait_for(&fixture.failures, 1);
	stop();
	assert_non_null(strstr(fixture.err.what, "CPU 1023"));
	assert_int_equal(fake_kvm_calls(KVM_RUN), 0);
}

/* No vCPU runs before the threads of all are there: so none can fail, and write that, meanwhile. */
TEST(a_failed_start_is_all_that_is_told)
{
	fake_kvm.run = is_refused;
	threads_left = 2;
	assert_int_equal(start(CPUS), -EAGAIN);
	assert_non_null(strstr(fixture.err.what, "vCPU 2"));
	stop();
	assert_int_equal(fixture.failures, 0);
	assert_int_equal(fake_kvm_calls(KVM_RUN), 0);
}

/* Second-level tables filled ahead */

static struct fake_kvm_range ranges[4096];
static unsigned range_count;
static bool stop_now;

static int note_range(struct fake_kvm_range *range)
{
	pthread_mutex_lock(&fixture.lock);
	if (range_count < ARRAY_SIZE(ranges))
		ranges[range_count++] = *range;
	pthread_mutex_unlock(&fixture.lock);
	range->gpa += range->size;
	range->size = 0;
	return 0;
}

static int stop_at_third(struct fake_kvm_range *range)
{
	note_range(range);
	stop_now = range_count == 3;
	return 0;
}

static void open_vcpu(struct kvm_vcpu *vcpu)
{
	range_count = 0;
	stop_now = false;
	assert_int_equal(kvm_vcpu_open(vcpu, fixture.vm, &KVM_CPUS(1), 0, &fixture.err), 0);
}

static void assert_ranges(uint64_t gpa, uint64_t size)
{
	for (unsigned i = 0; i < range_count; i++) {
		assert_int_equal(ranges[i].gpa, gpa);
		assert_in_range(ranges[i].size, 1, CHUNK_MAX);
		gpa += ranges[i].size;
		size -= ranges[i].size;
	}
	assert_int_equal(size, 0);
}

TEST(tables_are_filled_in_chunks)
{
	struct kvm_vcpu vcpu;

	open_vcpu(&vcpu);
	fake_kvm.prefault = note_range;
	kvm_vcpu_prefault(&vcpu, 4 * GIB, 3 * GIB + 4 * KIB, &stop_now);
	assert_ranges(4 * GIB, 3 * GIB + 4 * KIB);
	/* Neither one call for each page. */
	assert_in_range(range_count, 48, 200);
	kvm_vcpu_close(&vcpu);
}

TEST(a_stop_between_two_chunks_ends_it)
{
	struct kvm_vcpu vcpu;

	open_vcpu(&vcpu);
	fake_kvm.prefault = stop_at_third;
	kvm_vcpu_prefault(&vcpu, 0, 64 * GIB, &stop_now);
	assert_int_equal(range_count, 3);
	stop_now = true;
	kvm_vcpu_prefault(&vcpu, 0, 64 * GIB, &stop_now);
	assert_int_equal(range_count, 3);
	kvm_vcpu_close(&vcpu);
}

/* As the kernel does at a signal, or where it has to wait for another vCPU: a part, or nothing. */
static int do_a_part(struct fake_kvm_range *range)
{
	static unsigned calls;
	uint64_t part = calls++ % 3 ? min_u64(range->size, 4 * KIB) : 0;

	ranges[range_count++] = (struct fake_kvm_range){ range->gpa, part };
	range->gpa += part;
	range->size -= part;
	return part ? 0 : calls % 2 ? -EINTR : -EAGAIN;
}

TEST(what_a_call_left_is_done_by_the_next)
{
	struct kvm_vcpu vcpu;
	uint64_t done = 0;

	open_vcpu(&vcpu);
	fake_kvm.prefault = do_a_part;
	kvm_vcpu_prefault(&vcpu, 2 * MIB, 64 * KIB, &stop_now);
	for (unsigned i = 0; i < range_count; i++) {
		assert_int_equal(ranges[i].gpa, 2 * MIB + done);
		done += ranges[i].size;
	}
	assert_int_equal(done, 64 * KIB);
	kvm_vcpu_close(&vcpu);
}

static int cannot_fill(struct fake_kvm_range *range)
{
	(void)range;
	range_count++;
	return -EOPNOTSUPP;
}

TEST(a_kernel_that_cannot_fill_tables_is_asked_once)
{
	struct kvm_vcpu vcpu;

	open_vcpu(&vcpu);
	fake_kvm.prefault = cannot_fill;
	kvm_vcpu_prefault(&vcpu, 0, 64 * GIB, &stop_now);
	assert_int_equal(range_count, 1);
	fixture.vm->can_prefault = false;
	kvm_vcpu_prefault(&vcpu, 0, 64 * GIB, &stop_now);
	assert_int_equal(range_count, 1);
	kvm_vcpu_close(&vcpu);
}

static int compare(const void *a, const void *b)
{
	const struct fake_kvm_range *left = a, *right = b;

	return left->gpa < right->gpa ? -1 : left->gpa > right->gpa;
}

/* Every byte once, whatever the number of vCPUs; then they run. */
TEST(vcpus_share_the_filling_of_tables)
{
	for (unsigned count = 1; count <= 5; count++) {
		range_count = 0;
		fixture.given = 0;
		fixture.present = 300 * MIB + 4 * KIB;
		fake_kvm.prefault = note_range;
		assert_int_equal(start(count), 0);
		while (__atomic_load_n(&fake_kvm_calls(KVM_RUN), __ATOMIC_RELAXED) < count)
			usleep(1000);
		stop();
		fake_kvm_calls(KVM_RUN) = 0;
		qsort(ranges, range_count, sizeof(ranges[0]), compare);
		assert_ranges(0, fixture.present);
	}
}

static void ask_for_nothing(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTR;
}

static void more_is_there(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTR;
	pthread_mutex_lock(&fixture.lock);
	fixture.present += 128 * MIB;
	pthread_mutex_unlock(&fixture.lock);
}

/* Not all at once: the guest goes on in between. */
TEST(what_becomes_present_later_is_filled_range_by_range)
{
	for (unsigned exits = 1; exits <= 6; exits++) {
		fixture.given = fixture.present = range_count = 0;
		fixture.resets = 0;
		fake_kvm.prefault = note_range;
		reasons[0] = more_is_there;
		for (unsigned i = 1; i < exits; i++)
			reasons[i] = ask_for_nothing;
		reason_count = exits;
		fake_kvm.run = come_back;
		assert_int_equal(start(1), 0);
		wait_for(&fixture.resets, 1);
		assert_ranges(0, min_u64(exits, 4) * 32 * MIB);
		stop();
	}
}

static int fill_slowly(struct fake_kvm_range *range)
{
	usleep(1000);
	note_range(range);
	return 0;
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* A terabyte would take them a minute or more. */
TEST(vcpus_that_fill_tables_are_stopped)
{
	double before;

	fixture.present = 16 * 1024 * GIB;
	fake_kvm.prefault = fill_slowly;
	range_count = 0;
	assert_int_equal(start(CPUS), 0);
	wait_for(&range_count, 8);
	before = seconds();
	stop();
	assert_true(seconds() - before < 5);
	assert_int_equal(fake_kvm_calls(KVM_RUN), 0);
}

/* Many at once */

static int make_accesses(unsigned id, struct kvm_run *run)
{
	static unsigned turns[CPUS];
	unsigned turn = turns[id]++;

	if (__atomic_load_n(&run->immediate_exit, __ATOMIC_ACQUIRE))
		return -EINTR;
	if (turn % 2)
		memory(run, turn % 4 == 1, 0x80000000 + turn % 64, 1 + turn % 8);
	else
		io(run, turn % 4 ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN, 0x80, 4, 2,
			"0123456789abcdef");
	if (turn % 50 == 49 && id % 2)
		run->exit_reason = id == 1 ? KVM_EXIT_SHUTDOWN : 4321;
	return 0;
}

TEST(vcpus_start_fail_and_stop_again_and_again)
{
	fake_kvm.run = make_accesses;
	for (unsigned i = 0; i < 50; i++) {
		fixture.given = 0;
		fixture.present = i % 2 * 512 * MIB;
		assert_int_equal(start(CPUS), 0);
		usleep(i % 10 * 200);
		stop();
	}
	/* And where not all of the threads can be had. */
	for (unsigned i = 0; i < 3; i++) {
		unsigned resets = fixture.resets, failures = fixture.failures;

		fixture.err = (struct error){ 0 };
		threads_left = i;
		assert_int_equal(start(CPUS), -EAGAIN);
		stop();
		assert_int_equal(fixture.resets, resets);
		assert_int_equal(fixture.failures, failures);
	}
}

/* Pause */

static unsigned rounds; /* of all vCPUs together */

static int go_round(unsigned id, struct kvm_run *run)
{
	if (__atomic_load_n(&run->immediate_exit, __ATOMIC_ACQUIRE))
		return -EINTR;
	pthread_mutex_lock(&fixture.lock);
	rounds++;
	pthread_mutex_unlock(&fixture.lock);
	memory(run, true, 0x80000000 + 8 * id, 8);
	return 0;
}

static void start_rounds(void)
{
	rounds = 0;
	fake_kvm.run = go_round;
	assert_int_equal(start(CPUS), 0);
	wait_for(&rounds, 100);
}

/* No locks here: they are all held, and ThreadSanitizer sees that. */
TEST(paused_vcpus_stand_still_until_they_are_resumed)
{
	unsigned before;

	start_rounds();
	vcpus_pause(fixture.vcpus, VCPUS_USER);
	before = rounds;
	usleep(20000);
	assert_int_equal(rounds, before);
	/* Once more says nothing new. */
	vcpus_pause(fixture.vcpus, VCPUS_USER);
	assert_int_equal(fake_kvm_calls(KVM_KVMCLOCK_CTRL), 0);
	vcpus_resume(fixture.vcpus, VCPUS_USER);
	wait_for(&rounds, before + 100);
	vcpus_pause(fixture.vcpus, VCPUS_USER);
	/* Each has told the guest's watchdogs, but one that did not wake in time to go on. */
	assert_in_range(fake_kvm_calls(KVM_KVMCLOCK_CTRL), 1, CPUS);
}

TEST(a_pause_wakes_vcpus_that_are_in_the_guest)
{
	double before;

	assert_int_equal(start(CPUS), 0); /* each in KVM_RUN until it is kicked */
	while (__atomic_load_n(&fake_kvm_calls(KVM_RUN), __ATOMIC_RELAXED) < CPUS)
		usleep(1000);
	before = seconds();
	for (unsigned i = 0; i < 50; i++) {
		vcpus_pause(fixture.vcpus, VCPUS_USER);
		vcpus_resume(fixture.vcpus, VCPUS_USER);
	}
	assert_true(seconds() - before < 5);
}

static int write_port_80(unsigned id, struct kvm_run *run)
{
	(void)id;
	if (__atomic_load_n(&run->immediate_exit, __ATOMIC_ACQUIRE))
		return -EINTR;
	io(run, KVM_EXIT_IO_OUT, 0x80, 1, 1, "0123456789abcdef");
	return 0;
}

/* All ports are these. */
static void have_ports(const struct space_ops *ops)
{
	space_destroy(&fixture.pio);
	space_init(&fixture.pio);
	space_add(&fixture.pio, 0, 0x10000, ops, NULL);
}

static unsigned holds;

static void hold_all(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque, (void)offset, (void)size, (void)value;
	vcpus_hold(fixture.vcpus, VCPUS_GUEST);
	pthread_mutex_lock(&fixture.lock);
	holds++;
	pthread_mutex_unlock(&fixture.lock);
}

/* One vCPU does, the others go round. */
static int hold_or_go_round(unsigned id, struct kvm_run *run)
{
	return id ? go_round(id, run) : write_port_80(id, run);
}

TEST(a_vcpu_has_all_held_and_does_not_wait)
{
	static const struct space_ops holding = { read_port, hold_all };
	unsigned before;

	have_ports(&holding);
	fake_kvm.run = hold_or_go_round;
	holds = rounds = 0;
	assert_int_equal(start(CPUS), 0);
	for (unsigned i = 0; i < 50; i++) {
		wait_for(&holds, i + 1);
		/* As the machine does: none is in an access any more, and they stay held. */
		vcpus_pause(fixture.vcpus, VCPUS_USER);
		vcpus_resume(fixture.vcpus, VCPUS_USER);
		before = rounds;
		usleep(i ? 500 : 20000);
		assert_int_equal(rounds, before);
		assert_int_equal(holds, i + 1);
		vcpus_pause(fixture.vcpus, VCPUS_USER);
		vcpus_resume(fixture.vcpus, VCPUS_GUEST);
		vcpus_resume(fixture.vcpus, VCPUS_USER);
	}
}

static unsigned in_access, let_go;

static void write_slowly(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque, (void)offset, (void)size, (void)value;
	pthread_mutex_lock(&fixture.lock);
	in_access++;
	pthread_mutex_unlock(&fixture.lock);
	while (!__atomic_load_n(&let_go, __ATOMIC_ACQUIRE))
		usleep(1000);
	pthread_mutex_lock(&fixture.lock);
	in_access = 0;
	pthread_mutex_unlock(&fixture.lock);
}

static void *let_it_go(void *opaque)
{
	(void)opaque;
	usleep(50000);
	__atomic_store_n(&let_go, 1, __ATOMIC_RELEASE);
	return NULL;
}

TEST(a_pause_waits_for_an_access_to_a_device)
{
	static const struct space_ops slow = { read_port, write_slowly };
	pthread_t thread;

	have_ports(&slow);
	in_access = let_go = 0;
	fake_kvm.run = write_port_80;
	assert_int_equal(start(1), 0);
	wait_for(&in_access, 1);
	assert_int_equal(pthread_create(&thread, NULL, let_it_go, NULL), 0);
	vcpus_pause(fixture.vcpus, VCPUS_USER);
	assert_int_equal(in_access, 0);
	pthread_join(thread, NULL);
}

static void out_to_blocked(struct kvm_run *run)
{
	io(run, KVM_EXIT_IO_OUT, BLOCKED_PORT, 2, 3, "\x01\x02\x03\x04\x05\x06----------");
}

/* It counts as held meanwhile: a pause does not wait for it, and it waits for the pause's end. */
TEST(an_access_that_has_to_wait_is_made_once_it_can_be)
{
	in_wait = 0;
	ready = false;
	reasons[0] = out_to_blocked;
	reason_count = 1;
	fake_kvm.run = come_back;
	assert_int_equal(start(1), 0);
	wait_for(&in_wait, 1);
	vcpus_pause(fixture.vcpus, VCPUS_USER);
	__atomic_store_n(&ready, true, __ATOMIC_RELEASE);
	usleep(20000);
	assert_int_equal(fixture.count, 0);
	assert_int_equal(fake_kvm_calls(KVM_RUN), 1);
	vcpus_resume(fixture.vcpus, VCPUS_USER);
	wait_for(&fixture.resets, 1);
	assert_int_equal(fixture.count, 3);
	assert_access(0, true, true, BLOCKED_PORT, 2, 0x0201);
	assert_access(2, true, true, BLOCKED_PORT, 2, 0x0605);
	assert_int_equal(in_wait, 1);
	/* The guest's watchdogs are told. */
	assert_int_equal(fake_kvm_calls(KVM_KVMCLOCK_CTRL), 1);
}

static void *get_ready(void *opaque)
{
	(void)opaque;
	usleep(20000);
	__atomic_store_n(&ready, true, __ATOMIC_RELEASE);
	return NULL;
}

TEST(vcpus_end_while_one_has_to_wait)
{
	pthread_t thread;

	in_wait = 0;
	ready = false;
	reasons[0] = out_to_blocked;
	reason_count = 1;
	fake_kvm.run = come_back;
	assert_int_equal(start(1), 0);
	wait_for(&in_wait, 1);
	assert_int_equal(pthread_create(&thread, NULL, get_ready, NULL), 0);
	stop();
	pthread_join(thread, NULL);
}

/* Of two holders each lets go for itself. */
TEST(vcpus_go_on_when_nobody_holds_them)
{
	unsigned before;

	start_rounds();
	vcpus_pause(fixture.vcpus, VCPUS_USER);
	vcpus_pause(fixture.vcpus, VCPUS_MEMORY);
	before = rounds;
	vcpus_resume(fixture.vcpus, VCPUS_MEMORY);
	usleep(20000);
	assert_int_equal(rounds, before);
	vcpus_resume(fixture.vcpus, VCPUS_USER);
	wait_for(&rounds, before + 100);
}

/* One that is at its end, as after a triple fault, is not waited for. */
TEST(a_pause_does_without_a_vcpu_that_runs_no_more)
{
	fake_kvm.run = comes_back_oddly;
	assert_int_equal(start(CPUS), 0);
	wait_for(&fixture.failures, CPUS);
	vcpus_pause(fixture.vcpus, VCPUS_USER);
	vcpus_resume(fixture.vcpus, VCPUS_USER);
}

TEST(vcpus_pause_and_go_on_again_and_again_and_end_while_paused)
{
	for (unsigned i = 0; i < 20; i++) {
		start_rounds();
		for (unsigned j = 0; j < 20; j++) {
			unsigned before;

			vcpus_pause(fixture.vcpus, VCPUS_USER);
			before = rounds;
			if (j % 3 == 0)
				usleep(200);
			assert_int_equal(rounds, before);
			vcpus_resume(fixture.vcpus, VCPUS_USER);
			if (j % 2)
				usleep(j * 50);
		}
		if (i % 2)
			vcpus_pause(fixture.vcpus, VCPUS_USER);
		stop();
	}
}

/* A descriptor that a vCPU had is closed: else their number would run out. */
static unsigned descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

TEST(a_vcpu_gives_its_descriptor_back)
{
	unsigned before = descriptors();

	assert_int_equal(start(CPUS), 0);
	assert_int_equal(descriptors(), before + CPUS);
	stop();
	assert_int_equal(descriptors(), before);
}

#define VCPU_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		VCPU_TEST(a_string_goes_out_word_by_word),
		VCPU_TEST(a_string_comes_in_dword_by_dword),
		VCPU_TEST(seven_bytes_are_written_in_three_accesses),
		VCPU_TEST(three_bytes_are_read_in_two_accesses),
		VCPU_TEST(eight_bytes_are_one_access),
		VCPU_TEST(an_exit_that_asks_for_nothing_goes_on),
		VCPU_TEST(an_interrupted_run_is_done_again),
		VCPU_TEST(an_entry_that_fails_is_told),
		VCPU_TEST(what_kvm_cannot_emulate_is_told),
		VCPU_TEST(an_unknown_exit_is_told),
		VCPU_TEST(a_run_that_fails_is_told),
		VCPU_TEST(vcpus_that_cannot_be_made_leave_nothing_behind),
		VCPU_TEST(a_vcpu_runs_on_its_cpu),
		VCPU_TEST(a_vcpu_whose_cpu_is_gone_does_not_run),
		VCPU_TEST(a_failed_start_is_all_that_is_told),
		VCPU_TEST(tables_are_filled_in_chunks),
		VCPU_TEST(a_stop_between_two_chunks_ends_it),
		VCPU_TEST(what_a_call_left_is_done_by_the_next),
		VCPU_TEST(a_kernel_that_cannot_fill_tables_is_asked_once),
		VCPU_TEST(vcpus_share_the_filling_of_tables),
		VCPU_TEST(what_becomes_present_later_is_filled_range_by_range),
		VCPU_TEST(vcpus_that_fill_tables_are_stopped),
		VCPU_TEST(vcpus_start_fail_and_stop_again_and_again),
		VCPU_TEST(paused_vcpus_stand_still_until_they_are_resumed),
		VCPU_TEST(a_pause_wakes_vcpus_that_are_in_the_guest),
		VCPU_TEST(a_vcpu_has_all_held_and_does_not_wait),
		VCPU_TEST(a_pause_waits_for_an_access_to_a_device),
		VCPU_TEST(a_pause_does_without_a_vcpu_that_runs_no_more),
		VCPU_TEST(vcpus_pause_and_go_on_again_and_again_and_end_while_paused),
		VCPU_TEST(an_access_that_has_to_wait_is_made_once_it_can_be),
		VCPU_TEST(vcpus_end_while_one_has_to_wait),
		VCPU_TEST(vcpus_go_on_when_nobody_holds_them),
		VCPU_TEST(a_vcpu_gives_its_descriptor_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
