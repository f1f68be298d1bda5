/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "broker/display.h"
#include "host/system/guard.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>

/* The process that shows a display, as the broker starts, asks and ends it: penstock-display itself. */

#define STEPS    200 /* of the loop, of LIMIT_MS at most */
#define LIMIT_MS 100

struct fixture {
	char directory[64];
	struct host host;
	struct broker_config config;
	struct broker_firmware firmware;
	struct broker_display display;
	struct loop *loop;
	uint32_t taken;
	int code;
};

/* Where this program is: the test says. */
static char self[PATH_MAX];

ssize_t __wrap_readlink(const char *path, char *buffer, size_t size);
ssize_t __wrap_readlink(const char *path, char *buffer, size_t size)
{
	size_t length = strlen(self);

	assert_string_equal(path, "/proc/self/exe");
	memcpy(buffer, self, length < size ? length : size);
	return length;
}

pid_t __real_fork(void);
pid_t __wrap_fork(void);
static bool no_fork;
pid_t __wrap_fork(void)
{
	errno = EAGAIN;
	return no_fork ? -1 : __real_fork();
}

/* Of one process or session, and never of all. */
int __real_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal)
{
	assert_true(pid > 1 || pid < -1);
	return __real_kill(pid, signal);
}

/* Time passes for the broker. */
uint64_t __real_guard_now(void);
uint64_t __wrap_guard_now(void);
static uint64_t later_ms;
uint64_t __wrap_guard_now(void)
{
	return __real_guard_now() + later_ms;
}

static bool no_patience;
int __real_timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	const struct itimerspec soon = { .it_value.tv_nsec = 50000000 };

	return __real_timerfd_settime(fd, flags, no_patience ? &soon : new, old);
}

static void on_taken(void *opaque, uint32_t id, int code)
{
	struct fixture *fixture = opaque;

	fixture->taken = id;
	fixture->code = code;
}

static int setup(void **state)
{
	static struct fixture fixture;
	struct error err = { 0 };

	fixture = (struct fixture){
		.directory = "/tmp/penstock-display-XXXXXX",
		.config = { .name = "vm", .vnc = { .wanted = true } },
		.display = BROKER_DISPLAY_NONE,
		.loop = loop_new(&err),
	};
	no_fork = no_patience = false;
	later_ms = 0;
	snprintf(self, sizeof(self), "%s", getenv("PENSTOCK_DISPLAY"));
	if (!mkdtemp(fixture.directory))
		return -1;
	snprintf(fixture.host.run, sizeof(fixture.host.run), "%s", fixture.directory);
	fixture.display.loop = fixture.loop;
	fixture.display.taken = on_taken;
	fixture.display.opaque = &fixture;
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	char path[PATH_MAX];

	broker_display_close(&fixture->display);
	loop_free(fixture->loop);
	snprintf(path, sizeof(path), "%s/picture.png", fixture->directory);
	unlink(path);
	snprintf(path, sizeof(path), "%s/penstock-display", fixture->directory);
	unlink(path);
	/* The socket is gone, and whatever else there was. */
	return rmdir(fixture->directory);
}

static void start(struct fixture *fixture)
{
	struct error err = { 0 };

	broker_display_open(&fixture->display, &fixture->config, &fixture->firmware, &err);
	if (!err.code)
		broker_display_start(&fixture->display, &fixture->config, &fixture->host, &err);
	if (err.code)
		fail_msg("%s: %s", err.object, err.what);
}

/* Is somebody there who speaks VNC? */
static bool is_served(const struct fixture *fixture)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct pollfd wait = { fd, POLLIN, 0 };
	char bytes[4] = "";

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/vm.vnc", fixture->directory);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	       poll(&wait, 1, 10000) == 1 && read(fd, bytes, 4) == 4 && !memcmp(bytes, "RFB ", 4);
}

static void take(struct fixture *fixture, uint32_t id)
{
	char path[PATH_MAX];
	struct error err = { 0 };

	fixture->taken = 0;
	snprintf(path, sizeof(path), "%s/picture.png", fixture->directory);
	assert_int_equal(broker_display_take(&fixture->display, id, path, &err), 0);
}

static void await_taken(struct fixture *fixture, uint32_t id)
{
	for (unsigned i = 0; i < STEPS && !fixture->taken; i++)
		loop_step(fixture->loop, LIMIT_MS);
	assert_int_equal(fixture->taken, id);
}

static void it_serves_and_takes_pictures(void **state)
{
	struct fixture *fixture = *state;
	struct display_shared *shared;
	struct stat stat_;
	char path[PATH_MAX];

	start(fixture);
	assert_true(is_served(fixture));
	snprintf(path, sizeof(path), "%s/vm.vnc", fixture->directory);
	assert_int_equal(stat(path, &stat_), 0);
	assert_int_equal(stat_.st_mode & 0777, 0600);
	take(fixture, 7);
	await_taken(fixture, 7);
	assert_int_equal(fixture->code, -ENODATA);
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
		fixture->display.machine.memory_fd, DISPLAY_MEMORY);
	display_mode_tell(shared, &(struct display_mode){ 64, 48, 256, 0 });
	munmap(shared, 4096);
	take(fixture, 8);
	await_taken(fixture, 8);
	assert_int_equal(fixture->code, 0);
	snprintf(path, sizeof(path), "%s/picture.png", fixture->directory);
	assert_int_equal(stat(path, &stat_), 0);
	assert_in_range(stat_.st_size, 60, 1000);
}

/* It can read the memory, and no more; and nobody can make it smaller under the others. */
static void its_memory_is_the_machines(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	assert_int_equal(fcntl(fixture->display.shown_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_ptr_equal(
		mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fixture->display.shown_fd, 0), MAP_FAILED);
	assert_int_equal(ftruncate(fixture->display.machine.memory_fd, 0), -1);
	assert_true(fcntl(fixture->display.machine.event_fd, F_GETFL) & O_NONBLOCK);
	/* and whatever the machine sends by the socket of keys goes nowhere */
	assert_int_equal(send(fixture->display.machine.event_fd, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
}

static void one_that_dies_is_started_anew(void **state)
{
	struct fixture *fixture = *state;
	pid_t pid;

	start(fixture);
	pid = fixture->display.backend.pid;
	kill(pid, SIGSTOP);
	take(fixture, 9);
	kill(pid, SIGKILL);
	await_taken(fixture, 9);
	assert_int_equal(fixture->code, -EPIPE);
	assert_int_not_equal(fixture->display.backend.pid, pid);
	assert_true(is_served(fixture));
	take(fixture, 10);
	await_taken(fixture, 10);
	assert_int_equal(fixture->code, -ENODATA);
}

static void one_that_dies_again_and_again_is_given_up(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };

	start(fixture);
	for (unsigned i = 0; i < STEPS && fixture->display.backend.pid > 0; i++) {
		kill(fixture->display.backend.pid, SIGKILL);
		loop_step(fixture->loop, LIMIT_MS);
	}
	assert_int_equal(fixture->display.backend.pid, 0);
	assert_int_equal(fixture->display.control, -1);
	assert_int_equal(broker_display_take(&fixture->display, 1, "/dev/null", &err), -EAGAIN);
}

static void what_cannot_be_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct error err = { 0 };
	char path[PATH_MAX];
	int fd;

	/* no program */
	snprintf(self, sizeof(self), "%s/penstock", fixture->directory);
	assert_int_equal(
		broker_display_open(&fixture->display, &fixture->config, &fixture->firmware, &err),
		-ENOENT);
	assert_non_null(strstr(err.what, "penstock-display"));
	/* one that ends at once, as for a library that is missing */
	snprintf(path, sizeof(path), "%s/penstock-display", fixture->directory);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert_int_equal(write(fd, "#!/bin/false\n", 13), 13);
	close(fd);
	err = (struct error){ 0 };
	assert_int_equal(
		broker_display_open(&fixture->display, &fixture->config, &fixture->firmware, &err),
		0);
	assert_int_equal(
		broker_display_start(&fixture->display, &fixture->config, &fixture->host, &err),
		-EIO);
	assert_non_null(strstr(err.hint, "libvncserver1"));
}

static void a_port_and_pictures_that_are_taken(void **state)
{
	struct fixture *fixture = *state;
	struct broker_display other = BROKER_DISPLAY_NONE;
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t size = sizeof(address);
	cleanup_fd int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct error err = { 0 };

	assert_int_equal(broker_display_take(&other, 1, "/tmp/x", &err), -ENODEV);
	start(fixture);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(taken, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(taken, 1), 0);
	assert_int_equal(getsockname(taken, (struct sockaddr *)&address, &size), 0);
	fixture->config.vnc.port = ntohs(address.sin_port);
	err = (struct error){ 0 };
	assert_int_equal(broker_display_open(&other, &fixture->config, &fixture->firmware, &err),
		-EADDRINUSE);
	broker_display_close(&other);
	err = (struct error){ 0 };
	assert_int_equal(broker_display_take(&fixture->display, 1, "/dev/null", &err), -EINVAL);
	err = (struct error){ 0 };
	assert_int_equal(
		broker_display_take(&fixture->display, 1, "/nowhere/x.png", &err), -ENOENT);
	err = (struct error){ 0 };
	assert_int_equal(broker_display_take(&fixture->display, 1, "/tmp", &err), -EINVAL);
}

static void one_that_cannot_be_started_anew_is_none(void **state)
{
	struct fixture *fixture = *state;
	pid_t pid;

	start(fixture);
	pid = fixture->display.backend.pid;
	no_fork = true;
	kill(pid, SIGKILL);
	for (unsigned i = 0; i < STEPS && fixture->display.backend.pid; i++)
		loop_step(fixture->loop, LIMIT_MS);
	assert_int_equal(fixture->display.backend.pid, 0);
	assert_int_equal(fixture->display.control, -1);
	loop_step(fixture->loop, 0);
}

static void one_that_dies_now_and_then_is_not_given_up(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	for (unsigned i = 0; i < 15; i++) {
		pid_t pid = fixture->display.backend.pid;

		later_ms += 20 * 60000;
		kill(pid, SIGKILL);
		for (unsigned j = 0; j < STEPS && fixture->display.backend.pid == pid; j++)
			loop_step(fixture->loop, LIMIT_MS);
		assert_true(fixture->display.backend.pid > 0);
	}
	assert_true(is_served(fixture));
}

/* As where a client has it busy for good. */
static void one_that_takes_no_picture_is_started_anew(void **state)
{
	struct fixture *fixture = *state;
	pid_t pid;

	start(fixture);
	pid = fixture->display.backend.pid;
	no_patience = true;
	kill(pid, SIGSTOP);
	take(fixture, 9);
	await_taken(fixture, 9);
	assert_int_equal(fixture->code, -EPIPE);
	assert_int_not_equal(fixture->display.backend.pid, pid);
	assert_true(is_served(fixture));
}

static void a_failed_picture_leaves_what_was_there(void **state)
{
	struct fixture *fixture = *state;
	char path[PATH_MAX], text[8] = "";
	struct error err = { 0 };
	int fd;

	start(fixture);
	snprintf(path, sizeof(path), "%s/picture.png", fixture->directory);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "before", 6), 6);
	take(fixture, 3);
	await_taken(fixture, 3);
	assert_int_equal(fixture->code, -ENODATA);
	assert_int_equal(pread(fd, text, 6, 0), 6);
	assert_string_equal(text, "before");
	close(fd);
	unlink(path);
	assert_int_equal(symlink("/nowhere", path), 0);
	assert_int_equal(broker_display_take(&fixture->display, 4, path, &err), -EINVAL);
}

/* The BIOS's driver is beside it; without, there is a display all the same. */
static void a_bios_gets_its_driver(void **state)
{
	struct fixture *fixture = *state;
	const uint8_t *rom;
	char path[PATH_MAX];
	int fd;

	fixture->firmware.bios = true;
	snprintf(fixture->firmware.code, PATH_MAX, "%s/bios.bin", fixture->directory);
	start(fixture);
	assert_null(fixture->display.machine.rom);
	broker_display_close(&fixture->display);
	snprintf(path, sizeof(path), "%s/vgabios-bochs-display.bin", fixture->directory);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, "\x55\xaa\x01", 3), 3);
	start(fixture);
	rom = fixture->display.machine.rom;
	assert_memory_equal(rom, "\x55\xaa\x01\xff", 4);
	assert_int_equal(rom[DISPLAY_ROM - 1], 0xff);
	broker_display_close(&fixture->display);
	assert_int_equal(pwrite(fd, "MZ", 2, 0), 2);
	start(fixture);
	assert_null(fixture->display.machine.rom);
	close(fd);
	unlink(path);
}

int main(void)
{
#define DISPLAY_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		DISPLAY_TEST(it_serves_and_takes_pictures),
		DISPLAY_TEST(its_memory_is_the_machines),
		DISPLAY_TEST(one_that_dies_is_started_anew),
		DISPLAY_TEST(one_that_dies_again_and_again_is_given_up),
		DISPLAY_TEST(what_cannot_be_is_told),
		DISPLAY_TEST(a_port_and_pictures_that_are_taken),
		DISPLAY_TEST(one_that_cannot_be_started_anew_is_none),
		DISPLAY_TEST(one_that_dies_now_and_then_is_not_given_up),
		DISPLAY_TEST(one_that_takes_no_picture_is_started_anew),
		DISPLAY_TEST(a_failed_picture_leaves_what_was_there),
		DISPLAY_TEST(a_bios_gets_its_driver),
	};

	return test_run(tests);
}
