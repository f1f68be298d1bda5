/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "display/keys.h"
#include "display/png.h"
#include "test.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <zlib.h>

/*
 * The program that shows a display, in its sandbox, as the broker starts it: with a machine, a broker, and clients of VNC
 * that are this test.
 */

#define LIMIT_MS 20000
#define KEY_A    0x61
#define NAME     "tested"

struct fixture {
	uint8_t *file; /* the machine's memory of it */
	char path[64];
	int machine, broker; /* our ends */
	pid_t pid;
};

static struct display_shared *shared(const struct fixture *fixture)
{
	return (struct display_shared *)(fixture->file + DISPLAY_MEMORY);
}

static void show(const struct fixture *fixture, uint32_t width, uint32_t height)
{
	display_mode_tell(shared(fixture), &(struct display_mode){ width, height, width * 4, 0 });
}

static _Noreturn void run_display(const int fds[static 4])
{
	const char *program = getenv("PENSTOCK_DISPLAY");
	char texts[4][16];

	for (unsigned i = 0; i < 4; i++) {
		fcntl(fds[i], F_SETFD, 0);
		snprintf(texts[i], sizeof(texts[i]), "%d", fds[i]);
	}
	execl(program, "penstock-display", NAME, texts[0], texts[1], texts[2], texts[3], NULL);
	_exit(127);
}

static int start(struct fixture *fixture, int memory)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct display_answer ready;
	int events[2], control[2];

	snprintf(fixture->path, sizeof(fixture->path), "/tmp/penstock-vnc-%d", getpid());
	memcpy(address.sun_path, fixture->path, sizeof(fixture->path));
	unlink(fixture->path);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(listener, 4) < 0 ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, events) < 0 ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
		return -1;
	fcntl(events[1], F_SETFL, O_NONBLOCK);
	fixture->machine = events[0];
	fixture->broker = control[0];
	fixture->pid = fork();
	if (fixture->pid == 0)
		run_display((const int[]){ listener, events[1], control[1], memory });
	close(listener);
	close(events[1]);
	close(control[1]);
	if (fixture->pid < 0 || read(control[0], &ready, sizeof(ready)) != sizeof(ready))
		return -1;
	return ready.id || ready.code ? -1 : 0;
}

static int setup(void **state)
{
	static struct fixture fixture;
	cleanup_fd int memory = memfd_create("display", MFD_CLOEXEC);

	fixture = (struct fixture){ .machine = -1, .broker = -1 };
	*state = &fixture;
	if (memory < 0 || ftruncate(memory, DISPLAY_FILE_SIZE) < 0)
		return -1;
	fixture.file = mmap(NULL, DISPLAY_FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	return start(&fixture, memory);
}

/* It ends when the broker is gone, and not before: nothing that has been done to it was its end. */
static int teardown(void **state)
{
	struct fixture *fixture = *state;
	int status = -1;
	pid_t ended = waitpid(fixture->pid, &status, WNOHANG);

	close(fixture->broker);
	close(fixture->machine);
	if (ended == 0)
		waitpid(fixture->pid, &status, 0);
	munmap(fixture->file, DISPLAY_FILE_SIZE);
	unlink(fixture->path);
	if (ended || status)
		print_message(
			"it has ended %s, with status %#x\n", ended ? "early" : "at last", status);
	return ended || status ? -1 : 0;
}

/* A client of VNC (RFC 6143) */

static void receive(int fd, void *bytes, size_t size)
{
	char *at = bytes;

	while (size) {
		struct pollfd wait = { fd, POLLIN, 0 };
		ssize_t got;

		assert_int_equal(poll(&wait, 1, LIMIT_MS), 1);
		got = read(fd, at, size);
		assert_true(got > 0);
		at += got;
		size -= got;
	}
}

static void transmit(int fd, const void *bytes, size_t size)
{
	assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

static int connect_only(const struct fixture *fixture)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, fixture->path, sizeof(fixture->path));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static int connect_viewer(const struct fixture *fixture, uint16_t *width, uint16_t *height)
{
	int fd = connect_only(fixture);
	uint8_t bytes[32];
	uint16_t side;

	receive(fd, bytes, 12);
	assert_memory_equal(bytes, "RFB 003.00", 10);
	transmit(fd, "RFB 003.008\n", 12);
	receive(fd, bytes, 2);
	assert_int_equal(bytes[1], 1); /* no password */
	transmit(fd, "\1", 1);
	receive(fd, bytes, 4);
	transmit(fd, "\1", 1);
	receive(fd, bytes, 24);
	memcpy(&side, bytes, 2);
	*width = be16toh(side);
	memcpy(&side, bytes + 2, 2);
	*height = be16toh(side);
	assert_memory_equal(bytes + 4, "\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00", 13);
	receive(fd, bytes, strlen(NAME));
	assert_memory_equal(bytes, NAME, strlen(NAME));
	return fd;
}

static void set_encodings(int fd, int32_t first, int32_t second)
{
	const struct {
		uint8_t type, pad;
		uint16_t count;
		int32_t encodings[2];
	} message = { 2, 0, htobe16(2), { htobe32(first), htobe32(second) } };

	transmit(fd, &message, sizeof(message));
}

static void ask_for_update(int fd, bool incremental)
{
	const uint16_t area[4] = { 0, 0, 0xffff, 0xffff };
	uint8_t head[2] = { 3, incremental };

	transmit(fd, head, sizeof(head));
	transmit(fd, area, sizeof(area));
}

struct rectangle {
	uint16_t x, y, width, height;
	int32_t encoding;
} __attribute__((packed));

static struct rectangle next_rectangle(int fd)
{
	struct rectangle rectangle;

	receive(fd, &rectangle, sizeof(rectangle));
	return (struct rectangle){ be16toh(rectangle.x), be16toh(rectangle.y),
		be16toh(rectangle.width), be16toh(rectangle.height), be32toh(rectangle.encoding) };
}

static unsigned next_update(int fd)
{
	uint8_t head[4];

	receive(fd, head, sizeof(head));
	assert_int_equal(head[0], 0);
	return head[2] << 8 | head[3];
}

static void press(int fd, bool down, uint32_t keysym)
{
	uint8_t head[4] = { 4, down };

	keysym = htobe32(keysym);
	transmit(fd, head, 4);
	transmit(fd, &keysym, 4);
}

static void point(int fd, uint8_t buttons, uint16_t x, uint16_t y)
{
	uint8_t bytes[6] = { 5, buttons, x >> 8, x, y >> 8, y };

	transmit(fd, bytes, sizeof(bytes));
}

static struct display_event next_event(const struct fixture *fixture)
{
	struct display_event event;

	receive(fixture->machine, &event, sizeof(event));
	return event;
}

static void expect_key(const struct fixture *fixture, uint32_t code, bool down)
{
	struct display_event event = next_event(fixture);

	assert_int_equal(event.type, DISPLAY_KEY);
	assert_int_equal(event.key.code, code);
	assert_int_equal(event.key.down, down);
}

static void viewers_see_what_is_drawn(void **state)
{
	struct fixture *fixture = *state;
	uint32_t *pixels = (uint32_t *)fixture->file, seen[64 * 16];
	uint16_t width, height;
	struct rectangle rectangle;
	int fd = connect_viewer(fixture, &width, &height);

	assert_int_equal(width, 640);
	set_encodings(fd, 0, -223);
	ask_for_update(fd, false);
	assert_int_equal(next_update(fd), 1);
	rectangle = next_rectangle(fd);
	for (unsigned row = 0; row < 480; row++)
		receive(fd, seen, 4 * 640);
	ask_for_update(fd, true);
	show(fixture, 800, 600);
	assert_int_equal(next_update(fd), 1);
	rectangle = next_rectangle(fd);
	assert_int_equal(rectangle.encoding, -223);
	assert_int_equal(rectangle.width, 800);
	ask_for_update(fd, true);
	assert_int_equal(next_update(fd), 1);
	rectangle = next_rectangle(fd);
	for (unsigned row = 0; row < 600; row++)
		receive(fd, seen, 4 * 800);
	/* and only the part that has changed later */
	ask_for_update(fd, true);
	pixels[599 * 800 + 799] = 0x123456;
	assert_int_equal(next_update(fd), 1);
	rectangle = next_rectangle(fd);
	assert_int_equal(rectangle.x, 768);
	assert_int_equal(rectangle.y, 592);
	assert_int_equal(rectangle.width, 32);
	assert_int_equal(rectangle.height, 8);
	receive(fd, seen, 32 * 8 * 4);
	assert_int_equal(seen[32 * 8 - 1], 0x123456);
	close(fd);
}

static void keys_and_pointer_reach_the_machine(void **state)
{
	struct fixture *fixture = *state;
	uint16_t width, height;
	int fd = connect_viewer(fixture, &width, &height);
	struct display_event event;

	press(fd, true, KEY_A);
	expect_key(fixture, 0x1e, true);
	press(fd, true, 0x1234567); /* no such key */
	press(fd, false, KEY_A);
	expect_key(fixture, 0x1e, false);
	point(fd, 0, 100, 100);
	point(fd, 5, 103, 98);
	point(fd, 0x10, 103, 98);
	event = next_event(fixture);
	assert_int_equal(event.pointer.right, 0);
	event = next_event(fixture);
	assert_int_equal(event.type, DISPLAY_POINTER);
	assert_int_equal(event.pointer.right, 3);
	assert_int_equal(event.pointer.down, -2);
	assert_int_equal(event.pointer.buttons, 3);
	event = next_event(fixture);
	assert_int_equal(event.pointer.wheel, 1);
	assert_int_equal(event.pointer.buttons, 0);
	/* what is held when a client goes is let go */
	press(fd, true, 0xff51);
	expect_key(fixture, DISPLAY_KEY_EXTENDED | 0x4b, true);
	point(fd, 1, 103, 98);
	next_event(fixture);
	close(fd);
	expect_key(fixture, DISPLAY_KEY_EXTENDED | 0x4b, false);
	event = next_event(fixture);
	assert_int_equal(event.type, DISPLAY_POINTER);
	assert_int_equal(event.pointer.buttons, 0);
}

static void every_encoding_is_within_the_sandbox(void **state)
{
	static const int32_t encodings[] = { 0, 1, 2, 4, 5, 6, 7, 8, 9, 16, 17, -260, 10, 1337 };
	struct fixture *fixture = *state;
	uint16_t width, height;

	show(fixture, 320, 200);
	for (size_t i = 0; i < ARRAY_SIZE(encodings); i++) {
		int fd = connect_viewer(fixture, &width, &height);
		uint8_t byte;

		set_encodings(fd, encodings[i], -32);
		ask_for_update(fd, false);
		receive(fd, &byte, 1);
		close(fd);
	}
}

static int32_t take_picture(const struct fixture *fixture, uint32_t id, int file)
{
	struct display_request request = { id };
	struct display_answer answer;
	struct iovec bytes = { &request, sizeof(request) };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr header = { .msg_iov = &bytes,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.space) };

	memcpy(CMSG_DATA(&control.header), &file, sizeof(file));
	assert_int_equal(sendmsg(fixture->broker, &header, 0), sizeof(request));
	receive(fixture->broker, &answer, sizeof(answer));
	assert_int_equal(answer.id, id);
	return answer.code;
}

/* Unpack what png_write() packs: its IDAT is behind 33 bytes of signature and IHDR. */
static void check_png(int file, unsigned width, unsigned height, const uint32_t *pixels)
{
	static uint8_t bytes[4 * MIB], rows[4 * MIB];
	ssize_t size = pread(file, bytes, sizeof(bytes), 0);
	uLongf rows_size = sizeof(rows);
	uint32_t length;

	assert_true(size > 33);
	assert_memory_equal(bytes + 1, "PNG", 3);
	memcpy(&length, bytes + 33, sizeof(length));
	length = be32toh(length);
	assert_int_equal(size, 33 + 12 + length + 12);
	assert_int_equal(uncompress(rows, &rows_size, bytes + 41, length), Z_OK);
	assert_int_equal(rows_size, height * (1 + 3 * width));
	for (unsigned i = 0; i < width * height; i++) {
		const uint8_t *rgb = rows + i / width * (1 + 3 * width) + 1 + i % width * 3;

		assert_int_equal(rgb[0] << 16 | rgb[1] << 8 | rgb[2], pixels[i] & 0xffffff);
	}
	memcpy(&length, bytes + size - 4, sizeof(length));
	assert_int_equal(be32toh(length), 0xae426082);
}

static void pictures_are_taken(void **state)
{
	struct fixture *fixture = *state;
	uint32_t *pixels = (uint32_t *)fixture->file;
	cleanup_fd int file = memfd_create("picture", 0);

	assert_int_equal(take_picture(fixture, 7, file), -ENODATA);
	show(fixture, 65, 17);
	for (unsigned i = 0; i < 65 * 17; i++)
		pixels[i] = 0xff000000 | i * 77777;
	assert_int_equal(take_picture(fixture, 8, file), 0);
	check_png(file, 65, 17, pixels);
	/* no file, or no request */
	transmit(fixture->broker, "x", 1);
	transmit(fixture->broker, "four", 4);
	assert_int_equal(take_picture(fixture, 9, file), 0);
}

/* They are told of VNC as everybody is, and a page in a browser gets nowhere with that. */
static void nobody_speaks_websockets(void **state)
{
	static const char request[] =
		"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
		"Connection: Upgrade\r\nOrigin: http://localhost\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		"Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Version: 13\r\n\r\n";
	struct fixture *fixture = *state;
	uint16_t width, height;
	char bytes[4];
	int fd = connect_only(fixture);

	transmit(fd, request, sizeof(request) - 1);
	receive(fd, bytes, sizeof(bytes));
	assert_memory_equal(bytes, "RFB ", 4);
	close(fd);
	close(connect_viewer(fixture, &width, &height));
}

static void bad_clients_harm_nobody(void **state)
{
	struct fixture *fixture = *state;
	uint16_t width, height;
	int idle[12], fd;

	fd = connect_only(fixture);
	transmit(fd, "GET / HTTP/1.1\r\n\r\n", 18);
	close(fd);
	fd = connect_viewer(fixture, &width, &height);
	transmit(fd, "\xff garbage that is no message", 28);
	close(fd);
	fd = connect_viewer(fixture, &width, &height);
	transmit(fd, "\x06\0\0\0\x7f\xff\xff\xff", 8); /* a clipboard of 2 GiB */
	close(fd);
	/* the guest's mode is nonsense, and changes all the time */
	fd = connect_viewer(fixture, &width, &height);
	for (unsigned i = 0; i < 200; i++) {
		shared(fixture)->mode =
			(struct display_mode){ i * 7919, i * 104729, i * 15485863, i };
		shared(fixture)->sequence += 2;
		poll(NULL, 0, 1);
	}
	close(fd);
	show(fixture, 320, 200);
	/* more than are let in */
	for (unsigned i = 0; i < 12; i++)
		idle[i] = connect_only(fixture);
	for (unsigned i = 0; i < 12; i++)
		close(idle[i]);
	fd = connect_viewer(fixture, &width, &height);
	assert_int_equal(width, 320);
	close(fd);
}

TEST(keys_have_a_place)
{
	static const uint32_t keys[][2] = { { 'a', 0x1e }, { 'A', 0x1e }, { '1', 0x02 },
		{ '!', 0x02 }, { '=', 0x0d }, { '+', 0x0d }, { '~', 0x29 }, { '|', 0x2b },
		{ '?', 0x35 }, { ' ', 0x39 }, { 0xff0d, 0x1c }, { 0xff1b, 0x01 }, { 0xffbe, 0x3b },
		{ 0xffc7, 0x44 }, { 0xffc9, 0x58 }, { 0xffb5, 0x4c }, { 0xffff, 0xd3 },
		{ 0xffec, 0xdc }, { 0, 0 }, { 0x7f, 0 }, { 0xe9, 0 }, { UINT32_MAX, 0 },
		{ 0x1000061, 0 }, { 0x10ff0d, 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_int_equal(keys_find(keys[i][0]), keys[i][1]);
	for (uint32_t keysym = 0; keysym < 0x20000; keysym++)
		assert_true((keys_find(keysym) & 0x7f) <= 0x5d);
}

int main(void)
{
#define DISPLAY_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_have_a_place),
		DISPLAY_TEST(viewers_see_what_is_drawn),
		DISPLAY_TEST(keys_and_pointer_reach_the_machine),
		DISPLAY_TEST(every_encoding_is_within_the_sandbox),
		DISPLAY_TEST(pictures_are_taken),
		DISPLAY_TEST(nobody_speaks_websockets),
		DISPLAY_TEST(bad_clients_harm_nobody),
	};

	return test_run(tests);
}
