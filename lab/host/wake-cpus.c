// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Wakes each CPU once a second from another one, as long as the host lives.
 *
 * QEMU's emulator now and then loses the timer interrupt of a CPU that is idle. Nothing wakes it any
 * more, then: its timers, a guest's among them, stand still, until the kernel sees its RCU stall.
 * An interrupt from another CPU makes it look at its timers again. What that has mended is told in the
 * kernel's log.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LATE_SECONDS 3

static int (*wakes)[2]; /* a pipe for each CPU */

static void start_on(int cpu, void (*work)(int))
{
	cpu_set_t set;

	if (fork())
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	for (;;)
		work(cpu);
}

/* What wakes this one is an interrupt from the CPU that writes. */
static void be_woken(int cpu)
{
	char byte;

	if (read(wakes[cpu][0], &byte, 1) != 1)
		exit(1);
}

static void wake_next(int cpu)
{
	int next = (cpu + 1) % sysconf(_SC_NPROCESSORS_ONLN);
	time_t before = time(NULL);

	sleep(1);
	if (time(NULL) - before > LATE_SECONDS) {
		FILE *log = fopen("/dev/kmsg", "w");

		if (log) {
			fprintf(log, "lab: CPU %d had no timer interrupt for %d s\n", cpu,
				(int)(time(NULL) - before));
			fclose(log);
		}
	}
	if (write(wakes[next][1], "", 1) != 1)
		exit(1);
}

int main(void)
{
	int count = sysconf(_SC_NPROCESSORS_ONLN);

	wakes = calloc(count, sizeof(*wakes));
	daemon(0, 0);
	for (int i = 0; i < count; i++)
		if (pipe(wakes[i]) < 0)
			return 1;
	for (int i = 0; i < count; i++) {
		start_on(i, be_woken);
		start_on(i, wake_next);
	}
	return 0;
}
