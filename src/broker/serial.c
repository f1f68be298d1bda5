/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/serial.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/*
 * The terminal anew, for writing without blocking: that flag of the one which we were given would be
 * its other users', too. Negative where it is none.
 */
static int reopen_terminal(void)
{
	cleanup_fd int fd = -1;
	char name[64];

	if (ttyname_r(STDOUT_FILENO, name, sizeof(name)))
		return -1;
	fd = open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/*
 * Our own descriptors for stdin and stdout: the two may be one terminal, and an event loop watches a
 * file description twice only by two descriptors.
 */
static int open_stdio(struct broker_console *console, struct error *err)
{
	console->config.in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	console->config.out = reopen_terminal();
	if (console->config.out < 0)
		console->config.out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (console->config.out < 0)
		return error_sys(err, -errno, NULL, "cannot use stdout as the guest's serial line");
	console->config.escapes = isatty(STDIN_FILENO);
	return 0;
}

static int open_file(struct broker_console *console, const char *path, struct error *err)
{
	console->config.out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	if (console->config.out < 0)
		return error_sys(err, -errno, path, "cannot be written");
	return 0;
}

/* Nobody need be reading at the other end, so output may be lost but must not hold up the guest. */
static int open_pty(struct broker_console *console, struct error *err)
{
	struct termios raw;
	char name[64];
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
		ptsname_r(master, name, sizeof(name)))
		return error_sys(err, -errno, NULL, "cannot make a pseudo-terminal");
	console->config.in = master;
	console->config.out = fcntl(master, F_DUPFD_CLOEXEC, 3);
	console->config.lossy = true;
	console->slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (console->slave < 0 || console->config.out < 0)
		return error_sys(err, -errno, name, "cannot open the pseudo-terminal");
	tcgetattr(console->slave, &raw);
	cfmakeraw(&raw);
	tcsetattr(console->slave, TCSANOW, &raw);
	log_info("the guest's serial line is %s", name);
	return 0;
}

int broker_console_open(
	struct broker_console *console, const struct broker_config *config, struct error *err)
{
	switch (config->serial) {
	case BROKER_SERIAL_STDIO:
		return open_stdio(console, err);
	case BROKER_SERIAL_FILE:
		return open_file(console, config->serial_path, err);
	case BROKER_SERIAL_PTY:
		return open_pty(console, err);
	default:
		return 0;
	}
}

/* Output is still processed, so that messages of ours get their carriage returns. */
void broker_console_enter(struct broker_console *console)
{
	pid_t foreground =
		tcgetpgrp(console->config.in); /* -1: the terminal controls no session of ours */
	struct termios raw;

	/* In the background the terminal is another program's. */
	if (!console->config.escapes || (foreground >= 0 && foreground != getpgrp()) ||
		tcgetattr(console->config.in, &console->saved) < 0)
		return;
	raw = console->saved;
	cfmakeraw(&raw);
	raw.c_oflag = console->saved.c_oflag;
	log_info("Ctrl-A x ends the machine, Ctrl-A p presses its power button");
	console->raw = tcsetattr(console->config.in, TCSANOW, &raw) == 0;
}

void broker_console_leave(struct broker_console *console)
{
	if (console->raw)
		tcsetattr(console->config.in, TCSANOW, &console->saved);
	console->raw = false;
}

void broker_console_close(struct broker_console *console)
{
	broker_console_leave(console);
	if (console->config.in >= 0)
		close(console->config.in);
	if (console->config.out >= 0)
		close(console->config.out);
	if (console->slave >= 0)
		close(console->slave);
}
