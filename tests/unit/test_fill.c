/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/fill.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/*
 * RAM that is made present and mapped by threads. What is asked of the kernel is noted, and answered
 * here: the guests of these tests may have more memory than the host. Runs under ThreadSanitizer, too.
 */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define CALLS_MAX 4096
#define WAIT_MS   20000

int __wrap_madvise(void *at, size_t size, int advice);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);

struct call {
	uint64_t gpa, size;
};

struct calls {
	struct call calls[CALLS_MAX];
	unsigned count;
};

static struct {
	pthread_mutex_t lock; /* for the rest */
	struct calls populated, mapped;
	unsigned inside, most; /* how many make pages present at once */
	unsigned in_map;       /* calls */
	unsigned cpus;
	bool hold, hold_map;  /* let nobody come back */
	unsigned failing;     /* from this call of these on they fail; 0: none */
	unsigned failing_map; /* and of these */
	unsigned wrong;       /* mapped, and not present */
	struct error failure;
	unsigned failures;
} host;

static struct memory memory;
static struct fill *fill;

static void add(struct calls *calls, uint64_t gpa, uint64_t size)
{
	if (calls->count < CALLS_MAX)
		calls->calls[calls->count++] = (struct call){ gpa, size };
}

static uint64_t gpa_of(const void *at)
{
	for (unsigned i = 0; i < memory.count; i++) {
		uint64_t offset = (const char *)at - (const char *)memory.regions[i].hva;

		if (offset < memory.regions[i].size)
			return memory.regions[i].gpa + offset;
	}
	return UINT64_MAX;
}

static void wait_while(const bool *held)
{
	bool is;

	do {
		usleep(1000);
		pthread_mutex_lock(&host.lock);
		is = *held;
		pthread_mutex_unlock(&host.lock);
	} while (is);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

int __wrap_madvise(void *at, size_t size, int advice)
{
	bool fails;

	if (advice != MADV_POPULATE_WRITE)
		return 0;
	pthread_mutex_lock(&host.lock);
	host.most = max_u64(host.most, ++host.inside);
	fails = host.failing && host.populated.count + host.inside >= host.failing;
	pthread_mutex_unlock(&host.lock);
	wait_while(&host.hold);
	pthread_mutex_lock(&host.lock);
	host.inside--;
	if (!fails)
		add(&host.populated, gpa_of(at), size);
	pthread_mutex_unlock(&host.lock);
	errno = EFAULT;
	return fails ? -1 : 0;
}

int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	(void)pid;
	memset(set, 0, size);
	for (unsigned i = 0; i < host.cpus; i++)
		CPU_SET(i, set);
	return 0;
}

static bool is_populated(uint64_t gpa, uint64_t size)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < host.populated.count; i++)
		if (host.populated.calls[i].gpa - gpa < size)
			sum += host.populated.calls[i].size;
	return sum == size;
}

static int map(struct vfio_iommu *iommu, uint64_t iova, uint64_t size, void *hva, struct error *err)
{
	(void)iommu;
	pthread_mutex_lock(&host.lock);
	host.in_map++;
	pthread_mutex_unlock(&host.lock);
	wait_while(&host.hold_map);
	pthread_mutex_lock(&host.lock);
	host.wrong += gpa_of(hva) != iova || !is_populated(iova, size);
	add(&host.mapped, iova, size);
	if (host.mapped.count == host.failing_map)
		error_set(err, -ENOMEM, NULL, "cannot map");
	pthread_mutex_unlock(&host.lock);
	return err->code;
}

static const struct vfio_iommu_ops iommu_ops = { .map = map };
static struct vfio_iommu iommu = { .ops = &iommu_ops };

static void on_failed(void *opaque, const struct error *failure)
{
	(void)opaque;
	pthread_mutex_lock(&host.lock);
	host.failure = *failure;
	host.failures++;
	pthread_mutex_unlock(&host.lock);
}

static int setup(void **state)
{
	(void)state;
	memset(&host, 0, sizeof(host));
	pthread_mutex_init(&host.lock, NULL);
	host.cpus = 4;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fill_free(fill);
	fill = NULL;
	memory_free(&memory);
	return 0;
}

static void start(uint64_t size, const struct iova_range *ranges, unsigned count, bool with_iommu)
{
	const struct fill_ops ops = { on_failed, NULL };
	struct error err = { 0 };

	assert_int_equal(memory_place(&memory, size, MEMORY_PAGE, ranges, count, &err), 0);
	assert_int_equal(memory_map(&memory, memory_file(size, 0), MEMORY_HUGE, &err), 0);
	fill = fill_start(&memory, with_iommu ? &iommu : NULL, &ops, &err);
	assert_non_null(fill);
}

/* Each byte of RAM by one call, and no other byte. */
static void assert_once(const struct calls *calls)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < calls->count; i++) {
		const struct call *call = &calls->calls[i];

		assert_non_null(memory_at(&memory, call->gpa, call->size));
		sum += call->size;
		for (unsigned j = 0; j < i; j++)
			assert_true(call->gpa >= calls->calls[j].gpa + calls->calls[j].size ||
				    call->gpa + call->size <= calls->calls[j].gpa);
	}
	assert_int_equal(sum, memory.size);
}

static void all_is_present_and_mapped_once(void **state)
{
	static const struct iova_range holes[] = { { 0, 0x2fffffff }, { 0x31200000, 0x17fffffff },
		{ 0x180200000, UINT64_MAX } };

	(void)state;
	start(9 * GIB + 6 * MIB + 4 * KIB, holes, 3, true);
	assert_int_equal(fill_wait(fill, 0), 0);
	assert_once(&host.populated);
	assert_once(&host.mapped);
	for (unsigned i = 0; i < host.mapped.count; i++) {
		const struct call *call = &host.mapped.calls[i];

		assert_int_equal(call->gpa / GIB, (call->gpa + call->size - 1) / GIB);
	}
	assert_int_equal(host.wrong, 0);
	assert_int_equal(host.failures, 0);
	assert_int_equal(fill_wait(fill, 0), 0); /* at once */
	assert_once(&host.populated);
}

/* Few calls, and large pages in the IOMMU. */
static void it_is_mapped_by_the_gib(void **state)
{
	(void)state;
	start(4 * GIB, NULL, 0, true);
	assert_int_equal(fill_wait(fill, 0), 0);
	assert_int_equal(host.mapped.count, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(host.mapped.calls[i].gpa % GIB, 0);
	assert_in_range(host.populated.count, 4 * GIB / (64 * MIB), 4 * GIB / (16 * MIB));
}

static void without_devices_nothing_is_mapped(void **state)
{
	(void)state;
	start(2 * GIB, NULL, 0, false);
	assert_int_equal(fill_wait(fill, 0), 0);
	assert_once(&host.populated);
	assert_int_equal(host.mapped.count, 0);
}

static unsigned maps(void)
{
	unsigned count;

	pthread_mutex_lock(&host.lock);
	count = host.mapped.count;
	pthread_mutex_unlock(&host.lock);
	return count;
}

/* What is taken first; threads may come back in another order. */
static void low_addresses_come_first(void **state)
{
	(void)state;
	host.cpus = 2; /* one thread, for the other CPU is the guest's */
	start(512 * MIB, NULL, 0, true);
	while (!maps())
		usleep(1000);
	assert_int_equal(host.most, 1);
	for (unsigned i = 1; i < host.populated.count; i++)
		assert_true(host.populated.calls[i].gpa > host.populated.calls[i - 1].gpa);
}

static void *wait_in_thread(void *opaque)
{
	__atomic_store_n((int *)opaque, fill_wait(fill, 0), __ATOMIC_RELAXED);
	return NULL;
}

static unsigned look_at(const unsigned *count)
{
	unsigned found;

	pthread_mutex_lock(&host.lock);
	found = *count;
	pthread_mutex_unlock(&host.lock);
	return found;
}

static void wait_for(const unsigned *count, unsigned wanted)
{
	for (unsigned i = 0; i < WAIT_MS && look_at(count) < wanted; i++)
		usleep(1000);
	assert_int_equal(look_at(count), wanted);
}

static void wait_for_inside(unsigned wanted)
{
	wait_for(&host.inside, wanted);
}

static void let_go(void)
{
	pthread_mutex_lock(&host.lock);
	host.hold = host.hold_map = false;
	pthread_mutex_unlock(&host.lock);
}

/* It has nothing else to do. */
static void who_waits_takes_part(void **state)
{
	int waited = 1;
	pthread_t thread;

	(void)state;
	host.hold = true;
	start(GIB, NULL, 0, true);
	wait_for_inside(3);
	assert_int_equal(pthread_create(&thread, NULL, wait_in_thread, &waited), 0);
	wait_for_inside(4);
	assert_int_equal(__atomic_load_n(&waited, __ATOMIC_RELAXED), 1);
	let_go();
	pthread_join(thread, NULL);
	assert_int_equal(waited, 0);
	assert_once(&host.mapped);
}

static void who_waits_may_have_a_limit(void **state)
{
	double before;

	(void)state;
	host.hold_map = true;
	start(64 * MIB, NULL, 0, true);
	wait_for(&host.in_map, 1); /* not by this thread, which would not come back */
	before = seconds();
	assert_int_equal(fill_wait(fill, 1), -ETIMEDOUT);
	assert_true(seconds() - before < 5);
	assert_false(fill_is_done(fill));
	let_go();
	assert_int_equal(fill_wait(fill, 0), 0);
	assert_true(fill_is_done(fill));
}

static void *let_go_soon(void *opaque)
{
	(void)opaque;
	usleep(100000);
	let_go();
	return NULL;
}

/* A wait of a tenth of a second, in which the clock's second ends. */
static void a_short_wait_is_not_told(void **state)
{
	int errors = dup(STDERR_FILENO), said = memfd_create("said", MFD_CLOEXEC);
	struct timespec now;
	pthread_t thread;

	(void)state;
	host.hold_map = true;
	start(64 * MIB, NULL, 0, true);
	wait_for(&host.in_map, 1);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (now.tv_nsec < 950000000);
	dup2(said, STDERR_FILENO);
	pthread_create(&thread, NULL, let_go_soon, NULL);
	assert_int_equal(fill_wait(fill, 0), 0);
	dup2(errors, STDERR_FILENO);
	close(errors);
	pthread_join(thread, NULL);
	assert_int_equal(lseek(said, 0, SEEK_END), 0);
	close(said);
}

/* Between two pieces; a terabyte would take its time. */
static void a_stop_ends_it_and_whoever_waits(void **state)
{
	int waited[3] = { 1, 1, 1 };
	pthread_t threads[3];

	(void)state;
	host.hold = true;
	start(1024 * GIB, NULL, 0, true);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, wait_in_thread, &waited[i]), 0);
	wait_for_inside(6);
	fill_stop(fill);
	let_go();
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(waited[i], -ECANCELED);
	}
	fill_free(fill);
	fill = NULL;
	assert_int_equal(host.populated.count, 6);
	assert_int_equal(host.mapped.count, 0);
	assert_int_equal(host.failures, 0);
}

/* Nor is anything mapped any more. */
static void a_stop_while_the_last_pieces_come(void **state)
{
	(void)state;
	host.hold = true;
	start(64 * MIB, NULL, 0, true);
	wait_for_inside(2);
	fill_stop(fill);
	let_go();
	fill_free(fill);
	fill = NULL;
	assert_int_equal(host.populated.count, 2);
	assert_int_equal(host.mapped.count, 0);
}

static void memory_that_runs_out_is_told_once(void **state)
{
	int waited = 1;
	pthread_t thread;

	(void)state;
	host.failing = 20;
	start(64 * GIB, NULL, 0, true);
	assert_int_equal(pthread_create(&thread, NULL, wait_in_thread, &waited), 0);
	assert_int_equal(fill_wait(fill, 0), -ECANCELED);
	pthread_join(thread, NULL);
	assert_int_equal(waited, -ECANCELED);
	fill_free(fill);
	fill = NULL;
	assert_int_equal(host.failures, 1);
	assert_int_equal(host.failure.code, -ENOMEM);
	assert_non_null(strstr(host.failure.what, "no memory left for the guest's 64 GiB"));
	assert_in_range(host.populated.count, 1, 30);
}

static void memory_that_cannot_be_mapped_is_told_once(void **state)
{
	(void)state;
	host.failing_map = 2;
	start(8 * GIB, NULL, 0, true);
	assert_int_equal(fill_wait(fill, 0), -ECANCELED);
	fill_free(fill);
	fill = NULL;
	assert_int_equal(host.failures, 1);
	assert_string_equal(host.failure.what, "cannot map");
	assert_in_range(host.mapped.count, 2, 3);
}

/* What is not present yet is nobody's. */
static void each_range_is_given_once_when_it_is_present(void **state)
{
	struct memory_range range;
	uint64_t sum = 0;

	(void)state;
	host.hold = true;
	start(3 * GIB + 4 * KIB, NULL, 0, true);
	wait_for_inside(3);
	assert_false(fill_next(fill, &range));
	let_go();
	for (unsigned i = 0; i < WAIT_MS && sum < memory.size; i++) {
		while (fill_next(fill, &range)) {
			pthread_mutex_lock(&host.lock);
			host.wrong += !is_populated(range.gpa, range.size);
			pthread_mutex_unlock(&host.lock);
			assert_int_equal(range.gpa, sum < 2 * GIB ? sum : sum + 2 * GIB);
			sum += range.size;
		}
		usleep(1000);
	}
	assert_int_equal(sum, memory.size);
	assert_int_equal(fill_wait(fill, 0), 0);
	assert_false(fill_next(fill, &range));
	assert_int_equal(host.wrong, 0);
}

static void take(uint64_t *taken)
{
	struct memory_range range;

	while (fill_next(fill, &range)) {
		__atomic_add_fetch(taken, range.size, __ATOMIC_RELAXED);
		pthread_mutex_lock(&host.lock);
		host.wrong += !is_populated(range.gpa, range.size);
		pthread_mutex_unlock(&host.lock);
	}
}

static void *take_ranges(void *opaque)
{
	while (!maps())
		take(opaque);
	take(opaque);
	return NULL;
}

static void forget_calls(void)
{
	memset(&host.mapped, 0, sizeof(host.mapped));
	memset(&host.populated, 0, sizeof(host.populated));
}

/* vCPUs that take ranges, vCPUs that wait, and an end at any time. */
static void many_at_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		pthread_t takers[2], waiters[2];
		int waited[2] = { 1, 1 };
		uint64_t taken = 0;

		forget_calls();
		start(GIB, NULL, 0, true);
		for (unsigned j = 0; j < 2; j++) {
			pthread_create(&takers[j], NULL, take_ranges, &taken);
			pthread_create(&waiters[j], NULL, wait_in_thread, &waited[j]);
		}
		for (unsigned j = 0; j < 2; j++) {
			pthread_join(takers[j], NULL);
			pthread_join(waiters[j], NULL);
			assert_int_equal(waited[j], 0);
		}
		assert_int_equal(taken, GIB);
		assert_int_equal(host.mapped.count, 1);
		fill_free(fill);
		memory_free(&memory);
		forget_calls();
		start(GIB, NULL, 0, true);
		usleep(i * 100);
		fill_free(fill);
		fill = NULL;
		memory_free(&memory);
	}
	assert_int_equal(host.wrong, 0);
}

#define FILL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FILL_TEST(all_is_present_and_mapped_once),
		FILL_TEST(it_is_mapped_by_the_gib),
		FILL_TEST(without_devices_nothing_is_mapped),
		FILL_TEST(low_addresses_come_first),
		FILL_TEST(who_waits_takes_part),
		FILL_TEST(who_waits_may_have_a_limit),
		FILL_TEST(a_stop_ends_it_and_whoever_waits),
		FILL_TEST(a_short_wait_is_not_told),
		FILL_TEST(a_stop_while_the_last_pieces_come),
		FILL_TEST(memory_that_runs_out_is_told_once),
		FILL_TEST(memory_that_cannot_be_mapped_is_told_once),
		FILL_TEST(each_range_is_given_once_when_it_is_present),
		FILL_TEST(many_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
