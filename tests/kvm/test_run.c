/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/size.h"
#include "fake_kernel.h"
#include "guest.h"
#include "terminal.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * "penstock run" from end to end: the built program, named by the environment's PENSTOCK, with
 * kernels of a few instructions.
 */

#define LIMIT_S 60 /* a command that hangs is killed */
#define WAIT_MS 20000

struct machine {
	pid_t pid;
	int in;  /* to its standard input; -1 once closed */
	int out; /* from its standard output */
	int err; /* a file with what it said on standard error */
	char kernel[64];
	char initrd[64]; /* empty: none */
};

/* Guests */

/* Send the byte in al to COM1. */
#define PUT "mov $0x3f8, %dx\nout %al, %dx\n"

/* Print what rsi points to, up to a zero. */
#define PRINT                      \
	"5: movb (%rsi), %al\n"    \
	"testb %al, %al\n"         \
	"jz 6f\n" PUT "inc %rsi\n" \
	"jmp 5b\n"                 \
	"6:\n"

#define HALT "9: hlt\njmp 9b\n"

/* The sleep control register: enable, and the type of power-off. */
#define POWER_OFF "mov $0x680, %dx\nmov $0x34, %al\nout %al, %dx\n" HALT

GUEST(hello, "lea 7f(%rip), %rsi\n" PRINT POWER_OFF "7: .asciz \"hello from the guest\\n\"")

/* The zero page, to which rsi points, tells of the command line, and of the initrd and its size. */
GUEST(arguments, "mov %rsi, %rbp\n"
		 "mov 0x228(%rbp), %esi\n" PRINT "mov 0x218(%rbp), %esi\n"
		 "mov 0x21c(%rbp), %ecx\n"
		 "1: movb (%rsi), %al\n" PUT "inc %rsi\n"
		 "loop 1b\n" POWER_OFF)

GUEST(reset, "mov $0xcf9, %dx\nmov $6, %al\nout %al, %dx\n" HALT)
GUEST(keyboard_reset, "mov $0xfe, %al\nout %al, $0x64\n" HALT)
GUEST(fault, "pushq $0\npushq $0\nmov %rsp, %rbx\nlidt (%rbx)\nud2\n")
GUEST(spin, "lea 7f(%rip), %rsi\n" PRINT "8: jmp 8b\n7: .asciz \"up\\n\"")

/* What comes in goes out, up to a q. */
GUEST(echo, "1: mov $0x3fd, %dx\n"
	    "in %dx, %al\n"
	    "testb $1, %al\n"
	    "jz 1b\n"
	    "mov $0x3f8, %dx\n"
	    "in %dx, %al\n"
	    "cmpb $0x71, %al\n"
	    "je 2f\n" PUT "jmp 1b\n"
	    "2:\n" POWER_OFF)

/*
 * Pin 9 of the IOAPIC, the power button's, as an edge of vector 40. The interrupt table at 70000 has
 * this one gate; the 8259s, to which the line goes as well, are masked.
 */
GUEST(button, "mov $0x80000, %esp\n"
	      "lea 3f(%rip), %rax\n"
	      "mov $0x70400, %edi\n"
	      "mov %ax, (%rdi)\n"
	      "movw $0x10, 2(%rdi)\n"
	      "shr $16, %rax\n"
	      "movw $0x8e00, 4(%rdi)\n"
	      "mov %ax, 6(%rdi)\n"
	      "movq $0, 8(%rdi)\n"
	      "movw $0xfff, 0x70ff0\n"
	      "movq $0x70000, 0x70ff2\n"
	      "lidt 0x70ff0\n"
	      "mov $0xff, %al\n"
	      "out %al, $0x21\n"
	      "out %al, $0xa1\n"
	      "mov $0xfee00000, %ebp\n"
	      "movl $0x1ff, 0xf0(%rbp)\n"
	      "mov $0xfec00000, %ebx\n"
	      "movl $0x23, (%rbx)\n"
	      "movl $0, 0x10(%rbx)\n"
	      "movl $0x22, (%rbx)\n"
	      "movl $0x40, 0x10(%rbx)\n"
	      "lea 7f(%rip), %rsi\n" PRINT "sti\n" HALT "3:\n" POWER_OFF "7: .asciz \"up\\n\"")

/* Running one */

static void save_kernel(struct machine *machine, const void *code, size_t size)
{
	struct fake_kernel kernel;

	fake_kernel_make(&kernel, code, size);
	strcpy(machine->kernel, "/tmp/penstock-kernel-XXXXXX");
	close(fake_kernel_save(&kernel, machine->kernel));
}

static void save_initrd(struct machine *machine, const char *text, uint64_t size)
{
	int fd;

	strcpy(machine->initrd, "/tmp/penstock-initrd-XXXXXX");
	fd = mkstemp(machine->initrd);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	if (size)
		assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void become(struct machine *machine, const char *const *options, int in, int out)
{
	const char *argv[32] = { getenv("PENSTOCK"), "run", "--kernel", machine->kernel, "--memory",
		"32M" };
	unsigned count = 6;

	if (machine->initrd[0]) {
		argv[count++] = "--initrd";
		argv[count++] = machine->initrd;
	}
	for (unsigned i = 0; options && options[i]; i++)
		argv[count++] = options[i];
	alarm(LIMIT_S);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(machine->err, STDERR_FILENO);
	execv(argv[0], (char *const *)argv);
	_exit(127);
}

static void start_machine(struct machine *machine, const char *const *options)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	machine->err = memfd_create("stderr", MFD_CLOEXEC);
	machine->pid = fork();
	if (machine->pid == 0)
		become(machine, options, in[0], out[1]);
	assert_true(machine->pid > 0);
	close(in[0]);
	close(out[1]);
	machine->in = in[1];
	machine->out = out[0];
}

#define start(machine, name, ...)                                                      \
	do {                                                                           \
		save_kernel(machine, guest_##name, guest_##name##_end - guest_##name); \
		start_machine(machine, (const char *const[]){ __VA_ARGS__, NULL });    \
	} while (0)

/* Its exit code, or 128 + N where signal N ended it. */
static int end_of(struct machine *machine)
{
	int status;

	assert_int_equal(waitpid(machine->pid, &status, 0), machine->pid);
	machine->pid = -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Read until text has come, or the end. */
static void wait_for_output(struct machine *machine, char *text, size_t size, const char *wanted)
{
	struct pollfd out = { .fd = machine->out, .events = POLLIN };
	size_t used = 0;

	text[0] = '\0';
	while (used + 1 < size && !(wanted && strstr(text, wanted)) &&
		poll(&out, 1, WAIT_MS) == 1) {
		ssize_t got = read(machine->out, text + used, size - 1 - used);

		if (got <= 0)
			break;
		used += got;
		text[used] = '\0';
	}
	if (wanted && !strstr(text, wanted))
		fail_msg("'%s' did not come, but '%s'", wanted, text);
}

static void take_errors(struct machine *machine, char *text, size_t size)
{
	ssize_t got = pread(machine->err, text, size - 1, 0);

	text[got < 0 ? 0 : got] = '\0';
}

static void assert_says(struct machine *machine, const char *words)
{
	char text[4096];

	take_errors(machine, text, sizeof(text));
	if (!strstr(text, words))
		fail_msg("'%s' is not in: %s", words, text);
}

/* It ends with this code and has said nothing; what came out. */
static void assert_ends(struct machine *machine, int code, char *text, size_t size)
{
	char errors[4096];
	int seen;

	wait_for_output(machine, text, size, NULL);
	seen = end_of(machine);
	take_errors(machine, errors, sizeof(errors));
	if (seen != code || errors[0])
		fail_msg("it ended with %d: %s", seen, errors);
}

static int setup(void **state)
{
	static struct machine machine;

	machine = (struct machine){ .pid = -1, .in = -1, .out = -1, .err = -1 };
	/* What a broker leaves behind becomes ours: see assert_nothing_is_left(). */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	*state = &machine;
	return 0;
}

static int teardown(void **state)
{
	struct machine *machine = *state;
	const int fds[] = { machine->in, machine->out, machine->err };

	if (machine->pid > 0) {
		kill(machine->pid, SIGTERM);
		waitpid(machine->pid, NULL, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (machine->kernel[0])
		unlink(machine->kernel);
	if (machine->initrd[0])
		unlink(machine->initrd);
	return 0;
}

/* Power-off, output, arguments */

static void a_guest_prints_and_powers_off(void **state)
{
	char text[256];

	start(*state, hello, "--name", "test-hello");
	assert_ends(*state, 0, text, sizeof(text));
	assert_string_equal(text, "hello from the guest\n");
}

static void it_runs_with_many_cpus(void **state)
{
	char text[256];

	start(*state, hello, "--cpus", "8");
	assert_ends(*state, 0, text, sizeof(text));
	assert_string_equal(text, "hello from the guest\n");
}

static void it_runs_when_all_of_its_memory_is_there(void **state)
{
	char text[256];

	start(*state, hello, "--prealloc");
	assert_ends(*state, 0, text, sizeof(text));
	assert_string_equal(text, "hello from the guest\n");
}

static void command_line_and_initrd_reach_the_guest(void **state)
{
	char text[256];

	save_initrd(*state, "[the initrd]", 0);
	start(*state, arguments, "--cmdline", "one two=\"3 4\" ");
	assert_ends(*state, 0, text, sizeof(text));
	assert_string_equal(text, "one two=\"3 4\" [the initrd]");
}

static void the_serial_line_may_be_a_file(void **state)
{
	char path[] = "/tmp/penstock-serial-XXXXXX", option[64], text[256];
	int fd = mkstemp(path);

	assert_int_equal(write(fd, "what was there before, and is longer", 36), 36);
	snprintf(option, sizeof(option), "file:%s", path);
	start(*state, hello, "--serial", option);
	assert_ends(*state, 0, text, sizeof(text));
	assert_string_equal(text, "");
	assert_int_equal(pread(fd, text, sizeof(text), 0), 21);
	assert_memory_equal(text, "hello from the guest\n", 21);
	close(fd);
	unlink(path);
}

static void the_serial_line_may_be_nothing(void **state)
{
	char text[256];

	start(*state, hello, "--serial", "none");
	assert_ends(*state, 0, text, sizeof(text));
	assert_string_equal(text, "");
}

static void input_reaches_the_guest(void **state)
{
	struct machine *machine = *state;
	char text[256];

	start(machine, echo, "--serial", "stdio");
	assert_int_equal(write(machine->in, "ab", 2), 2);
	wait_for_output(machine, text, sizeof(text), "ab");
	/* Not a terminal: Ctrl-A is a byte like others. */
	assert_int_equal(write(machine->in, "\x01xq", 3), 3);
	assert_ends(machine, 0, text, sizeof(text));
	assert_string_equal(text, "\x01x");
}

static void assert_nothing_is_left(void)
{
	for (unsigned tries = 0; tries < 100; tries++) {
		if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return;
		usleep(20000);
	}
	fail_msg("a process was left behind");
}

/* On a terminal */

static int run_on_terminal(void *opaque)
{
	struct machine *machine = opaque;

	machine->err = STDERR_FILENO;
	become(machine, (const char *const[]){ "--name", "test-terminal", NULL }, STDIN_FILENO,
		STDOUT_FILENO);
	return 127;
}

#define start_on_terminal(terminal, machine, name)                                     \
	do {                                                                           \
		save_kernel(machine, guest_##name, guest_##name##_end - guest_##name); \
		terminal_open(terminal, true, run_on_terminal, machine);               \
		terminal_wait_raw(terminal, true);                                     \
	} while (0)

static void every_key_is_the_guests_but_ctrl_a(void **state)
{
	struct machine *machine = *state;
	struct terminal terminal;
	struct termios settings;

	start_on_terminal(&terminal, machine, echo);
	terminal_type(&terminal, "a\x03\x1a\x04\n");
	terminal_expect(&terminal, "a\x03\x1a\x04\r\n");
	terminal_type(&terminal, "\x01\x01");
	terminal_expect(&terminal, "\x01");
	terminal_type(&terminal, "\x01x");
	assert_int_equal(terminal_close(&terminal), 0);
	settings = terminal_settings(&terminal);
	assert_true(settings.c_lflag & ICANON && settings.c_lflag & ECHO &&
		    settings.c_lflag & ISIG && settings.c_iflag & ICRNL);
	assert_nothing_is_left();
}

static void ctrl_a_p_presses_the_button(void **state)
{
	struct machine *machine = *state;
	struct terminal terminal;

	start_on_terminal(&terminal, machine, button);
	terminal_expect(&terminal, "up\r\n");
	usleep(100000); /* until it halts */
	terminal_type(&terminal, "\x01p");
	assert_int_equal(terminal_close(&terminal), 0);
}

/* Restarts */

static void a_reset_ends_it_where_that_is_wanted(void **state)
{
	char text[256];

	start(*state, reset, "--on-reboot", "stop");
	assert_ends(*state, 0, text, sizeof(text));
}

static void the_keyboards_reset_ends_it_where_that_is_wanted(void **state)
{
	char text[256];

	start(*state, keyboard_reset, "--on-reboot", "stop");
	assert_ends(*state, 0, text, sizeof(text));
}

static void a_triple_fault_is_a_crash(void **state)
{
	start(*state, fault, "--on-reboot", "pause", "--on-crash", "stop");
	assert_int_equal(end_of(*state), 1);
	assert_says(*state, "the guest has crashed (triple fault)");
}

static unsigned count_in(const char *text, const char *words)
{
	unsigned count = 0;

	while ((text = strstr(text, words))) {
		text += strlen(words);
		count++;
	}
	return count;
}

static void a_reset_starts_it_anew(void **state)
{
	struct machine *machine = *state;
	unsigned tries = 0;
	char text[65536];

	start(machine, reset, "--name", "test-reset");
	do {
		usleep(20000);
		take_errors(machine, text, sizeof(text));
	} while (count_in(text, "the guest reboots") < 3 && tries++ < WAIT_MS / 20);
	assert_true(count_in(text, "penstock: test-reset: the guest reboots\n") >= 3);
	kill(machine->pid, SIGTERM);
	assert_int_equal(end_of(machine), 128 + SIGTERM);
}

/* Signals */

static void assert_ended_by(struct machine *machine, int signal)
{
	char text[256];

	start(machine, spin, "--name", "test-signal");
	wait_for_output(machine, text, sizeof(text), "up");
	kill(machine->pid, signal);
	assert_int_equal(end_of(machine), 128 + signal);
	assert_nothing_is_left();
}

static void sigterm_ends_it(void **state)
{
	assert_ended_by(*state, SIGTERM);
}

static void sigint_ends_it(void **state)
{
	assert_ended_by(*state, SIGINT);
}

static void sighup_ends_it(void **state)
{
	assert_ended_by(*state, SIGHUP);
}

static void sigpwr_presses_the_button(void **state)
{
	struct machine *machine = *state;
	char text[256];

	start(machine, button, "--name", "test-button");
	wait_for_output(machine, text, sizeof(text), "up");
	usleep(100000); /* until it halts */
	kill(machine->pid, SIGPWR);
	assert_ends(machine, 0, text, sizeof(text));
}

/* The child of the broker, which is the machine. */
static pid_t machine_of(const struct machine *machine)
{
	char path[64], text[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", machine->pid, machine->pid);
	if (fd_read_file(path, text, sizeof(text)) < 0) {
		print_message("skipped: this kernel does not tell a process's children\n");
		skip();
	}
	return atoi(text);
}

static bool has_open(pid_t pid, const char *file)
{
	char path[64], target[256];
	bool found = false;

	for (unsigned fd = 0; fd < 64; fd++) {
		ssize_t size;

		snprintf(path, sizeof(path), "/proc/%d/fd/%u", pid, fd);
		size = readlink(path, target, sizeof(target) - 1);
		target[size < 0 ? 0 : size] = '\0';
		found |= strcmp(target, file) == 0;
	}
	return found;
}

static void the_machine_is_in_its_sandbox(void **state)
{
	struct machine *machine = *state;
	char path[64], text[8192];

	start(machine, spin, "--name", "test-sandbox");
	wait_for_output(machine, text, sizeof(text), "up");
	snprintf(path, sizeof(path), "/proc/%d/status", machine_of(machine));
	assert_true(fd_read_file(path, text, sizeof(text)) > 0);
	assert_non_null(strstr(text, "\nSeccomp:\t2\n"));
	assert_non_null(strstr(text, "\nNoNewPrivs:\t1\n"));
	assert_non_null(strstr(text, "\nCapEff:\t0000000000000000\n"));
	if (geteuid() == 0)
		assert_false(has_open(machine_of(machine), machine->kernel));
}

static void a_killed_machine_is_a_failure(void **state)
{
	struct machine *machine = *state;
	char text[256];

	start(machine, spin, "--name", "test-killed");
	wait_for_output(machine, text, sizeof(text), "up");
	kill(machine_of(machine), SIGKILL);
	assert_int_equal(end_of(machine), 1);
	assert_says(machine, "penstock: test-killed: the machine's process was killed by signal 9");
	assert_nothing_is_left();
}

static void a_killed_broker_takes_the_machine_along(void **state)
{
	struct machine *machine = *state;
	char text[256];

	start(machine, spin, "--name", "test-broker");
	wait_for_output(machine, text, sizeof(text), "up");
	kill(machine->pid, SIGKILL);
	assert_int_equal(end_of(machine), 128 + SIGKILL);
	assert_nothing_is_left();
	/* And its name is free again. */
	unlink(machine->kernel);
	start(machine, hello, "--name", "test-broker");
	wait_for_output(machine, text, sizeof(text), "hello");
	assert_int_equal(end_of(machine), 0);
}

/* Bad input that only the start itself can find */

static void assert_fails(struct machine *machine, const char *words)
{
	char text[256];

	wait_for_output(machine, text, sizeof(text), NULL);
	assert_string_equal(text, "");
	assert_int_equal(end_of(machine), 1);
	assert_says(machine, words);
	take_errors(machine, text, sizeof(text));
	assert_int_equal(count_in(text, "penstock: "), 1);
	assert_nothing_is_left();
}

static void a_truncated_kernel_is_refused(void **state)
{
	struct machine *machine = *state;

	save_kernel(machine, "\xf4", 1);
	assert_int_equal(truncate(machine->kernel, FAKE_KERNEL_SIZE / 2), 0);
	start_machine(machine, NULL);
	assert_fails(machine, machine->kernel);
}

static void a_file_that_is_no_kernel_is_refused(void **state)
{
	struct machine *machine = *state;
	int fd;

	save_kernel(machine, "\xf4", 1);
	fd = open(machine->kernel, O_WRONLY | O_TRUNC);
	assert_int_equal(fd_write_all(fd, "#!/bin/sh\n", 10), 0);
	close(fd);
	start_machine(machine, NULL);
	assert_fails(machine, "bzImage");
}

static void an_initrd_that_does_not_fit_is_refused(void **state)
{
	struct machine *machine = *state;

	save_initrd(machine, "", 31 * MIB);
	start(machine, hello, "--serial", "stdio");
	assert_fails(machine, machine->initrd);
}

static void a_command_line_that_is_too_long_is_refused(void **state)
{
	char text[4096];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	start(*state, hello, "--cmdline", text);
	assert_fails(*state, "command line");
}

static void more_memory_than_there_is_is_refused(void **state)
{
	start(*state, hello, "--memory", "1000T");
	assert_fails(*state, "memory");
}

static void a_serial_file_that_cannot_be_is_refused(void **state)
{
	start(*state, hello, "--serial", "file:/nonexistent/log");
	assert_fails(*state, "/nonexistent/log");
}

static void a_name_that_is_taken_is_refused(void **state)
{
	struct machine *machine = *state, second = { .pid = -1 };
	void *other = &second;
	char text[256];

	start(machine, spin, "--name", "test-name");
	wait_for_output(machine, text, sizeof(text), "up");
	start(&second, hello, "--name", "test-name");
	wait_for_output(&second, text, sizeof(text), NULL);
	assert_int_equal(end_of(&second), 1);
	assert_says(&second, "test-name");
	assert_string_equal(text, "");
	teardown(&other);
}

#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN_TEST(a_guest_prints_and_powers_off),
		RUN_TEST(it_runs_with_many_cpus),
		RUN_TEST(it_runs_when_all_of_its_memory_is_there),
		RUN_TEST(command_line_and_initrd_reach_the_guest),
		RUN_TEST(the_serial_line_may_be_a_file),
		RUN_TEST(the_serial_line_may_be_nothing),
		RUN_TEST(input_reaches_the_guest),
		RUN_TEST(every_key_is_the_guests_but_ctrl_a),
		RUN_TEST(ctrl_a_p_presses_the_button),
		RUN_TEST(a_reset_ends_it_where_that_is_wanted),
		RUN_TEST(the_keyboards_reset_ends_it_where_that_is_wanted),
		RUN_TEST(a_triple_fault_is_a_crash),
		RUN_TEST(a_reset_starts_it_anew),
		RUN_TEST(sigterm_ends_it),
		RUN_TEST(sigint_ends_it),
		RUN_TEST(sighup_ends_it),
		RUN_TEST(sigpwr_presses_the_button),
		RUN_TEST(the_machine_is_in_its_sandbox),
		RUN_TEST(a_killed_machine_is_a_failure),
		RUN_TEST(a_killed_broker_takes_the_machine_along),
		RUN_TEST(a_truncated_kernel_is_refused),
		RUN_TEST(a_file_that_is_no_kernel_is_refused),
		RUN_TEST(an_initrd_that_does_not_fit_is_refused),
		RUN_TEST(a_command_line_that_is_too_long_is_refused),
		RUN_TEST(more_memory_than_there_is_is_refused),
		RUN_TEST(a_serial_file_that_cannot_be_is_refused),
		RUN_TEST(a_name_that_is_taken_is_refused),
	};

	if (access("/dev/kvm", R_OK | W_OK) || !getenv("PENSTOCK")) {
		print_message("skipped: no /dev/kvm, or PENSTOCK does not name the program\n");
		return 77; /* skipped, to Meson */
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
