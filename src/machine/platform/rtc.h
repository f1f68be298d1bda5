/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "machine/memory.h"
#include "pci/space.h"

#include <pthread.h>
#include <stdbool.h>

/*
 * The PC's clock and CMOS memory (Motorola MC146818A): the host's time, in UTC, or in the host's
 * time zone as it is at the start. No alarm and no periodic interrupt: systems of this century use other
 * timers.
 */

#define RTC_PORT    0x70
#define RTC_PORTS   2
#define RTC_CENTURY 0x32

struct rtc {
	pthread_mutex_t lock;
	uint8_t index;
	uint8_t memory[128];
	int64_t offset; /* seconds that the guest has set its clock ahead of the host's */
};

int rtc_init(struct rtc *rtc, struct space *pio, bool local, const struct memory *memory);
