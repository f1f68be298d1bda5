/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/fill.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "passthrough/passthrough.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

/*
 * Made present at once: enough that the calls cost nothing, and so little that a stop, or a change of
 * this process's mappings, which waits for it, does not take long. A page of 1 GiB is made by one thread.
 */
#define PIECE (32 * MIB)
/*
 * Mapped for DMA at once, when all its pieces are present. An IOMMU's largest page is of 1 GiB, and
 * type1 takes no more than 65,535 mappings.
 */
#define SPAN GIB

#define THREADS_MAX 16
#define STACK_SIZE  (128 * KIB)
#define TELL_FIRST  1000 /* ms that somebody waits until the user is told */
#define TELL_AGAIN  10000

struct span {
	uint64_t gpa;
	uint64_t size;
	unsigned missing; /* pieces */
};

/* The next piece: how many were before it, and where it is. */
struct cursor {
	unsigned piece;
	unsigned span;
	uint64_t offset; /* in the span */
};

struct fill {
	struct memory *memory;
	struct vfio_iommu *iommu;
	struct fill_ops ops;
	pthread_t threads[THREADS_MAX];
	unsigned thread_count;
	unsigned piece_count, span_count;
	unsigned present;     /* pieces in a row from the first; written with the lock held */
	unsigned given;       /* of these to fill_next(); written with the lock held */
	unsigned spans_left;  /* written with the lock held */
	pthread_mutex_t lock; /* for all below */
	pthread_cond_t changed;
	struct cursor taking, giving;
	bool *is_present; /* by piece */
	bool stop, failed;
	uint64_t bytes; /* present */
	int64_t told;
	struct span spans[];
};

/* Not sysconf(3): it opens files, which the sandbox forbids. */
static unsigned cpus_of_process(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* The span from gpa on, which ends where the region does or at a border that large pages have. */
static uint64_t span_size(const struct memory_region *region, uint64_t gpa)
{
	return min_u64(align_down(gpa, SPAN) + SPAN, region->gpa + region->size) - gpa;
}

static unsigned count_spans(const struct memory *memory)
{
	unsigned count = 0;

	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];

		for (uint64_t gpa = region->gpa; gpa < region->gpa + region->size; count++)
			gpa += span_size(region, gpa);
	}
	return count;
}

static uint64_t piece_size(const struct fill *fill)
{
	return max_u64(PIECE, fill->memory->page);
}

static void make_spans(struct fill *fill)
{
	for (unsigned i = 0; i < fill->memory->count; i++) {
		const struct memory_region *region = &fill->memory->regions[i];

		for (uint64_t gpa = region->gpa; gpa < region->gpa + region->size;) {
			struct span *span = &fill->spans[fill->span_count++];

			*span = (struct span){ .gpa = gpa, .size = span_size(region, gpa) };
			span->missing = (span->size + piece_size(fill) - 1) / piece_size(fill);
			fill->piece_count += span->missing;
			gpa += span->size;
		}
	}
	fill->spans_left = fill->span_count;
}

/* False: it was the last one. */
static bool advance(const struct fill *fill, struct cursor *cursor, struct memory_range *range)
{
	const struct span *span = &fill->spans[cursor->span];

	if (cursor->piece == fill->piece_count)
		return false;
	range->gpa = span->gpa + cursor->offset;
	range->size = min_u64(span->size - cursor->offset, piece_size(fill));
	cursor->piece++;
	cursor->offset += range->size;
	if (cursor->offset == span->size) {
		cursor->span++;
		cursor->offset = 0;
	}
	return true;
}

static void note_present(struct fill *fill, unsigned piece, uint64_t size)
{
	unsigned present = fill->present;

	fill->bytes += size;
	fill->is_present[piece] = true;
	while (present < fill->piece_count && fill->is_present[present])
		present++;
	__atomic_store_n(&fill->present, present, __ATOMIC_RELEASE);
}

static void fail_fill(struct fill *fill, const struct error *failure)
{
	bool first = !fill->failed;

	fill->failed = true;
	pthread_cond_broadcast(&fill->changed);
	if (!first)
		return;
	pthread_mutex_unlock(&fill->lock);
	fill->ops.failed(fill->ops.opaque, failure);
	pthread_mutex_lock(&fill->lock);
}

static int map(const struct fill *fill, const struct span *span, struct error *err)
{
	void *hva = memory_at(fill->memory, span->gpa, span->size);

	return fill->iommu ? passthrough_map_memory(fill->iommu, span->gpa, span->size, hva, err)
			   : 0;
}

/* With the lock held, which is not while it works. False: nothing is left to begin. */
static bool do_piece(struct fill *fill)
{
	struct span *span = &fill->spans[fill->taking.span];
	unsigned piece = fill->taking.piece;
	struct memory_range range;
	struct error err = { 0 };

	if (fill->stop || fill->failed || !advance(fill, &fill->taking, &range))
		return false;
	pthread_mutex_unlock(&fill->lock);
	memory_populate(fill->memory, range.gpa, range.size, &err);
	pthread_mutex_lock(&fill->lock);
	if (!err.code) {
		note_present(fill, piece, range.size);
		if (--span->missing || fill->stop)
			return true;
		pthread_mutex_unlock(&fill->lock);
		map(fill, span, &err);
		pthread_mutex_lock(&fill->lock);
	}
	if (err.code)
		fail_fill(fill, &err);
	else if (__atomic_sub_fetch(&fill->spans_left, 1, __ATOMIC_RELEASE) == 0)
		pthread_cond_broadcast(&fill->changed);
	return true;
}

static void *work(void *opaque)
{
	struct fill *fill = opaque;

	pthread_mutex_lock(&fill->lock);
	while (do_piece(fill))
		continue;
	pthread_mutex_unlock(&fill->lock);
	return NULL;
}

/*
 * All CPUs but one, which is the guest's: it starts on one. When its devices have to wait, that one
 * takes part.
 */
static int start_threads(struct fill *fill)
{
	unsigned wanted = min_u64(max_u64(cpus_of_process(), 2) - 1, THREADS_MAX);
	pthread_attr_t attr;
	int code = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	wanted = min_u64(wanted, fill->piece_count);
	while (fill->thread_count < wanted && !code) {
		code = -pthread_create(&fill->threads[fill->thread_count], &attr, work, fill);
		fill->thread_count += !code;
	}
	pthread_attr_destroy(&attr);
	return fill->thread_count ? 0 : code;
}

struct fill *fill_start(struct memory *memory, struct vfio_iommu *iommu, const struct fill_ops *ops,
	struct error *err)
{
	unsigned count = count_spans(memory);
	struct fill *fill = calloc(1, sizeof(*fill) + count * sizeof(fill->spans[0]));
	pthread_condattr_t attr;
	int code = -ENOMEM;

	if (fill) {
		fill->memory = memory;
		fill->iommu = iommu;
		fill->ops = *ops;
		pthread_mutex_init(&fill->lock, NULL);
		pthread_condattr_init(&attr);
		pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		pthread_cond_init(&fill->changed, &attr);
		pthread_condattr_destroy(&attr);
		make_spans(fill);
		fill->is_present = calloc(fill->piece_count, sizeof(*fill->is_present));
		if (fill->is_present)
			code = start_threads(fill);
	}
	if (!code)
		return fill;
	error_sys(err, code, NULL, "cannot make the guest's memory present");
	fill_free(fill);
	return NULL;
}

/* Whoever waits first tells, for all. */
static void tell_progress(struct fill *fill, int64_t since)
{
	char there[24], all[24];
	int64_t time = clock_ms();

	if (!fill->spans_left || time < (fill->told ? fill->told + TELL_AGAIN : since + TELL_FIRST))
		return;
	fill->told = time;
	log_info("the guest waits for its memory: %s of %s is there",
		size_format(fill->bytes, there), size_format(fill->memory->size, all));
}

static void wait_a_second(struct fill *fill)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec++;
	pthread_cond_timedwait(&fill->changed, &fill->lock, &end);
}

bool fill_is_done(const struct fill *fill)
{
	return !__atomic_load_n(&fill->spans_left, __ATOMIC_ACQUIRE);
}

int fill_wait(struct fill *fill, unsigned seconds)
{
	int64_t since = clock_ms();
	int code = 0;

	pthread_mutex_lock(&fill->lock);
	while (fill->spans_left && !code) {
		if (!do_piece(fill))
			wait_a_second(fill);
		tell_progress(fill, since);
		if (fill->stop || fill->failed)
			code = -ECANCELED;
		else if (seconds && clock_ms() >= since + 1000 * (int64_t)seconds)
			code = -ETIMEDOUT;
	}
	if (!fill->spans_left)
		code = 0;
	pthread_mutex_unlock(&fill->lock);
	return code;
}

bool fill_next(struct fill *fill, struct memory_range *range)
{
	bool is_there;

	if (__atomic_load_n(&fill->given, __ATOMIC_RELAXED) >=
		__atomic_load_n(&fill->present, __ATOMIC_ACQUIRE))
		return false;
	pthread_mutex_lock(&fill->lock);
	is_there = fill->giving.piece < fill->present && advance(fill, &fill->giving, range);
	__atomic_store_n(&fill->given, fill->giving.piece, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&fill->lock);
	return is_there;
}

void fill_stop(struct fill *fill)
{
	pthread_mutex_lock(&fill->lock);
	fill->stop = true;
	pthread_cond_broadcast(&fill->changed);
	pthread_mutex_unlock(&fill->lock);
}

void fill_free(struct fill *fill)
{
	if (!fill)
		return;
	fill_stop(fill);
	for (unsigned i = 0; i < fill->thread_count; i++)
		pthread_join(fill->threads[i], NULL);
	pthread_cond_destroy(&fill->changed);
	pthread_mutex_destroy(&fill->lock);
	free(fill->is_present);
	free(fill);
}
