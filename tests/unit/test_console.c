/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/console.h"
#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS  5000 /* for what must come */
#define QUIET_MS 50   /* for what must not */

/*
 * A console between two pipes, and a guest that takes as many bytes as the test allows.
 */
struct fixture {
	struct console console;
	int in[2], out[2];
	bool running;
	pthread_mutex_t lock; /* for the rest */
	pthread_cond_t changed;
	uint8_t received[4096];
	unsigned count, allowed;
	unsigned rooms, quits, presses;
};

static bool receive(void *opaque, uint8_t byte)
{
	struct fixture *fixture = opaque;
	bool taken;

	pthread_mutex_lock(&fixture->lock);
	taken = fixture->count < fixture->allowed;
	if (taken)
		fixture->received[fixture->count++] = byte;
	pthread_cond_signal(&fixture->changed);
	pthread_mutex_unlock(&fixture->lock);
	return taken;
}

static void count_one(struct fixture *fixture, unsigned *count)
{
	pthread_mutex_lock(&fixture->lock);
	(*count)++;
	pthread_cond_signal(&fixture->changed);
	pthread_mutex_unlock(&fixture->lock);
}

static void room(void *opaque)
{
	struct fixture *fixture = opaque;

	count_one(fixture, &fixture->rooms);
}

static void quit(void *opaque)
{
	struct fixture *fixture = opaque;

	count_one(fixture, &fixture->quits);
}

static void press_button(void *opaque)
{
	struct fixture *fixture = opaque;

	count_one(fixture, &fixture->presses);
}

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	pthread_mutex_init(&fixture.lock, NULL);
	pthread_cond_init(&fixture.changed, NULL);
	fixture.allowed = sizeof(fixture.received);
	if (pipe(fixture.in) < 0 || pipe(fixture.out) < 0)
		return -1;
	fcntl(fixture.out[0], F_SETFL, O_NONBLOCK);
	signal(SIGPIPE, SIG_IGN);
	*state = &fixture;
	return 0;
}

static void start_with(struct fixture *fixture, struct console_config config)
{
	const struct console_ops ops = { receive, room, quit, press_button, fixture };
	struct error err = { 0 };

	assert_int_equal(console_init(&fixture->console, &config, &ops, &err), 0);
	fixture->running = true;
	assert_int_equal(console_start(&fixture->console, &err), 0);
}

static void start(struct fixture *fixture)
{
	start_with(
		fixture, (struct console_config){ .in = fixture->in[0], .out = fixture->out[1] });
}

static void stop(struct fixture *fixture)
{
	if (!fixture->running)
		return;
	console_destroy(&fixture->console);
	fixture->running = false;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	/* Or what is still buffered would be waited for. */
	close(fixture->out[0]);
	stop(fixture);
	close(fixture->in[0]);
	close(fixture->in[1]);
	close(fixture->out[1]);
	return 0;
}

/* Until *count is at least wanted. */
static void wait_for(struct fixture *fixture, const unsigned *count, unsigned wanted)
{
	struct timespec end;
	int code = 0;
	unsigned seen;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&fixture->lock);
	while (*count < wanted && !code)
		code = pthread_cond_timedwait(&fixture->changed, &fixture->lock, &end);
	seen = *count;
	pthread_mutex_unlock(&fixture->lock);
	if (seen < wanted)
		fail_msg("%u of %u came", seen, wanted);
}

/* What the loop's thread reads or writes, too. */
static unsigned get(struct fixture *fixture, const unsigned *count)
{
	unsigned seen;

	pthread_mutex_lock(&fixture->lock);
	seen = *count;
	pthread_mutex_unlock(&fixture->lock);
	return seen;
}

static void set(struct fixture *fixture, unsigned *count, unsigned value)
{
	pthread_mutex_lock(&fixture->lock);
	*count = value;
	pthread_mutex_unlock(&fixture->lock);
}

static void pause_ms(unsigned ms)
{
	usleep(ms * 1000);
}

static void put(struct fixture *fixture, const char *text)
{
	while (*text)
		console_put(&fixture->console, *text++);
}

static void type(struct fixture *fixture, const char *text)
{
	assert_int_equal(write(fixture->in[1], text, strlen(text)), strlen(text));
}

/* Read size bytes of what comes out; fewer where no more come. */
static size_t read_out(struct fixture *fixture, uint8_t *bytes, size_t size)
{
	struct pollfd out = { .fd = fixture->out[0], .events = POLLIN };
	size_t used = 0;

	while (used < size && poll(&out, 1, WAIT_MS) == 1) {
		ssize_t got = read(fixture->out[0], bytes + used, size - used);

		if (got <= 0)
			break;
		used += got;
	}
	return used;
}

static void assert_out(struct fixture *fixture, const char *text)
{
	uint8_t bytes[256] = "";

	assert_int_equal(read_out(fixture, bytes, strlen(text)), strlen(text));
	assert_string_equal((char *)bytes, text);
}

/* Output */

static void output_comes_out(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	put(fixture, "hello\n");
	assert_out(fixture, "hello\n");
	put(fixture, "again");
	assert_out(fixture, "again");
}

/* Several times the buffer, with a reader that keeps up: in order, and whole. */
static void much_output_stays_in_order(void **state)
{
	static uint8_t bytes[1000];
	struct fixture *fixture = *state;
	unsigned at = 0;

	start(fixture);
	for (unsigned round = 0; round < 3 * CONSOLE_BUFFER / sizeof(bytes); round++) {
		for (unsigned i = 0; i < sizeof(bytes); i++)
			console_put(&fixture->console, (round * sizeof(bytes) + i) % 251);
		assert_int_equal(read_out(fixture, bytes, sizeof(bytes)), sizeof(bytes));
		for (unsigned i = 0; i < sizeof(bytes); i++)
			assert_int_equal(bytes[i], at++ % 251);
	}
}

static void output_may_be_a_file(void **state)
{
	struct fixture *fixture = *state;
	int file = memfd_create("log", MFD_CLOEXEC);
	char text[32] = "";

	start_with(fixture, (struct console_config){ .in = -1, .out = file });
	put(fixture, "hello ");
	pause_ms(QUIET_MS);
	put(fixture, "file");
	stop(fixture);
	assert_int_equal(pread(file, text, sizeof(text), 0), 10);
	assert_string_equal(text, "hello file");
	close(file);
}

static void what_is_buffered_comes_out_at_the_end(void **state)
{
	struct fixture *fixture = *state;
	uint8_t bytes[3000];

	start(fixture);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		console_put(&fixture->console, i);
	console_destroy(&fixture->console);
	fixture->running = false;
	assert_int_equal(read_out(fixture, bytes, sizeof(bytes)), sizeof(bytes));
	for (unsigned i = 0; i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], i & 0xff);
}

/* Until there is no room; how many bytes that took. */
static unsigned fill(struct fixture *fixture)
{
	unsigned count = 0, idle = 0;

	/* Its buffer empties as long as the pipe takes something. */
	while (idle < 5) {
		if (console_has_room(&fixture->console)) {
			console_put(&fixture->console, count++ % 251);
			idle = 0;
		} else {
			pause_ms(10);
			idle++;
		}
	}
	return count;
}

static void a_slow_reader_is_waited_for(void **state)
{
	struct fixture *fixture = *state;
	static uint8_t bytes[1 << 20];
	unsigned count;

	start(fixture);
	count = fill(fixture);
	assert_true(count > CONSOLE_BUFFER);
	assert_true(count < sizeof(bytes));
	/* The note that there is room comes once there is some, and only then. */
	set(fixture, &fixture->rooms, 0);
	pause_ms(QUIET_MS);
	assert_int_equal(get(fixture, &fixture->rooms), 0);
	assert_int_equal(read_out(fixture, bytes, count), count);
	wait_for(fixture, &fixture->rooms, 1);
	assert_true(console_has_room(&fixture->console));
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(bytes[i], i % 251);
}

static void what_finds_no_room_is_dropped(void **state)
{
	struct fixture *fixture = *state;
	static uint8_t bytes[1 << 20];
	unsigned count;

	start(fixture);
	count = fill(fixture);
	put(fixture, "fifteen are left");
	put(fixture, "dropped");
	assert_int_equal(read_out(fixture, bytes, count), count);
	assert_out(fixture, "fifteen are lef");
	put(fixture, "kept");
	assert_out(fixture, "kept");
}

/* A pseudo-terminal that nobody may be looking at. */
static void a_lossy_console_never_holds_up(void **state)
{
	struct fixture *fixture = *state;
	struct console_config config = { .in = -1, .out = fixture->out[1], .lossy = true };

	start_with(fixture, config);
	for (unsigned i = 0; i < 200 * KIB; i++) {
		assert_true(console_has_room(&fixture->console));
		console_put(&fixture->console, 'x');
	}
	assert_true(console_has_room(&fixture->console));
}

/* A megabyte while nobody looks: who comes then sees some of the old, and all that is new. */
static void a_late_reader_of_a_pseudo_terminal_sees_what_comes(void **state)
{
	struct fixture *fixture = *state;
	struct pollfd ready = { .events = POLLIN };
	struct termios raw;
	char bytes[4096] = "";
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	assert_int_equal(grantpt(master) + unlockpt(master), 0);
	ready.fd = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	assert_int_equal(tcgetattr(ready.fd, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(ready.fd, TCSANOW, &raw), 0);
	start_with(fixture,
		(struct console_config){ .in = fixture->in[0], .out = master, .lossy = true });
	for (unsigned i = 0; i < MIB; i++)
		console_put(&fixture->console, 'x');
	type(fixture, "k");
	wait_for(fixture, &fixture->count, 1);
	while (poll(&ready, 1, 10 * QUIET_MS) == 1)
		assert_true(read(ready.fd, bytes, sizeof(bytes)) > 0);
	put(fixture, "late");
	for (ssize_t got = 0, more; got < 4; got += more) {
		assert_int_equal(poll(&ready, 1, WAIT_MS), 1);
		more = read(ready.fd, bytes + got, sizeof(bytes) - got);
		assert_true(more > 0);
	}
	assert_memory_equal(bytes, "late", 4);
	stop(fixture);
	close(ready.fd);
	close(master);
}

/*
 * A description that is shared with others and blocks, and polls as writable although there is no room
 * for a piece.
 */
static void a_terminal_that_nobody_reads_holds_up_no_input(void **state)
{
	struct fixture *fixture = *state;
	struct termios settings;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;

	assert_int_equal(grantpt(master) + unlockpt(master), 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_int_equal(tcgetattr(slave, &settings), 0);
	settings.c_oflag = OPOST | ONLCR | XTABS;
	assert_int_equal(tcsetattr(slave, TCSANOW, &settings), 0);
	start_with(fixture, (struct console_config){ .in = fixture->in[0], .out = slave });
	for (unsigned idle = 0; idle < 5;) {
		for (idle = 0; idle < 5 && !console_has_room(&fixture->console); idle++)
			pause_ms(10);
		for (unsigned i = 0; idle < 5 && i < 100; i++)
			console_put(&fixture->console, i % 3 ? '\n' : '\t');
	}
	type(fixture, "x");
	wait_for(fixture, &fixture->count, 1);
	close(master);
	stop(fixture);
	close(slave);
}

static void without_an_end_output_is_dropped(void **state)
{
	struct fixture *fixture = *state;

	start_with(fixture, (struct console_config){ .in = -1, .out = -1 });
	for (unsigned i = 0; i < 2 * CONSOLE_BUFFER; i++)
		console_put(&fixture->console, 'x');
	assert_true(console_has_room(&fixture->console));
}

static void a_reader_that_has_gone_holds_up_nothing(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	fill(fixture);
	set(fixture, &fixture->rooms, 0);
	close(fixture->out[0]);
	wait_for(fixture, &fixture->rooms, 1);
	for (unsigned i = 0; i < 10 * CONSOLE_BUFFER; i++) {
		for (unsigned tries = 0; !console_has_room(&fixture->console); tries++) {
			assert_true(tries < WAIT_MS);
			pause_ms(1);
		}
		console_put(&fixture->console, 'x');
	}
	fixture->out[0] = open("/dev/null", O_RDONLY); /* for the teardown */
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

static void *read_slowly(void *opaque)
{
	const struct fixture *fixture = opaque;
	char bytes[PIPE_BUF];

	do
		pause_ms(1000);
	while (read(fixture->out[0], bytes, sizeof(bytes)) > 0);
	return NULL;
}

/* However often a little of it can be written. */
static void the_end_has_one_deadline(void **state)
{
	struct fixture *fixture = *state;
	pthread_t reader;
	uint64_t before;

	fcntl(fixture->out[0], F_SETFL, 0);
	assert_true(fcntl(fixture->out[0], F_SETPIPE_SZ, PIPE_BUF) > 0);
	start(fixture);
	fill(fixture);
	assert_int_equal(pthread_create(&reader, NULL, read_slowly, fixture), 0);
	before = now_ms();
	stop(fixture);
	assert_true(now_ms() - before >= 1500);
	assert_true(now_ms() - before < 3500);
	close(fixture->out[1]);
	fixture->out[1] = -1;
	pthread_join(reader, NULL);
}

/* Input */

static void *steal(void *opaque)
{
	const struct fixture *fixture = opaque;
	char byte;

	while (read(fixture->in[0], &byte, 1) == 1 && byte != 'q')
		continue;
	return NULL;
}

/* What was ready is gone when it is read: that may block the reading, and nothing else. */
static void another_reader_may_be_first(void **state)
{
	struct fixture *fixture = *state;
	pthread_t thief;

	start(fixture);
	assert_int_equal(pthread_create(&thief, NULL, steal, fixture), 0);
	for (unsigned i = 0; i < 500; i++) {
		type(fixture, "x");
		usleep(100);
	}
	put(fixture, "ok");
	assert_out(fixture, "ok");
	stop(fixture);
	type(fixture, "q");
	pthread_join(thief, NULL);
}

static void input_arrives(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	type(fixture, "hello\x01x\x03\x1c");
	wait_for(fixture, &fixture->count, 9);
	assert_memory_equal(fixture->received, "hello\x01x\x03\x1c", 9);
	assert_int_equal(fixture->quits, 0);
}

static void the_guest_is_waited_for(void **state)
{
	struct fixture *fixture = *state;

	fixture->allowed = 3;
	start(fixture);
	type(fixture, "abcdefgh");
	wait_for(fixture, &fixture->count, 3);
	pause_ms(QUIET_MS);
	console_resume(&fixture->console); /* still no room */
	pause_ms(QUIET_MS);
	assert_int_equal(get(fixture, &fixture->count), 3);
	set(fixture, &fixture->allowed, 5);
	console_resume(&fixture->console);
	wait_for(fixture, &fixture->count, 5);
	set(fixture, &fixture->allowed, 100);
	console_resume(&fixture->console);
	wait_for(fixture, &fixture->count, 8);
	assert_memory_equal(fixture->received, "abcdefgh", 8);
}

static void input_may_be_a_file(void **state)
{
	struct fixture *fixture = *state;
	int file = memfd_create("script", MFD_CLOEXEC);

	assert_int_equal(write(file, "abcdefgh", 8), 8);
	lseek(file, 0, SEEK_SET);
	fixture->allowed = 3;
	start_with(fixture, (struct console_config){ .in = file, .out = fixture->out[1] });
	wait_for(fixture, &fixture->count, 3);
	set(fixture, &fixture->allowed, 100);
	console_resume(&fixture->console);
	wait_for(fixture, &fixture->count, 8);
	assert_memory_equal(fixture->received, "abcdefgh", 8);
	put(fixture, "ok");
	assert_out(fixture, "ok");
	stop(fixture);
	close(file);
}

static void without_an_end_there_is_no_input(void **state)
{
	struct fixture *fixture = *state;

	start_with(fixture, (struct console_config){ .in = -1, .out = fixture->out[1] });
	console_resume(&fixture->console);
	put(fixture, "ok");
	assert_out(fixture, "ok");
	assert_int_equal(fixture->count, 0);
}

static long cpu_ms(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* An end of file is always readable: it must not keep a CPU busy. */
static void the_end_of_the_input_is_quiet(void **state)
{
	struct fixture *fixture = *state;
	long before;

	start(fixture);
	type(fixture, "last");
	wait_for(fixture, &fixture->count, 4);
	close(fixture->in[1]);
	fixture->in[1] = -1;
	pause_ms(QUIET_MS);
	before = cpu_ms();
	pause_ms(4 * QUIET_MS);
	assert_true(cpu_ms() - before < 2 * QUIET_MS);
	console_resume(&fixture->console);
	put(fixture, "ok");
	assert_out(fixture, "ok");
}

/* Escapes */

static void start_terminal(struct fixture *fixture)
{
	start_with(
		fixture, (struct console_config){
				 .in = fixture->in[0], .out = fixture->out[1], .escapes = true });
}

static void ctrl_a_x_leaves(void **state)
{
	struct fixture *fixture = *state;

	start_terminal(fixture);
	type(fixture, "xp\x01x");
	wait_for(fixture, &fixture->quits, 1);
	assert_int_equal(fixture->count, 2);
	assert_int_equal(fixture->presses, 0);
}

static void ctrl_a_p_presses_the_button(void **state)
{
	struct fixture *fixture = *state;

	start_terminal(fixture);
	type(fixture, "\x01");
	pause_ms(QUIET_MS); /* the two keys need not come together */
	type(fixture, "pa");
	wait_for(fixture, &fixture->count, 1);
	assert_int_equal(fixture->presses, 1);
	assert_int_equal(fixture->quits, 0);
	assert_int_equal(fixture->received[0], 'a');
}

static void ctrl_a_twice_is_one_ctrl_a(void **state)
{
	struct fixture *fixture = *state;

	start_terminal(fixture);
	type(fixture, "\x01\x01x\x01\x01\x01\x01p");
	wait_for(fixture, &fixture->count, 5);
	assert_memory_equal(fixture->received, "\x01x\x01\x01p", 5);
	assert_int_equal(fixture->quits + fixture->presses, 0);
}

static void other_letters_after_ctrl_a_are_dropped(void **state)
{
	struct fixture *fixture = *state;

	start_terminal(fixture);
	type(fixture, "\x01zyx");
	wait_for(fixture, &fixture->count, 2);
	assert_memory_equal(fixture->received, "yx", 2);
	assert_int_equal(fixture->quits, 0);
}

/* It may hang; this is the way out. */
static void a_guest_that_takes_nothing_can_be_left(void **state)
{
	struct fixture *fixture = *state;

	fixture->allowed = 0;
	start_terminal(fixture);
	for (unsigned i = 0; i < 2 * CONSOLE_KEYS / 16; i++)
		type(fixture, "0123456789abcdef");
	type(fixture, "\x01x");
	wait_for(fixture, &fixture->quits, 1);
	/* And what it does take later are the first keys, in order. */
	set(fixture, &fixture->allowed, 16);
	console_resume(&fixture->console);
	wait_for(fixture, &fixture->count, 16);
	assert_memory_equal(fixture->received, "0123456789abcdef", 16);
}

/* Several vCPUs, who take turns as the serial port's lock makes them, against the loop's thread. */

#define WRITERS    3
#define PER_WRITER 20000U

struct writer {
	struct fixture *fixture;
	pthread_mutex_t *port;
	pthread_t thread;
	uint8_t letter;
};

static void *write_letters(void *opaque)
{
	struct writer *writer = opaque;
	struct console *console = &writer->fixture->console;

	for (unsigned done = 0; done < PER_WRITER;) {
		pthread_mutex_lock(writer->port);
		if (console_has_room(console)) {
			console_put(console, writer->letter);
			done++;
		}
		pthread_mutex_unlock(writer->port);
		if (done % 100 == 0)
			console_resume(console);
	}
	return NULL;
}

static void vcpus_write_while_the_loop_does(void **state)
{
	static uint8_t bytes[WRITERS * PER_WRITER];
	pthread_mutex_t port = PTHREAD_MUTEX_INITIALIZER;
	struct writer writers[WRITERS];
	struct fixture *fixture = *state;
	unsigned counts[WRITERS] = { 0 };

	start(fixture);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ fixture, &port, 0, 'a' + i };
		assert_int_equal(
			pthread_create(&writers[i].thread, NULL, write_letters, &writers[i]), 0);
	}
	type(fixture, "input that comes meanwhile");
	assert_int_equal(read_out(fixture, bytes, sizeof(bytes)), sizeof(bytes));
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_in_range(bytes[i], 'a', 'a' + WRITERS - 1);
		counts[bytes[i] - 'a']++;
	}
	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(counts[i], PER_WRITER);
	wait_for(fixture, &fixture->count, 26);
}

#define CONSOLE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONSOLE_TEST(output_comes_out),
		CONSOLE_TEST(much_output_stays_in_order),
		CONSOLE_TEST(output_may_be_a_file),
		CONSOLE_TEST(what_is_buffered_comes_out_at_the_end),
		CONSOLE_TEST(a_slow_reader_is_waited_for),
		CONSOLE_TEST(what_finds_no_room_is_dropped),
		CONSOLE_TEST(a_lossy_console_never_holds_up),
		CONSOLE_TEST(without_an_end_output_is_dropped),
		CONSOLE_TEST(a_reader_that_has_gone_holds_up_nothing),
		CONSOLE_TEST(a_late_reader_of_a_pseudo_terminal_sees_what_comes),
		CONSOLE_TEST(a_terminal_that_nobody_reads_holds_up_no_input),
		CONSOLE_TEST(the_end_has_one_deadline),
		CONSOLE_TEST(another_reader_may_be_first),
		CONSOLE_TEST(input_arrives),
		CONSOLE_TEST(the_guest_is_waited_for),
		CONSOLE_TEST(input_may_be_a_file),
		CONSOLE_TEST(without_an_end_there_is_no_input),
		CONSOLE_TEST(the_end_of_the_input_is_quiet),
		CONSOLE_TEST(ctrl_a_x_leaves),
		CONSOLE_TEST(ctrl_a_p_presses_the_button),
		CONSOLE_TEST(ctrl_a_twice_is_one_ctrl_a),
		CONSOLE_TEST(other_letters_after_ctrl_a_are_dropped),
		CONSOLE_TEST(a_guest_that_takes_nothing_can_be_left),
		CONSOLE_TEST(vcpus_write_while_the_loop_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
