/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "irq_lines.h"
#include "machine/layout.h"
#include "machine/platform/serial.h"
#include "test.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Registers, and their bits, by the names of the data sheet. */
enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

#define FCR      IIR
#define IER_RX   0x01
#define IER_TX   0x02
#define IIR_NONE 0x01
#define IIR_TX   0x02
#define IIR_RX   0x04
#define IIR_FIFO 0xc0
#define DLAB     0x80
#define LOOP     0x10
#define READY    0x01
#define EMPTY    0x60

/* Many times what buffer and pipe hold. */
#define DRIVER_BYTES (40 * CONSOLE_BUFFER)

struct fixture {
	struct kvm_vm vm;
	struct space pio;
	struct console console;
	struct serial serial;
	int in[2], out[2]; /* pipes: [0] to read, [1] to write */
	bool ended;        /* the console */
};

static bool receive(void *opaque, uint8_t byte)
{
	struct fixture *fixture = opaque;

	return serial_receive(&fixture->serial, byte);
}

static void room(void *opaque)
{
	struct fixture *fixture = opaque;

	serial_room(&fixture->serial);
}

static void nothing(void *opaque)
{
	(void)opaque;
}

static int setup(void **state)
{
	static struct fixture fixture;
	const struct console_ops ops = { receive, room, nothing, nothing, &fixture };
	struct console_config config = { 0 };
	struct error err = { 0 };

	memset(&fixture, 0, sizeof(fixture));
	irq_lines_reset(&fixture.vm);
	space_init(&fixture.pio);
	if (pipe(fixture.in) < 0 || pipe(fixture.out) < 0)
		return -1;
	config.in = fixture.in[0];
	config.out = fixture.out[1];
	console_init(&fixture.console, &config, &ops, &err);
	serial_init(&fixture.serial, &fixture.pio, &fixture.vm, &fixture.console);
	*state = &fixture;
	return err.code;
}

static void end_console(struct fixture *fixture)
{
	if (!fixture->ended)
		console_destroy(&fixture->console);
	fixture->ended = true;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	end_console(fixture);
	space_destroy(&fixture->pio);
	for (int i = 0; i < 2; i++) {
		close(fixture->in[i]);
		close(fixture->out[i]);
	}
	return 0;
}

static uint8_t get(struct fixture *fixture, unsigned reg)
{
	return space_read(&fixture->pio, SERIAL_PORT + reg, 1);
}

static void set(struct fixture *fixture, unsigned reg, uint8_t value)
{
	space_write(&fixture->pio, SERIAL_PORT + reg, 1, value);
}

static void start(struct fixture *fixture)
{
	struct error err = { 0 };

	assert_int_equal(console_start(&fixture->console, &err), 0);
}

static bool line(void)
{
	return irq_line[LAYOUT_GSI_SERIAL];
}

static void what_is_sent_comes_out_in_order(void **state)
{
	struct fixture *fixture = *state;
	char text[16] = "";

	for (const char *at = "hello"; *at; at++)
		set(fixture, DATA, *at);
	/* A word's upper byte is not another one. */
	space_write(&fixture->pio, SERIAL_PORT, 2, '!' | '?' << 8);
	start(fixture);
	for (ssize_t got = 0, more; got < 6; got += more) {
		more = read(fixture->out[0], text + got, sizeof(text) - 1 - got);
		assert_true(more > 0);
	}
	assert_string_equal(text, "hello!");
}

static void registers_hold_what_they_are_given(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, SCR, 0xa5);
	set(fixture, LCR, 0x1b);
	set(fixture, MCR, 0xff);
	set(fixture, IER, 0xff);
	assert_int_equal(get(fixture, SCR), 0xa5);
	assert_int_equal(get(fixture, LCR), 0x1b);
	assert_int_equal(get(fixture, MCR), 0x1f);
	assert_int_equal(get(fixture, IER), 0x0f);
	set(fixture, MCR, 0);
	set(fixture, MSR, 0xff);
	set(fixture, LSR, 0xff);
	assert_int_equal(get(fixture, MSR), 0xb0); /* a modem that is there */
	assert_int_equal(get(fixture, LSR), EMPTY);
}

static void the_divisor_hides_two_registers(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, IER, IER_RX);
	set(fixture, LCR, DLAB);
	assert_int_equal(get(fixture, DATA), 12); /* 9600 baud */
	assert_int_equal(get(fixture, IER), 0);
	set(fixture, DATA, 0x34);
	set(fixture, IER, 0x12);
	assert_int_equal(get(fixture, DATA), 0x34);
	assert_int_equal(get(fixture, IER), 0x12);
	set(fixture, DATA, 0x56);
	assert_int_equal(get(fixture, DATA), 0x56);
	assert_int_equal(get(fixture, IER), 0x12);
	assert_int_equal(fixture->console.head, 0);
	set(fixture, LCR, 0);
	assert_int_equal(get(fixture, IER), IER_RX);
}

static void without_a_fifo_there_is_one_byte(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, DATA), 0);
	assert_int_equal(get(fixture, LSR), EMPTY);
	assert_true(serial_receive(&fixture->serial, 'a'));
	assert_false(serial_receive(&fixture->serial, 'b'));
	assert_int_equal(get(fixture, LSR), EMPTY | READY);
	assert_int_equal(get(fixture, DATA), 'a');
	assert_int_equal(get(fixture, LSR), EMPTY);
	assert_true(serial_receive(&fixture->serial, 'b'));
}

static void the_fifo_has_sixteen_bytes(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, FCR, 0x01);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 16; i++)
			assert_true(serial_receive(&fixture->serial, 'a' + i));
		assert_false(serial_receive(&fixture->serial, 'z'));
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(get(fixture, DATA), 'a' + i);
		for (unsigned i = 0; i < 5; i++)
			assert_true(serial_receive(&fixture->serial, 'A' + i));
		for (unsigned i = 5; i < 16; i++)
			assert_int_equal(get(fixture, DATA), 'a' + i);
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(get(fixture, DATA), 'A' + i);
		assert_int_equal(get(fixture, LSR) & READY, 0);
	}
}

static void the_fifo_can_be_cleared(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, FCR, 0x01);
	serial_receive(&fixture->serial, 'a');
	set(fixture, FCR, 0x01);
	assert_int_equal(get(fixture, LSR) & READY, READY);
	set(fixture, FCR, 0x03);
	assert_int_equal(get(fixture, LSR) & READY, 0);
	/* Switching it on or off clears it, too. */
	serial_receive(&fixture->serial, 'a');
	serial_receive(&fixture->serial, 'b');
	set(fixture, FCR, 0x00);
	assert_int_equal(get(fixture, LSR) & READY, 0);
	assert_true(serial_receive(&fixture->serial, 'c'));
	assert_int_equal(get(fixture, DATA), 'c');
}

static bool wait_for_input(struct fixture *fixture)
{
	struct timespec pause = { .tv_nsec = 1000000 };

	for (unsigned tries = 0; tries < 5000; tries++) {
		if (get(fixture, LSR) & READY)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* What had no room in it comes then. */
static void a_cleared_fifo_takes_the_next(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(write(fixture->in[1], "abc", 3), 3);
	start(fixture);
	assert_true(wait_for_input(fixture));
	set(fixture, FCR, 0x02);
	assert_true(wait_for_input(fixture));
	assert_int_equal(get(fixture, DATA), 'b');
	assert_true(wait_for_input(fixture));
	assert_int_equal(get(fixture, DATA), 'c');
}

static void a_fifo_shows_in_the_interrupt_id(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture, IIR), IIR_NONE);
	set(fixture, FCR, 0x07);
	assert_int_equal(get(fixture, IIR), IIR_FIFO | IIR_NONE);
	set(fixture, FCR, 0);
	assert_int_equal(get(fixture, IIR), IIR_NONE);
}

static void input_raises_an_interrupt(void **state)
{
	struct fixture *fixture = *state;

	serial_receive(&fixture->serial, 'a');
	assert_false(line());
	assert_int_equal(get(fixture, IIR), IIR_NONE);
	set(fixture, IER, IER_RX);
	assert_true(line());
	assert_int_equal(get(fixture, IIR), IIR_RX);
	assert_true(line());
	get(fixture, DATA);
	assert_false(line());
	assert_int_equal(get(fixture, IIR), IIR_NONE);
	serial_receive(&fixture->serial, 'b');
	assert_true(line());
	set(fixture, IER, 0);
	assert_false(line());
}

static void an_empty_transmitter_raises_an_interrupt(void **state)
{
	struct fixture *fixture = *state;

	/* Not while it is off. */
	set(fixture, DATA, 'x');
	assert_false(line());
	assert_int_equal(get(fixture, IIR), IIR_NONE);
	set(fixture, IER, IER_TX);
	assert_true(line());
	assert_int_equal(get(fixture, IIR), IIR_TX);
	assert_false(line());
	assert_int_equal(get(fixture, IIR), IIR_NONE);
	/* Written again as it is, the bit raises nothing. */
	set(fixture, IER, IER_TX);
	assert_false(line());
	set(fixture, DATA, 'x');
	assert_true(line());
	assert_int_equal(get(fixture, IIR), IIR_TX);
	assert_false(line());
}

/* An access that changes nothing costs no system call. */
static void only_changes_of_the_line_are_told(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, SCR, 1);
	get(fixture, LSR);
	assert_int_equal(irq_calls, 0);
	set(fixture, IER, IER_TX);
	set(fixture, SCR, 2);
	get(fixture, LSR);
	assert_int_equal(irq_calls, 1);
	get(fixture, IIR);
	get(fixture, IIR);
	assert_int_equal(irq_calls, 2);
}

static void input_goes_before_output(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, IER, IER_RX | IER_TX);
	serial_receive(&fixture->serial, 'a');
	assert_int_equal(get(fixture, IIR), IIR_RX);
	get(fixture, DATA);
	assert_true(line());
	assert_int_equal(get(fixture, IIR), IIR_TX);
	assert_false(line());
}

static void in_loop_back_the_line_hears_itself(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, FCR, 0x01);
	set(fixture, MCR, LOOP);
	set(fixture, DATA, 'a');
	set(fixture, DATA, 'b');
	assert_int_equal(fixture->console.head, 0);
	assert_int_equal(get(fixture, DATA), 'a');
	assert_int_equal(get(fixture, DATA), 'b');
	/* DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD. */
	assert_int_equal(get(fixture, MSR), 0);
	set(fixture, MCR, LOOP | 0x01);
	assert_int_equal(get(fixture, MSR), 0x20);
	set(fixture, MCR, LOOP | 0x02);
	assert_int_equal(get(fixture, MSR), 0x10);
	set(fixture, MCR, LOOP | 0x04);
	assert_int_equal(get(fixture, MSR), 0x40);
	set(fixture, MCR, LOOP | 0x08);
	assert_int_equal(get(fixture, MSR), 0x80);
	for (unsigned i = 0; i < 100; i++)
		set(fixture, DATA, i);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(get(fixture, DATA), i);
	assert_int_equal(get(fixture, LSR) & READY, 0);
}

/* A reader that is slow holds up the guest's driver, not its vCPU, and loses nothing. */
static void a_full_buffer_is_not_empty(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, IER, IER_TX);
	get(fixture, IIR);
	for (unsigned i = 0; i < CONSOLE_BUFFER - SERIAL_FIFO + 1; i++) {
		assert_int_equal(get(fixture, LSR), EMPTY);
		set(fixture, DATA, i);
	}
	assert_int_equal(get(fixture, LSR), 0);
	assert_int_equal(get(fixture, IIR), IIR_NONE);
	assert_false(line());
	fixture->console.tail += 100; /* as if written out */
	serial_room(&fixture->serial);
	assert_true(line());
	assert_int_equal(get(fixture, LSR), EMPTY);
	assert_int_equal(get(fixture, IIR), IIR_TX);
}

static void fill_buffer(struct fixture *fixture)
{
	while (fixture->console.head - fixture->console.tail < CONSOLE_BUFFER)
		set(fixture, DATA, 'x');
}

static void make_room(struct fixture *fixture)
{
	fixture->console.tail += 100; /* as if written out */
	serial_room(&fixture->serial);
}

/* Linux looks at IIR first, and sends only what LSR has room for. */
static void room_raises_one_interrupt_whatever_was_read_before(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, IER, IER_TX);
	fill_buffer(fixture);
	/* "Empty" from before it was full is no more true than LSR says. */
	assert_int_equal(get(fixture, IIR), IIR_NONE);
	assert_int_equal(get(fixture, LSR), 0);
	make_room(fixture);
	assert_true(line());
	assert_int_equal(get(fixture, IIR), IIR_TX);
	assert_false(line());
	assert_int_equal(get(fixture, IIR), IIR_NONE);
	/* Full once more before LSR was read: the next room is told, too. */
	fill_buffer(fixture);
	assert_false(line());
	make_room(fixture);
	fill_buffer(fixture);
	make_room(fixture);
	assert_true(line());
	assert_int_equal(get(fixture, LSR), EMPTY);
}

/* Linux switches it off at a kernel message, and on again. */
static void room_that_comes_while_interrupts_are_off_is_seen(void **state)
{
	struct fixture *fixture = *state;

	set(fixture, IER, IER_TX);
	fill_buffer(fixture);
	set(fixture, IER, 0);
	make_room(fixture);
	assert_false(line());
	assert_int_equal(get(fixture, IIR), IIR_NONE);
	set(fixture, IER, IER_TX);
	assert_true(line());
	assert_int_equal(get(fixture, IIR), IIR_TX);
	/* Switched on while it is full, it waits for room. */
	set(fixture, IER, 0);
	fill_buffer(fixture);
	set(fixture, IER, IER_TX);
	assert_false(line());
	make_room(fixture);
	assert_true(line());
}

/* What Linux tries at its start: off and on raises it anew, though IIR has been read. */
static void switched_on_again_it_is_raised_again(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned round = 0; round < 3; round++) {
		set(fixture, IER, IER_TX);
		assert_true(line());
		assert_int_equal(get(fixture, IIR), IIR_TX);
		assert_false(line());
		set(fixture, IER, 0);
		assert_int_equal(get(fixture, IIR), IIR_NONE);
	}
}

static bool wait_for_line(void)
{
	struct timespec pause = { .tv_nsec = 100000 };

	for (unsigned tries = 0; tries < 50000; tries++) {
		if (__atomic_load_n(&irq_line[LAYOUT_GSI_SERIAL], __ATOMIC_RELAXED))
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* How many bytes come, in pieces that leave little room at a time. */
static void *read_in_pieces(void *opaque)
{
	const struct fixture *fixture = opaque;
	struct timespec pause = { .tv_nsec = 10000 };
	uint8_t bytes[1000];
	uintptr_t total = 0;

	for (ssize_t got; (got = read(fixture->out[0], bytes, sizeof(bytes))) > 0; total += got)
		nanosleep(&pause, NULL);
	return (void *)total;
}

/*
 * A driver as Linux's sends by interrupts alone: one that is lost would leave it waiting for good. It
 * sends a FIFO at a time.
 */
static void a_driver_that_waits_for_interrupts_loses_nothing(void **state)
{
	struct fixture *fixture = *state;
	unsigned sent = 0;
	pthread_t reader;
	void *total;

	start(fixture);
	set(fixture, FCR, 0x01);
	assert_int_equal(pthread_create(&reader, NULL, read_in_pieces, fixture), 0);
	set(fixture, IER, IER_TX);
	while (sent < DRIVER_BYTES && wait_for_line()) {
		if (get(fixture, IIR) != (IIR_FIFO | IIR_TX) || !(get(fixture, LSR) & EMPTY))
			continue;
		for (unsigned i = 0; i < SERIAL_FIFO; i++, sent++)
			set(fixture, DATA, sent);
	}
	end_console(fixture);
	close(fixture->out[1]);
	fixture->out[1] = -1;
	pthread_join(reader, &total);
	assert_int_equal(sent, DRIVER_BYTES);
	assert_int_equal((uintptr_t)total, DRIVER_BYTES);
}

static void odd_accesses_do_no_harm(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned size = 1; size <= 8; size *= 2)
		for (unsigned reg = 0; reg < 8; reg++) {
			space_write(&fixture->pio, SERIAL_PORT + reg, size, UINT64_MAX);
			space_read(&fixture->pio, SERIAL_PORT + reg, size);
		}
	assert_true(space_read(&fixture->pio, SERIAL_PORT + 7, 2) == UINT64_MAX);
	assert_true(space_read(&fixture->pio, SERIAL_PORT + 8, 1) == UINT64_MAX);
}

/* Far more than the FIFO holds: the console waits for the guest, byte by byte. */
static void no_input_is_lost(void **state)
{
	struct fixture *fixture = *state;
	struct timespec pause = { .tv_nsec = 100000 };
	unsigned got = 0;
	uint8_t sent[1000];

	for (unsigned i = 0; i < sizeof(sent); i++)
		sent[i] = i * 7;
	set(fixture, FCR, 0x01);
	assert_int_equal(write(fixture->in[1], sent, sizeof(sent)), sizeof(sent));
	start(fixture);
	for (unsigned tries = 0; got < sizeof(sent) && tries < 50000; tries++) {
		if (!(get(fixture, LSR) & READY)) {
			nanosleep(&pause, NULL);
			continue;
		}
		if (get(fixture, DATA) != sent[got])
			break;
		got++;
	}
	assert_int_equal(got, sizeof(sent));
}

#define SERIAL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERIAL_TEST(what_is_sent_comes_out_in_order),
		SERIAL_TEST(registers_hold_what_they_are_given),
		SERIAL_TEST(the_divisor_hides_two_registers),
		SERIAL_TEST(without_a_fifo_there_is_one_byte),
		SERIAL_TEST(the_fifo_has_sixteen_bytes),
		SERIAL_TEST(the_fifo_can_be_cleared),
		SERIAL_TEST(a_cleared_fifo_takes_the_next),
		SERIAL_TEST(a_fifo_shows_in_the_interrupt_id),
		SERIAL_TEST(input_raises_an_interrupt),
		SERIAL_TEST(an_empty_transmitter_raises_an_interrupt),
		SERIAL_TEST(only_changes_of_the_line_are_told),
		SERIAL_TEST(input_goes_before_output),
		SERIAL_TEST(in_loop_back_the_line_hears_itself),
		SERIAL_TEST(a_full_buffer_is_not_empty),
		SERIAL_TEST(room_raises_one_interrupt_whatever_was_read_before),
		SERIAL_TEST(room_that_comes_while_interrupts_are_off_is_seen),
		SERIAL_TEST(switched_on_again_it_is_raised_again),
		SERIAL_TEST(a_driver_that_waits_for_interrupts_loses_nothing),
		SERIAL_TEST(odd_accesses_do_no_harm),
		SERIAL_TEST(no_input_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
