/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <pthread.h>
#include <time.h>

/*
 * ThreadSanitizer before clang 17 does not see that this one waits for a thread, and would call all
 * that comes after it a race: ask one that it knows, which goes by the clock on the wall.
 */

int __wrap_pthread_clockjoin_np(
	pthread_t thread, void **result, clockid_t clock, const struct timespec *end);

int __wrap_pthread_clockjoin_np(
	pthread_t thread, void **result, clockid_t clock, const struct timespec *end)
{
	struct timespec now, until;

	clock_gettime(clock, &now);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += end->tv_sec - now.tv_sec;
	until.tv_nsec += end->tv_nsec - now.tv_nsec;
	until.tv_sec += until.tv_nsec >= 1000000000 ? 1 : until.tv_nsec < 0 ? -1 : 0;
	until.tv_nsec = (until.tv_nsec + 1000000000) % 1000000000;
	return pthread_timedjoin_np(thread, result, &until);
}
