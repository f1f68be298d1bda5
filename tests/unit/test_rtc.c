/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/platform/rtc.h"
#include "test.h"

#include <stdlib.h>
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
};

#define SET      0x80
#define BINARY   0x04
#define HOURS_24 0x02

/* The host's clock: the linker hands us what is meant for time(2) (-Wl,--wrap=time). */
static time_t now;

time_t __wrap_time(time_t *where);

time_t __wrap_time(time_t *where)
{
	if (where)
		*where = now;
	return now;
}

struct fixture {
	struct space pio;
	struct rtc rtc;
};

static time_t at(int year, int month, int day, int hour, int minute, int second)
{
	struct tm tm = {
		.tm_year = year - 1900,
		.tm_mon = month - 1,
		.tm_mday = day,
		.tm_hour = hour,
		.tm_min = minute,
		.tm_sec = second,
	};

	return timegm(&tm);
}

/* All that is looked at of it is its size. */
static const struct memory memory = {
	.regions = { { 0, 2 * GIB, NULL }, { 4 * GIB, 3 * GIB, NULL } },
	.count = 2,
	.size = 5 * GIB,
};

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	space_init(&fixture.pio);
	now = at(2026, 11, 28, 17, 58, 39); /* a Saturday */
	*state = &fixture;
	return rtc_init(&fixture.rtc, &fixture.pio, false, &memory);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	space_destroy(&fixture->pio);
	return 0;
}

static uint8_t get(struct fixture *fixture, uint8_t reg)
{
	space_write(&fixture->pio, RTC_PORT, 1, reg);
	return space_read(&fixture->pio, RTC_PORT + 1, 1);
}

static void set(struct fixture *fixture, uint8_t reg, uint8_t value)
{
	space_write(&fixture->pio, RTC_PORT, 1, reg);
	space_write(&fixture->pio, RTC_PORT + 1, 1, value);
}

static void assert_time(struct fixture *fixture, unsigned hours, unsigned minutes, unsigned seconds)
{
	assert_int_equal(get(fixture, HOURS), hours);
	assert_int_equal(get(fixture, MINUTES), minutes);
	assert_int_equal(get(fixture, SECONDS), seconds);
}

static void assert_date(
	struct fixture *fixture, unsigned century, unsigned year, unsigned month, unsigned day)
{
	assert_int_equal(get(fixture, RTC_CENTURY), century);
	assert_int_equal(get(fixture, YEAR), year);
	assert_int_equal(get(fixture, MONTH), month);
	assert_int_equal(get(fixture, DAY), day);
}

/* Of New Delhi, 5:30 ahead; and of a zone with summer time, which does not move the clock when it ends. */
static void it_starts_with_the_time_of_the_hosts_zone(void **state)
{
	struct fixture local = { 0 };

	(void)state;
	setenv("TZ", "IST-5:30", 1);
	tzset();
	space_init(&local.pio);
	assert_int_equal(rtc_init(&local.rtc, &local.pio, true, &memory), 0);
	assert_time(&local, 0x23, 0x28, 0x39);
	assert_date(&local, 0x20, 0x26, 0x11, 0x28);
	now += 45 * 60;
	assert_time(&local, 0, 0x13, 0x39);
	assert_date(&local, 0x20, 0x26, 0x11, 0x29);
	space_destroy(&local.pio);
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	now = at(2026, 10, 25, 0, 30, 0);
	space_init(&local.pio);
	assert_int_equal(rtc_init(&local.rtc, &local.pio, true, &memory), 0);
	assert_time(&local, 2, 0x30, 0);
	now += 3600;
	assert_time(&local, 3, 0x30, 0);
	space_destroy(&local.pio);
	unsetenv("TZ");
	tzset();
}

static void it_starts_with_the_hosts_time(void **state)
{
	struct fixture *fixture = *state;

	assert_time(fixture, 0x17, 0x58, 0x39);
	assert_date(fixture, 0x20, 0x26, 0x11, 0x28);
	assert_int_equal(get(fixture, WEEKDAY), 7);
	now += 60 * 60 * 24 * 40;
	assert_date(fixture, 0x20, 0x27, 0x01, 0x07);
}

static void it_counts_in_binary(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, REG_B, HOURS_24 | BINARY);
	assert_time(fixture, 17, 58, 39);
	assert_date(fixture, 20, 26, 11, 28);
}

static void it_counts_to_twelve(void **state)
{
	static const struct {
		unsigned hour;
		uint8_t bcd;
		uint8_t binary;
	} hours[] = {
		{ 0, 0x12, 12 },
		{ 1, 0x01, 1 },
		{ 11, 0x11, 11 },
		{ 12, 0x92, 0x8c },
		{ 13, 0x81, 0x81 },
		{ 23, 0x91, 0x8b },
	};
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < sizeof(hours) / sizeof(hours[0]); i++) {
		now = at(2026, 1, 1, hours[i].hour, 0, 0);
		set(fixture, REG_B, 0);
		assert_int_equal(get(fixture, HOURS), hours[i].bcd);
		set(fixture, REG_B, BINARY);
		assert_int_equal(get(fixture, HOURS), hours[i].binary);
	}
}

/* As Linux sets it: stop, write all, run. */
static void set_date(struct fixture *fixture, uint8_t mode, const uint8_t values[7])
{
	static const uint8_t registers[] = { RTC_CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES,
		SECONDS };

	set(fixture, REG_B, mode | SET);
	for (unsigned i = 0; i < sizeof(registers); i++)
		set(fixture, registers[i], values[i]);
	set(fixture, REG_B, mode);
}

static void the_guest_sets_its_clock(void **state)
{
	struct fixture *fixture = *state;

	set_date(fixture, HOURS_24, (uint8_t[]){ 0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58 });
	assert_time(fixture, 0x23, 0x59, 0x58);
	assert_date(fixture, 0x19, 0x99, 0x12, 0x31);
	assert_int_equal(get(fixture, WEEKDAY), 6);
	now += 3;
	assert_time(fixture, 0, 0, 1);
	assert_date(fixture, 0x20, 0, 1, 1);
}

static void the_guest_sets_it_in_any_mode(void **state)
{
	struct fixture *fixture = *state;

	set_date(fixture, BINARY, (uint8_t[]){ 20, 38, 1, 19, 0x80 | 3, 14, 8 });
	set(fixture, REG_B, HOURS_24);
	assert_time(fixture, 0x15, 0x14, 0x08);
	assert_date(fixture, 0x20, 0x38, 0x01, 0x19);
	set_date(fixture, 0, (uint8_t[]){ 0x21, 0x00, 0x02, 0x28, 0x12, 0x00, 0x00 });
	set(fixture, REG_B, HOURS_24 | BINARY);
	assert_time(fixture, 0, 0, 0);
	assert_date(fixture, 21, 0, 2, 28);
	set_date(fixture, 0, (uint8_t[]){ 0x21, 0x00, 0x02, 0x28, 0x92, 0x00, 0x00 });
	set(fixture, REG_B, HOURS_24 | BINARY);
	assert_time(fixture, 12, 0, 0);
}

static void a_stopped_clock_stands(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, REG_B, HOURS_24 | SET);
	now += 100;
	assert_time(fixture, 0x17, 0x58, 0x39);
	set(fixture, SECONDS, 0x10);
	now += 100;
	assert_time(fixture, 0x17, 0x58, 0x10);
	set(fixture, REG_B, HOURS_24);
	assert_time(fixture, 0x17, 0x58, 0x10);
	now += 1;
	assert_time(fixture, 0x17, 0x58, 0x11);
}

static void a_running_clock_takes_a_register(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, MINUTES, 0x01);
	assert_time(fixture, 0x17, 0x01, 0x39);
	now += 1;
	assert_time(fixture, 0x17, 0x01, 0x40);
	set(fixture, YEAR, 0x30);
	set(fixture, RTC_CENTURY, 0x19);
	set(fixture, DAY, 0x27);
	assert_date(fixture, 0x19, 0x30, 0x11, 0x27);
	now += 24 * 60 * 60;
	assert_date(fixture, 0x19, 0x30, 0x11, 0x28);
}

static void status_registers_are_read_only(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t a = get(fixture, REG_A);

	set(fixture, REG_A, 0xff);
	set(fixture, REG_C, 0xff);
	set(fixture, REG_D, 0);
	assert_int_equal(get(fixture, REG_A), a);
	assert_int_equal(a, 0x26); /* never in an update; the divider of a running clock */
	assert_int_equal(get(fixture, REG_C), 0);
	assert_int_equal(get(fixture, REG_D), 0x80); /* the battery is good */
	set(fixture, REG_B, 0x7f);                   /* no interrupts to switch on */
	assert_int_equal(get(fixture, REG_B), 0x07);
}

static void the_rest_is_memory(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned reg = 0x0e; reg < 0x80; reg++)
		if (reg != RTC_CENTURY)
			set(fixture, reg, reg ^ 0x55);
	for (unsigned reg = 0x0e; reg < 0x80; reg++)
		if (reg != RTC_CENTURY)
			assert_int_equal(get(fixture, reg), reg ^ 0x55);
	assert_date(fixture, 0x20, 0x26, 0x11, 0x28);
}

static void the_index_port_is_write_only(void **state)
{
	struct fixture *fixture = *state;

	space_write(&fixture->pio, RTC_PORT, 1, SECONDS | 0x80); /* the NMI gate */
	assert_int_equal(space_read(&fixture->pio, RTC_PORT + 1, 1) & 0xff, 0x39);
	assert_int_equal(space_read(&fixture->pio, RTC_PORT, 1) & 0xff, 0xff);
	/* One access for both ports. */
	space_write(&fixture->pio, RTC_PORT, 2, 0x20 | 0x77 << 8);
	assert_int_equal(get(fixture, 0x20), 0x77);
}

/* Years before 1900 are a guest's to set, too. */
static void a_year_long_ago_is_kept(void **state)
{
	struct fixture *fixture = *state;

	set_date(fixture, HOURS_24, (uint8_t[]){ 0x18, 0x50, 0x06, 0x15, 0x12, 0x00, 0x00 });
	assert_date(fixture, 0x18, 0x50, 0x06, 0x15);
	set_date(fixture, HOURS_24 | BINARY, (uint8_t[]){ 15, 82, 10, 15, 12, 0, 0 });
	assert_date(fixture, 15, 82, 10, 15);
	/* The month before the first of all. */
	set_date(fixture, HOURS_24 | BINARY, (uint8_t[]){ 0, 0, 0, 15, 12, 0, 0 });
	assert_date(fixture, 0, 0, 12, 15);
}

/* Under the sanitizers: no value that a guest writes may overflow anything. */
static void no_date_does_harm(void **state)
{
	static const uint8_t modes[] = { 0, BINARY, HOURS_24, HOURS_24 | BINARY };
	struct fixture *fixture = *state;

	for (unsigned mode = 0; mode < sizeof(modes); mode++)
		for (unsigned value = 0; value < 256; value++) {
			uint8_t values[7];

			memset(values, value, sizeof(values));
			set_date(fixture, modes[mode], values);
			for (unsigned reg = 0; reg < 128; reg++)
				get(fixture, reg);
			set(fixture, RTC_CENTURY, 0);
			for (unsigned reg = 0; reg < 128; reg++)
				get(fixture, reg);
		}
}

#define RTC_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RTC_TEST(it_starts_with_the_hosts_time),
		RTC_TEST(it_starts_with_the_time_of_the_hosts_zone),
		RTC_TEST(it_counts_in_binary),
		RTC_TEST(it_counts_to_twelve),
		RTC_TEST(the_guest_sets_its_clock),
		RTC_TEST(the_guest_sets_it_in_any_mode),
		RTC_TEST(a_stopped_clock_stands),
		RTC_TEST(a_running_clock_takes_a_register),
		RTC_TEST(status_registers_are_read_only),
		RTC_TEST(the_rest_is_memory),
		RTC_TEST(the_index_port_is_write_only),
		RTC_TEST(a_year_long_ago_is_kept),
		RTC_TEST(no_date_does_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
