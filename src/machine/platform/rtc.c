/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/rtc.h"

#include "base/size.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

enum {
	SECONDS = 0,
	MINUTES = 2,
	HOURS = 4,
	WEEKDAY = 6,
	DAY = 7,
	MONTH = 8,
	YEAR = 9,
	REG_A = 10,
	REG_B = 11,
	REG_C = 12,
	REG_D = 13,
	MEMORY_16M = 0x34, /* two bytes */
	MEMORY_4G = 0x5b,  /* three */
};

#define A_DIVIDER  0x26 /* 32.768 kHz, 1.024 kHz rate; no update in progress */
#define B_SET      0x80
#define B_BINARY   0x04
#define B_24_HOURS 0x02
#define B_WRITABLE 0x87
#define D_VALID    0x80
#define HOURS_PM   0x80

static uint8_t encode(const struct rtc *rtc, int value)
{
	return rtc->memory[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10;
}

static int decode(const struct rtc *rtc, uint8_t value)
{
	return rtc->memory[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hours(const struct rtc *rtc, int hours)
{
	if (rtc->memory[REG_B] & B_24_HOURS)
		return encode(rtc, hours);
	return encode(rtc, (hours + 11) % 12 + 1) | (hours >= 12 ? HOURS_PM : 0);
}

static int decode_hours(const struct rtc *rtc, uint8_t value)
{
	if (rtc->memory[REG_B] & B_24_HOURS)
		return decode(rtc, value);
	return decode(rtc, value & ~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

/* Fill the time registers from the clock, unless the guest has stopped it to set them. */
static void show_time(struct rtc *rtc)
{
	time_t now = time(NULL) + rtc->offset;
	struct tm tm;
	int year;

	if (rtc->memory[REG_B] & B_SET || !gmtime_r(&now, &tm))
		return;
	year = tm.tm_year > -1900 ? tm.tm_year + 1900 : 0; /* the guest may have set any */
	rtc->memory[SECONDS] = encode(rtc, tm.tm_sec);
	rtc->memory[MINUTES] = encode(rtc, tm.tm_min);
	rtc->memory[HOURS] = encode_hours(rtc, tm.tm_hour);
	rtc->memory[WEEKDAY] = encode(rtc, tm.tm_wday + 1);
	rtc->memory[DAY] = encode(rtc, tm.tm_mday);
	rtc->memory[MONTH] = encode(rtc, tm.tm_mon + 1);
	rtc->memory[YEAR] = encode(rtc, year % 100);
	rtc->memory[RTC_CENTURY] = encode(rtc, year / 100);
}

/* Take the time that the guest has written as an offset to the host's clock. */
static void take_time(struct rtc *rtc)
{
	struct tm tm = {
		.tm_sec = decode(rtc, rtc->memory[SECONDS]),
		.tm_min = decode(rtc, rtc->memory[MINUTES]),
		.tm_hour = decode_hours(rtc, rtc->memory[HOURS]),
		.tm_mday = decode(rtc, rtc->memory[DAY]),
		.tm_mon = decode(rtc, rtc->memory[MONTH]) - 1,
		.tm_year = decode(rtc, rtc->memory[RTC_CENTURY]) * 100 +
			   decode(rtc, rtc->memory[YEAR]) - 1900,
	};

	rtc->offset = timegm(&tm) - time(NULL);
}

static void write_register(struct rtc *rtc, uint8_t value)
{
	bool is_time = rtc->index <= YEAR || rtc->index == RTC_CENTURY;
	bool stopped = rtc->memory[REG_B] & B_SET;

	if (rtc->index == REG_A || rtc->index == REG_C || rtc->index == REG_D)
		return;
	if (!stopped)
		show_time(rtc);
	if (rtc->index == REG_B)
		value &= B_WRITABLE;
	/* The clock runs on from what was set: at the end of a set, or at once while it runs. */
	if (rtc->index == REG_B && stopped && !(value & B_SET))
		take_time(rtc);
	rtc->memory[rtc->index] = value;
	if (is_time && !stopped)
		take_time(rtc);
}

static uint64_t rtc_read(void *opaque, uint64_t offset, unsigned size)
{
	struct rtc *rtc = opaque;
	uint8_t value = 0xff;

	(void)size;
	pthread_mutex_lock(&rtc->lock);
	if (offset == 1) {
		show_time(rtc);
		value = rtc->memory[rtc->index];
	}
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

static void rtc_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct rtc *rtc = opaque;

	pthread_mutex_lock(&rtc->lock);
	if (offset == 0)
		rtc->index = value & 0x7f; /* bit 7 gates NMIs, which there are none of */
	if (offset == 1)
		write_register(rtc, value);
	else if (size == 2)
		write_register(rtc, value >> 8);
	pthread_mutex_unlock(&rtc->lock);
}

static const struct space_ops rtc_ops = { rtc_read, rtc_write };

/* What a clock in the host's time zone is ahead of one in UTC now. The zone was read before the sandbox. */
static int64_t zone_offset(void)
{
	time_t now = time(NULL);
	struct tm tm;

	return localtime_r(&now, &tm) ? tm.tm_gmtoff : 0;
}

/*
 * Where a PC's firmware finds how much RAM there is: above 16 MiB, and above 4 GiB, in units of 64 KiB. OVMF
 * looks there where nobody tells it better.
 */
static void note_memory(struct rtc *rtc, const struct memory *memory)
{
	uint64_t low = memory->regions[0].size, high = memory->size - low;

	low = low > 16 * MIB ? (low - 16 * MIB) / (64 * KIB) : 0;
	high /= 64 * KIB;
	memcpy(&rtc->memory[MEMORY_16M], &low, 2);
	memcpy(&rtc->memory[MEMORY_4G], &high, 3);
}

int rtc_init(struct rtc *rtc, struct space *pio, bool local, const struct memory *memory)
{
	memset(rtc->memory, 0, sizeof(rtc->memory));
	note_memory(rtc, memory);
	rtc->memory[REG_A] = A_DIVIDER;
	rtc->memory[REG_B] = B_24_HOURS;
	rtc->memory[REG_D] = D_VALID;
	rtc->offset = local ? zone_offset() : 0;
	pthread_mutex_init(&rtc->lock, NULL);
	return space_add(pio, RTC_PORT, RTC_PORTS, &rtc_ops, rtc);
}
