/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "terminal.h"

#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 20000
#define STOPPED 99 /* the shell's exit code */

enum { TO_JOB = 'f', TO_SHELL = 'b', READ_LINE = 'r' };

static _Noreturn void serve(pid_t job, int commands, int answers)
{
	char command, line[256];
	ssize_t got;
	int status;

	while (read(commands, &command, 1) == 1) {
		if (command == READ_LINE) {
			got = read(STDIN_FILENO, line, sizeof(line));
			if (got > 0 && write(answers, line, got) != got)
				break;
			continue;
		}
		tcsetpgrp(STDIN_FILENO, command == TO_JOB ? job : getpgrp());
		if (write(answers, "", 1) != 1)
			break;
	}
	alarm(WAIT_MS / 1000);
	waitpid(job, &status, WUNTRACED);
	if (WIFSTOPPED(status))
		kill(-job, SIGKILL);
	_exit(WIFSTOPPED(status)    ? STOPPED
		: WIFEXITED(status) ? WEXITSTATUS(status)
				    : 128 + WTERMSIG(status));
}

static _Noreturn void become_shell(struct terminal *terminal, const char *name, bool foreground,
	int (*run)(void *opaque), void *opaque, int commands, int answers)
{
	int go[2], slave;
	char byte;
	pid_t job;

	close(terminal->master);
	close(terminal->commands);
	close(terminal->answers);
	setsid();
	signal(SIGTTOU, SIG_IGN);
	slave = open(name, O_RDWR); /* and it is the session's */
	for (int fd = 0; fd < 2; fd++)
		dup2(slave, fd);
	dup2(terminal->errors, STDERR_FILENO);
	close(slave);
	if (pipe(go) < 0)
		_exit(1);
	job = fork();
	if (job == 0) {
		signal(SIGTTOU, SIG_DFL);
		close(commands);
		close(answers);
		close(go[1]);
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		close(go[0]);
		_exit(run(opaque));
	}
	setpgid(job, job);
	if (foreground)
		tcsetpgrp(STDIN_FILENO, job);
	if (write(answers, &job, sizeof(job)) != sizeof(job) || write(go[1], "", 1) != 1)
		_exit(1);
	serve(job, commands, answers);
}

void terminal_open(
	struct terminal *terminal, bool foreground, int (*run)(void *opaque), void *opaque)
{
	int commands[2], answers[2];
	char name[64];

	terminal->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_int_equal(grantpt(terminal->master) + unlockpt(terminal->master), 0);
	assert_int_equal(ptsname_r(terminal->master, name, sizeof(name)), 0);
	terminal->errors = memfd_create("stderr", MFD_CLOEXEC);
	assert_int_equal(pipe2(commands, O_CLOEXEC) + pipe2(answers, O_CLOEXEC), 0);
	terminal->commands = commands[1];
	terminal->answers = answers[0];
	terminal->shell = fork();
	if (terminal->shell == 0)
		become_shell(terminal, name, foreground, run, opaque, commands[0], answers[1]);
	close(commands[0]);
	close(answers[1]);
	assert_int_equal(
		read(terminal->answers, &terminal->job, sizeof(terminal->job)), sizeof(pid_t));
}

static void command(struct terminal *terminal, char command)
{
	assert_int_equal(write(terminal->commands, &command, 1), 1);
}

void terminal_foreground(struct terminal *terminal, bool job)
{
	char done;

	command(terminal, job ? TO_JOB : TO_SHELL);
	assert_int_equal(read(terminal->answers, &done, 1), 1);
}

void terminal_read_line(struct terminal *terminal, char *line, size_t size)
{
	struct pollfd answers = { .fd = terminal->answers, .events = POLLIN };
	ssize_t got;

	command(terminal, READ_LINE);
	if (poll(&answers, 1, WAIT_MS) != 1)
		fail_msg("the shell does not get what is typed");
	got = read(terminal->answers, line, size - 1);
	assert_true(got > 0);
	line[got] = '\0';
}

void terminal_type(struct terminal *terminal, const char *keys)
{
	assert_int_equal(write(terminal->master, keys, strlen(keys)), strlen(keys));
}

void terminal_expect(struct terminal *terminal, const char *text)
{
	struct pollfd screen = { .fd = terminal->master, .events = POLLIN };
	char seen[4096] = "";
	size_t used = 0;

	while (!strstr(seen, text)) {
		ssize_t got;

		if (poll(&screen, 1, WAIT_MS) != 1 || used == sizeof(seen) - 1)
			fail_msg("'%s' is not on the screen, but '%s'", text, seen);
		got = read(terminal->master, seen + used, sizeof(seen) - 1 - used);
		if (got <= 0)
			fail_msg("'%s' did not come before the end, but '%s'", text, seen);
		used += got;
		seen[used] = '\0';
	}
}

struct termios terminal_settings(const struct terminal *terminal)
{
	struct termios settings;

	assert_int_equal(tcgetattr(terminal->master, &settings), 0);
	return settings;
}

void terminal_wait_raw(struct terminal *terminal, bool raw)
{
	for (unsigned tries = 0; tries < WAIT_MS / 10; tries++) {
		if (!(terminal_settings(terminal).c_lflag & ICANON) == raw)
			return;
		usleep(10000);
	}
	fail_msg("the terminal is%s raw", raw ? " not" : "");
}

int terminal_close(struct terminal *terminal)
{
	int status;

	close(terminal->commands);
	assert_int_equal(waitpid(terminal->shell, &status, 0), terminal->shell);
	close(terminal->answers);
	if (WIFSIGNALED(status)) {
		kill(-terminal->job, SIGKILL);
		fail_msg("the job does not end");
	}
	return WEXITSTATUS(status) == STOPPED ? -1 : WEXITSTATUS(status);
}
