/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PC's own devices: serial port with its console, clock, power, events. The input is a guest's accesses to
 * their ports, of every size, and what a user types meanwhile at a terminal that may be slow.
 */
#include "fuzz.h"

#include "base/fd.h"
#include "base/size.h"
#include "kernel.h"
#include "machine/console.h"
#include "machine/layout.h"
#include "machine/platform/events.h"
#include "machine/platform/panic.h"
#include "machine/platform/power.h"
#include "machine/platform/rtc.h"
#include "machine/platform/serial.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#define STEPS_MAX 2000
#define NOW       1700000000
#define PATIENCE  10
#define FLUSH_MS  5000
#define ESCAPE    1

enum { ACCESSES, PRINTED, TYPED, RAISED, CLOCK, POWER, PANICS, EJECTED };

struct fuzz_goal fuzz_goals[] = {
	[ACCESSES] = { "port accesses", 2, 0 },
	[PRINTED] = { "bytes printed", 4, 0 },
	[TYPED] = { "bytes typed and read", 20, 0 },
	[RAISED] = { "steps with the line raised", 20, 0 },
	[CLOCK] = { "fields of the time", 20, 0 },
	[POWER] = { "requests to power off or reset", 500, 0 },
	[PANICS] = { "panics", 500, 0 },
	[EJECTED] = { "slots ejected", 20, 0 },
	{ 0 },
};

time_t __wrap_time(time_t *seconds);

time_t __wrap_time(time_t *seconds)
{
	(void)seconds;
	return NOW;
}

#define STREAM_MAX (64 * KIB)

/* Bytes that must come out in the order in which they went in. */
struct stream {
	uint8_t bytes[STREAM_MAX];
	size_t in, out;
	bool torn; /* the guest has thrown bytes away, or looped some back: no order is certain */
};

struct pc {
	struct kvm_vm vm;
	struct space pio;
	struct console console;
	struct serial serial;
	struct rtc rtc;
	struct power power;
	struct panic panic_port;
	struct events events;
	/*
	 * The console's threads have not been started, and the steps do their work: a thread takes its
	 * time to wake up, and inputs by the thousand find more than a few with threads.
	 */
	bool by_hand;
	int user; /* the other end of the terminal; -1: there is none */
	bool raw; /* no Ctrl-A */
	bool escaped;
	struct stream typed, printed;
	bool off, reset, panic, crash_loaded; /* may be asked for now */
	bool filled;                          /* by print_many() */
};

static void put(struct stream *stream, uint8_t byte)
{
	if (stream->in < STREAM_MAX)
		stream->bytes[stream->in++] = byte;
	else
		stream->torn = true;
}

static void take(struct stream *stream, uint8_t byte)
{
	if (stream->torn)
		return;
	fuzz_check(stream->out < stream->in && stream->bytes[stream->out] == byte);
	stream->out++;
}

static bool on_byte(void *opaque, uint8_t byte)
{
	struct pc *pc = opaque;

	return serial_receive(&pc->serial, byte);
}

static void on_room(void *opaque)
{
	struct pc *pc = opaque;

	serial_room(&pc->serial);
}

static void on_key(void *opaque)
{
	struct pc *pc = opaque;

	fuzz_check(!pc->raw); /* Ctrl-A is the guest's where no terminal is */
	__atomic_fetch_add(&fuzz_goals[POWER].count, 1, __ATOMIC_RELAXED);
}

static void on_off(void *opaque)
{
	struct pc *pc = opaque;

	fuzz_check(pc->off);
	__atomic_fetch_add(&fuzz_goals[POWER].count, 1, __ATOMIC_RELAXED);
}

static void on_reset(void *opaque)
{
	struct pc *pc = opaque;

	fuzz_check(pc->reset);
	__atomic_fetch_add(&fuzz_goals[POWER].count, 1, __ATOMIC_RELAXED);
}

static void on_panic(void *opaque)
{
	struct pc *pc = opaque;

	fuzz_check(pc->panic);
	fuzz_goals[PANICS].count++;
}

static void on_crash_loaded(void *opaque)
{
	struct pc *pc = opaque;

	fuzz_check(pc->crash_loaded);
	fuzz_goals[PANICS].count++;
}

/* Never slot 0, and never without a slot. */
static void on_ejected(void *opaque, uint32_t slots)
{
	(void)opaque;
	fuzz_check(slots && !(slots & EVENTS_BUTTON));
	fuzz_goals[EJECTED].count++;
}

/* Whether the reader has something to read. */
static bool is_waiting(const struct pc *pc)
{
	struct pollfd in = { .fd = pc->console.config.in, .events = POLLIN };

	return poll(&in, 1, 0) == 1 && in.revents & POLLIN;
}

/*
 * Give the console's threads the time to do what they can: until a byte has come to the guest, or
 * nothing is on its way.
 */
static void settle(struct pc *pc)
{
	struct timespec moment = { .tv_nsec = 20000 };

	for (unsigned i = 0; i < PATIENCE; i++) {
		bool has_key =
			__atomic_load_n(&pc->serial.head, __ATOMIC_RELAXED) != pc->serial.tail;

		if (has_key || pc->user < 0 || !is_waiting(pc))
			return;
		nanosleep(&moment, NULL);
	}
}

static bool line_wanted(const struct serial *serial)
{
	return (serial->interrupt_enable & 1 && serial->head != serial->tail) ||
	       (serial->interrupt_enable & 2 && serial->transmit_pending);
}

static void check_line(struct pc *pc)
{
	bool raised;

	pthread_mutex_lock(&pc->serial.lock);
	raised = kernel_line(LAYOUT_GSI_SERIAL);
	fuzz_check(raised == line_wanted(&pc->serial));
	fuzz_check(pc->serial.head - pc->serial.tail <= SERIAL_FIFO);
	pthread_mutex_unlock(&pc->serial.lock);
	pthread_mutex_lock(&pc->console.lock);
	fuzz_check(pc->console.head - pc->console.tail <= CONSOLE_BUFFER);
	pthread_mutex_unlock(&pc->console.lock);
	fuzz_goals[RAISED].count += raised;
}

/* A write of one byte. What the guest gives the console goes out, unless the buffer is full. */
static void write_port(struct pc *pc, uint16_t port, uint8_t value)
{
	const struct serial *serial = &pc->serial;
	uint32_t head = pc->console.head; /* which nobody else moves */

	pc->off = port == POWER_SLEEP_PORT && (value & 0x3c) == (0x20 | POWER_SLEEP_TYPE_OFF << 2);
	pc->reset = port == 0x64 && value == 0xfe;
	pc->panic = port == PANIC_PORT && value & 1;
	pc->crash_loaded = port == PANIC_PORT && (value & 3) == 2;
	/* Bytes looped back come between those that are typed, and a FIFO that is cleared loses some. */
	if (port == SERIAL_PORT && serial->modem_control & 0x10)
		pc->typed.torn = true;
	if (port == SERIAL_PORT + 2 && (value & 2 || (value ^ serial->fifo_control) & 1))
		pc->typed.torn = true;
	space_write(&pc->pio, port, 1, value);
	if (pc->console.head == head)
		return;
	fuzz_check(port == SERIAL_PORT && pc->console.head == head + 1);
	put(&pc->printed, value);
}

/* taken: a byte has left the FIFO. */
static void check_read(struct pc *pc, uint16_t port, uint8_t byte, bool taken)
{
	static const struct {
		uint8_t index, least, most;
	} fields[] = { { 0, 0, 59 }, { 2, 0, 59 }, { 6, 1, 7 }, { 7, 1, 31 }, { 8, 1, 12 } };
	uint8_t number = pc->rtc.memory[11] & 4 ? byte : (byte >> 4) * 10 + (byte & 15);

	fuzz_check(!taken || port == SERIAL_PORT);
	if (taken) {
		take(&pc->typed, byte);
		fuzz_goals[TYPED].count++;
	}
	if (port != RTC_PORT + 1 || pc->rtc.memory[11] & 0x80)
		return; /* while the clock is stopped its registers hold what was written */
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (pc->rtc.index == fields[i].index) {
			fuzz_check(number >= fields[i].least && number <= fields[i].most);
			fuzz_goals[CLOCK].count++;
		}
}

static void access_port(struct pc *pc, struct fuzz_input *input, uint8_t how)
{
	static const uint16_t ports[] = { SERIAL_PORT, SERIAL_PORT, SERIAL_PORT + 1,
		SERIAL_PORT + 2, SERIAL_PORT + 3, SERIAL_PORT + 4, SERIAL_PORT + 5, SERIAL_PORT + 6,
		SERIAL_PORT + 7, RTC_PORT, RTC_PORT + 1, PANIC_PORT, RTC_PORT + 1, 0x64,
		POWER_SLEEP_PORT, POWER_SLEEP_PORT + 1 };
	uint16_t port = how & 0x10 ? EVENTS_PORT + how % 4 : ports[how & 15];
	unsigned size = how & 0x40 ? 1U << fuzz_byte(input) % 3 : 1;
	unsigned tail = pc->serial.tail; /* which nobody else moves */
	uint64_t value = how & 0x20 ? fuzz_number(input, size) : 0;

	fuzz_goals[ACCESSES].count++;
	/* Of a longer access a device sees the low byte, or none where it runs out of the ports. */
	if (size > 1)
		pc->printed.torn = pc->typed.torn = pc->off = pc->reset = pc->panic =
			pc->crash_loaded = true;
	if (how & 0x20 && size == 1) {
		write_port(pc, port, value);
	} else if (how & 0x20) {
		space_write(&pc->pio, port, size, value);
	} else {
		value = space_read(&pc->pio, port, size);
		if (size == 1)
			check_read(pc, port, value, pc->serial.tail != tail);
	}
}

/* What reaches the guest of a key: Ctrl-A and the letter behind it do not, but for a second Ctrl-A. */
static bool passes(struct pc *pc, uint8_t byte)
{
	if (pc->raw)
		return true;
	if (!pc->escaped) {
		pc->escaped = byte == ESCAPE;
		return !pc->escaped;
	}
	pc->escaped = false;
	return byte == ESCAPE;
}

static bool type_byte(struct pc *pc, uint8_t byte)
{
	if (pc->by_hand)
		return serial_receive(&pc->serial, byte);
	return pc->user >= 0 && write(pc->user, &byte, 1) == 1 && passes(pc, byte);
}

static void type_bytes(struct pc *pc, struct fuzz_input *input)
{
	unsigned count = fuzz_byte(input) % 40;

	while (count-- && input->size) {
		uint8_t byte = fuzz_byte(input);

		if (type_byte(pc, byte))
			put(&pc->typed, byte);
	}
	settle(pc);
}

/* As the console's writer does. */
static size_t write_by_hand(struct pc *pc, uint8_t *bytes, size_t most)
{
	struct console *console = &pc->console;
	bool was_full = console->was_full && console->head != console->tail;
	size_t count = 0;

	while (count < most && console->head != console->tail)
		bytes[count++] = console->buffer[console->tail++ % CONSOLE_BUFFER];
	if (was_full) {
		console->was_full = false;
		serial_room(&pc->serial);
	}
	return count;
}

static void read_terminal(struct pc *pc, unsigned most)
{
	uint8_t bytes[256];
	ssize_t got = 0;

	most = min_u64(most, sizeof(bytes));
	if (pc->by_hand)
		got = write_by_hand(pc, bytes, most);
	else if (pc->user >= 0)
		got = read(pc->user, bytes, most);
	for (ssize_t i = 0; i < got; i++) {
		take(&pc->printed, bytes[i]);
		fuzz_goals[PRINTED].count++;
	}
}

/* A guest that prints a lot at once, so that the buffer fills: by hand to so many bytes below its end. */
static void print_many(struct pc *pc, unsigned count)
{
	struct console *console = &pc->console;

	if (pc->filled || console->config.out < 0)
		return;
	pc->filled = true; /* once, for it takes its time */
	if (!pc->by_hand)
		for (unsigned i = 0; i < CONSOLE_BUFFER + count; i++)
			write_port(pc, SERIAL_PORT, i);
	while (pc->by_hand && console->head - console->tail < CONSOLE_BUFFER - count) {
		console->buffer[console->head % CONSOLE_BUFFER] = count;
		console->head++;
		put(&pc->printed, count);
	}
}

static void step(struct pc *pc, struct fuzz_input *input)
{
	uint8_t how = fuzz_byte(input);

	if (how < 0x80)
		access_port(pc, input, how);
	else if (how < 0xa0)
		type_bytes(pc, input);
	else if (how < 0xd0)
		read_terminal(pc, how);
	else if (how < 0xf8)
		settle(pc);
	else if (how < 0xfc)
		events_raise(&pc->events, 1U << fuzz_byte(input) % 32);
	else
		print_many(pc, fuzz_byte(input));
	check_line(pc);
}

/* A terminal, a file, or nothing. */
static void open_console(struct pc *pc, uint8_t how)
{
	struct console_config config = { -1, -1, how & 1, how & 2 };
	const struct console_ops ops = { on_byte, on_room, on_key, on_key, pc };
	struct error err = { 0 };
	int ends[2], least = 1;

	pc->user = -1;
	pc->raw = !config.escapes;
	pc->by_hand = how >= 0x20;
	if (pc->by_hand) {
		config.out = how & 8 ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);
	} else if (how & 4) {
		config.out = memfd_create("output", MFD_CLOEXEC);
	} else if (!(how & 8)) {
		fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | (how & 16 ? SOCK_NONBLOCK : 0), 0,
				   ends) == 0);
		setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
		config.in = ends[0];
		config.out = fcntl(ends[0], F_DUPFD_CLOEXEC, 3);
		pc->user = ends[1];
		fcntl(pc->user, F_SETFL, O_NONBLOCK);
	}
	fuzz_check(console_init(&pc->console, &config, &ops, &err) == 0);
}

/* All that the guest has printed comes to who reads. */
static void drain(struct pc *pc)
{
	struct pollfd more = { .fd = pc->user, .events = POLLIN };

	while (pc->by_hand && pc->console.head != pc->console.tail)
		read_terminal(pc, 256);
	while (pc->user >= 0 && (pc->printed.torn ? pc->console.head != pc->console.tail
						  : pc->printed.out < pc->printed.in)) {
		fuzz_check(poll(&more, 1, FLUSH_MS) == 1 || pc->printed.torn);
		read_terminal(pc, 256);
	}
}

static void check_output(struct pc *pc)
{
	uint8_t bytes[4 * KIB];
	ssize_t got;

	if (pc->by_hand || pc->user >= 0 || pc->console.config.out < 0)
		return;
	lseek(pc->console.config.out, 0, SEEK_SET);
	while ((got = read(pc->console.config.out, bytes, sizeof(bytes))) > 0)
		for (ssize_t i = 0; i < got; i++) {
			take(&pc->printed, bytes[i]);
			fuzz_goals[PRINTED].count++;
		}
	fuzz_check(pc->printed.torn || pc->printed.out == pc->printed.in); /* none is lost */
}

static void close_console(struct pc *pc)
{
	drain(pc);
	console_destroy(&pc->console);
	check_output(pc);
	if (pc->user >= 0)
		close(pc->user);
	if (pc->console.config.in >= 0)
		close(pc->console.config.in);
	if (pc->console.config.out >= 0)
		close(pc->console.config.out);
}

void fuzz_one(struct fuzz_input *input)
{
	static struct pc pc;
	unsigned before = fuzz_descriptors();
	struct memory memory = { .regions = { { 0, GIB, NULL } }, .count = 1, .size = GIB };
	struct error err = { 0 };

	kernel_reset(input);
	memset(&pc, 0, sizeof(pc));
	pc.vm = (struct kvm_vm){ .fd = -1 };
	pc.power = (struct power){ .off = on_off, .reset = on_reset, .opaque = &pc };
	pc.panic_port = (struct panic){ on_panic, on_crash_loaded, &pc };
	pc.events = (struct events){ .ejected = on_ejected, .opaque = &pc };
	space_init(&pc.pio);
	open_console(&pc, fuzz_byte(input));
	fuzz_check(serial_init(&pc.serial, &pc.pio, &pc.vm, &pc.console) == 0);
	fuzz_check(rtc_init(&pc.rtc, &pc.pio, false, &memory) == 0);
	fuzz_check(power_init(&pc.power, &pc.pio, false) == 0);
	fuzz_check(panic_init(&pc.panic_port, &pc.pio) == 0);
	fuzz_check(events_init(&pc.events, &pc.pio, &pc.vm) == 0);
	fuzz_check(pc.by_hand || console_start(&pc.console, &err) == 0);
	for (unsigned i = 0; i < STEPS_MAX && input->size; i++)
		step(&pc, input);
	close_console(&pc);
	space_destroy(&pc.pio);
	kernel_check_idle();
	fuzz_check(fuzz_descriptors() == before);
}
