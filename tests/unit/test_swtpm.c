/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "broker/tpm.h"
#include "fake_program.h"
#include "host/system/guard.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static unsigned haste = 1; /* times faster than the clock */

uint64_t __real_guard_now(void);
uint64_t __wrap_guard_now(void);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);

uint64_t __wrap_guard_now(void)
{
	return __real_guard_now() * haste;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	return __real_poll(fds, count, timeout / (int)haste);
}

/* This program is swtpm, too, where it is called so, and does what FAKE_SWTPM says. */

static int take_fd_of(int argc, char **argv, const char *option, const char *before)
{
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], option) == 0 &&
			strncmp(argv[i + 1], before, strlen(before)) == 0)
			return atoi(argv[i + 1] + strlen(before));
	_exit(3);
}

/* Is the state's directory all that may be written to? */
static bool is_confined(int argc, char **argv)
{
	char path[64];
	int state = take_fd_of(argc, argv, "--tpmstate", "dir=/proc/self/fd/");

	snprintf(path, sizeof(path), "/proc/self/fd/%d/tpm2-00.permall", state);
	if (open(path, O_RDWR | O_CREAT, 0600) < 0)
		return false;
	if (getuid() == 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return false;
	/* Kernels may lack Landlock, or have it switched off. */
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1 ||
	       (open(getenv("SECRET"), O_RDONLY) < 0 && open("/tmp", O_RDONLY | O_DIRECTORY) < 0);
}

static int obey(int control, int data, const char *how)
{
	uint8_t request[64], reply[16] = { 0 };
	ssize_t got = read(control, request, sizeof(request));

	if (got <= 0)
		return -1;
	if (request[3] == 2 && strcmp(how, "refuse") == 0)
		reply[3] = 9;
	if (request[3] == 9)
		return write(data, request, 4) == 4 ? 0 : -1;
	got = request[3] == 17 ? 16 : 4;
	return write(control, reply, got) == got ? 0 : -1;
}

/* A TPM's command, which is successful and is told by its code; anything else comes back as it is. */
static int respond(int data)
{
	static const uint8_t success[] = { 0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0 };
	uint8_t request[64];
	ssize_t got = read(data, request, sizeof(request));

	if (got <= 0)
		return -1;
	if (request[0] != 0x80)
		return write(data, request, got) == got ? 0 : -1;
	fprintf(stderr, "%02x%02x ", request[8], request[9]);
	return write(data, success, sizeof(success)) == sizeof(success) ? 0 : -1;
}

static int be_swtpm(int argc, char **argv)
{
	const char *how = getenv("FAKE_SWTPM");
	int control = take_fd_of(argc, argv, "--ctrl", "type=unixio,clientfd=");
	int data = take_fd_of(argc, argv, "--fd", "");
	struct pollfd wait[] = { { control, POLLIN, 0 }, { data, POLLIN, 0 } };

	if (strcmp(how, "end") == 0) {
		fprintf(stderr, "warning: odd\nswtpm: the lock\x1b[31m is taken\nmore\n");
		return 1;
	}
	if (strcmp(how, "confined") == 0 && !is_confined(argc, argv))
		return 4;
	while (strcmp(how, "mute") == 0)
		pause();
	while (poll(wait, 2, -1) > 0)
		if ((wait[0].revents && obey(control, data, how)) ||
			(wait[1].revents && respond(data)))
			break;
	while (strcmp(how, "stubborn") == 0)
		pause();
	return 0;
}

struct fixture {
	char directory[32], nvram[64], state[64], secret[64];
	struct broker_tpm tpm;
	struct loop *loop;
	struct error err;
};

static int setup(void **state)
{
	static struct fixture fixture;

	haste = 1;
	fixture =
		(struct fixture){ .directory = "/tmp/penstock-tpm-XXXXXX", .tpm = BROKER_TPM_NONE };
	fake_program_make(fixture.directory, "swtpm");
	snprintf(fixture.nvram, sizeof(fixture.nvram), "%s/vars", fixture.directory);
	snprintf(fixture.state, sizeof(fixture.state), "%s/vars.tpm", fixture.directory);
	snprintf(fixture.secret, sizeof(fixture.secret), "%s/secret", fixture.directory);
	close(open(fixture.secret, O_RDWR | O_CREAT, 0644));
	setenv("SECRET", fixture.secret, 1);
	setenv("FAKE_SWTPM", "good", 1);
	fixture.loop = loop_new(&fixture.err);
	*state = &fixture;
	return fixture.err.code;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	broker_tpm_end(&fixture->tpm, fixture->loop);
	broker_tpm_close(&fixture->tpm);
	loop_free(fixture->loop);
	fake_program_remove(fixture->directory);
	return 0;
}

static void open_tpm(struct fixture *fixture)
{
	if (broker_tpm_open(&fixture->tpm, fixture->nvram, true, &fixture->err))
		fail_msg("%s: %s", fixture->err.object, fixture->err.what);
}

static void start_tpm(struct fixture *fixture)
{
	if (broker_tpm_start(&fixture->tpm, &fixture->err))
		fail_msg("%s: %s", fixture->err.object, fixture->err.what);
}

/* It answers on the descriptor that the machine gets. */
static void assert_answers(int fd)
{
	char byte = 'x';

	assert_int_equal(write(fd, "?", 1), 1);
	for (unsigned i = 0; i < 1000 && read(fd, &byte, 1) != 1; i++) {
		assert_int_equal(errno, EAGAIN); /* it does not block */
		usleep(10000);
	}
	assert_int_equal(byte, '?');
}

static void assert_no_child(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void assert_error(const struct fixture *fixture, int code, const char *words)
{
	if (fixture->err.code != code || !strstr(fixture->err.what, words))
		fail_msg("%d: %s", fixture->err.code, fixture->err.what);
}

static void assert_log(const struct fixture *fixture, const char *wanted)
{
	char log[64] = "";

	assert_true(pread(fixture->tpm.backend.log, log, sizeof(log) - 1, 0) >= 0);
	assert_string_equal(log, wanted);
}

/* The first time it is switched on twice: it has all banks of PCRs but that of SHA-256 switched off in between. */
static void a_new_one_is_made_once(void **state)
{
	struct fixture *fixture = *state;

	setenv("FAKE_SWTPM", "confined", 1); /* it leaves a file */
	open_tpm(fixture);
	start_tpm(fixture);
	assert_log(fixture, "0144 012b 0145 ");
	broker_tpm_end(&fixture->tpm, fixture->loop);
	start_tpm(fixture);
	assert_log(fixture, "");
	broker_tpm_end(&fixture->tpm, fixture->loop);
	broker_tpm_close(&fixture->tpm);
	fixture->tpm = (struct broker_tpm)BROKER_TPM_NONE;
	open_tpm(fixture);
	start_tpm(fixture);
	assert_log(fixture, "");
}

static void a_kernel_finds_it_as_firmware_leaves_it(void **state)
{
	struct fixture *fixture = *state;

	open_tpm(fixture);
	fixture->tpm.has_firmware = false;
	start_tpm(fixture);
	assert_log(fixture, "0144 012b 0145 0144 0143 ");
}

static void it_is_started_for_each_life(void **state)
{
	struct fixture *fixture = *state;
	pid_t first;

	open_tpm(fixture);
	for (unsigned life = 0; life < 2; life++) {
		start_tpm(fixture);
		first = fixture->tpm.backend.pid;
		start_tpm(fixture); /* it runs */
		assert_int_equal(fixture->tpm.backend.pid, first);
		assert_answers(fixture->tpm.machine.fd);
		broker_tpm_handed_over(&fixture->tpm, fixture->loop);
		assert_int_equal(fixture->tpm.machine.fd, -1);
		broker_tpm_end(&fixture->tpm, fixture->loop);
		assert_no_child();
	}
}

static void without_nvram_it_has_a_state_without_a_name(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(broker_tpm_open(&fixture->tpm, NULL, true, &fixture->err), 0);
	assert_string_equal(fixture->tpm.path, "");
	start_tpm(fixture);
	assert_answers(fixture->tpm.machine.fd);
	assert_int_equal(access(fixture->state, F_OK), -1);
}

static void none_is_wanted(void **state)
{
	struct fixture *fixture = *state;

	start_tpm(fixture);
	broker_tpm_handed_over(&fixture->tpm, fixture->loop);
	assert_int_equal(fixture->tpm.machine.fd, -1);
	assert_no_child();
}

/* And the state is given back to whoever has started it. */
static void it_reaches_its_state_alone(void **state)
{
	struct fixture *fixture = *state;
	char file[128];
	struct stat stat_of;

	setenv("FAKE_SWTPM", "confined", 1);
	open_tpm(fixture);
	start_tpm(fixture);
	snprintf(file, sizeof(file), "%s/tpm2-00.permall", fixture->state);
	assert_int_equal(stat(file, &stat_of), 0);
	assert_true(geteuid() != 0 || stat_of.st_uid >= 0x70000000);
	broker_tpm_end(&fixture->tpm, fixture->loop);
	assert_int_equal(stat(file, &stat_of), 0);
	assert_int_equal(stat_of.st_uid, geteuid());
	assert_int_equal(stat(fixture->state, &stat_of), 0);
	assert_int_equal(stat_of.st_uid, geteuid());
	assert_int_equal(stat_of.st_mode & 0777, 0700);
	/* Again, with what is there now. */
	start_tpm(fixture);
}

static void a_program_that_is_not_there_is_named(void **state)
{
	struct fixture *fixture = *state;

	setenv("PATH", "/nonexistent:relative:", 1);
	assert_int_equal(
		broker_tpm_open(&fixture->tpm, fixture->nvram, true, &fixture->err), -ENOENT);
	assert_error(fixture, -ENOENT, "swtpm, which is not installed");
	assert_non_null(strstr(fixture->err.hint, "package swtpm"));
	assert_int_equal(access(fixture->state, F_OK), -1);
}

static void one_that_never_answers_is_not_waited_for_long(void **state)
{
	struct fixture *fixture = *state;
	uint64_t start;

	haste = 20;
	setenv("FAKE_SWTPM", "mute", 1);
	open_tpm(fixture);
	start = guard_now();
	assert_int_equal(broker_tpm_start(&fixture->tpm, &fixture->err), -ETIMEDOUT);
	assert_true(guard_now() - start >= 10000);
	assert_error(fixture, -ETIMEDOUT, "has not answered within 10 seconds");
	assert_no_child();
}

static void a_state_in_use_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	int fd;

	assert_int_equal(mkdir(fixture->state, 0700), 0);
	fd = open(fixture->state, O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(
		broker_tpm_open(&fixture->tpm, fixture->nvram, true, &fixture->err), -EBUSY);
	assert_error(fixture, -EBUSY, "in use by another machine");
	assert_string_equal(fixture->err.object, fixture->state);
	close(fd);
}

static void a_state_must_be_a_directory_that_can_be_made(void **state)
{
	struct fixture *fixture = *state;

	close(open(fixture->state, O_RDWR | O_CREAT, 0600));
	broker_tpm_open(&fixture->tpm, fixture->nvram, true, &fixture->err);
	assert_error(fixture, -ENOTDIR, "cannot use the TPM's state");
	broker_tpm_close(&fixture->tpm);
	fixture->tpm = (struct broker_tpm)BROKER_TPM_NONE;
	fixture->err = (struct error){ 0 };
	broker_tpm_open(&fixture->tpm, "/nonexistent/vars", true, &fixture->err);
	assert_error(fixture, -ENOENT, "cannot make the directory");
}

static void what_it_says_at_a_bad_start_is_told(void **state)
{
	struct fixture *fixture = *state;

	setenv("FAKE_SWTPM", "end", 1);
	open_tpm(fixture);
	assert_int_equal(broker_tpm_start(&fixture->tpm, &fixture->err), -EPIPE);
	assert_error(fixture, -EPIPE,
		"has ended as soon as it was started: swtpm: the lock?[31m is taken");
	assert_null(strstr(fixture->err.what, "more"));
	assert_no_child();
	fixture->err = (struct error){ 0 };
	setenv("FAKE_SWTPM", "refuse", 1);
	assert_int_equal(broker_tpm_start(&fixture->tpm, &fixture->err), -EIO);
	assert_error(fixture, -EIO, "cannot work with this state (result 0x9)");
	assert_string_equal(fixture->err.object, fixture->state);
	assert_no_child();
}

/* The loop is where a machine that wants a command given up is heard. */
static void a_command_is_given_up(void **state)
{
	struct fixture *fixture = *state;
	uint8_t seen[4] = { 0 };
	int fd;

	setenv("FAKE_SWTPM", "cancel", 1);
	open_tpm(fixture);
	start_tpm(fixture);
	fd = dup(fixture->tpm.machine.fd);
	fcntl(fd, F_SETFL, 0);
	broker_tpm_handed_over(&fixture->tpm, fixture->loop);
	eventfd_write(fixture->tpm.machine.cancel_fd, 1);
	loop_step(fixture->loop, 1000);
	assert_int_equal(fd_read_all(fd, seen, sizeof(seen)), 0);
	assert_int_equal(seen[3], 9);
	close(fd);
	/* And nothing happens where it has ended. */
	eventfd_write(fixture->tpm.machine.cancel_fd, 1);
	loop_step(fixture->loop, 1000);
}

static void one_that_does_not_end_is_killed(void **state)
{
	struct fixture *fixture = *state;

	setenv("FAKE_SWTPM", "stubborn", 1);
	open_tpm(fixture);
	start_tpm(fixture);
	broker_tpm_end(&fixture->tpm, fixture->loop);
	assert_no_child();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_is_started_for_each_life, setup, teardown),
		cmocka_unit_test_setup_teardown(a_new_one_is_made_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_kernel_finds_it_as_firmware_leaves_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			without_nvram_it_has_a_state_without_a_name, setup, teardown),
		cmocka_unit_test_setup_teardown(none_is_wanted, setup, teardown),
		cmocka_unit_test_setup_teardown(it_reaches_its_state_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_program_that_is_not_there_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(
			one_that_never_answers_is_not_waited_for_long, setup, teardown),
		cmocka_unit_test_setup_teardown(a_state_in_use_is_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_state_must_be_a_directory_that_can_be_made, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_it_says_at_a_bad_start_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(a_command_is_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_does_not_end_is_killed, setup, teardown),
	};
	const char *name = strrchr(argv[0], '/');

	if (strcmp(name ? name + 1 : argv[0], "swtpm") == 0)
		return be_swtpm(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	return test_run(tests);
}
