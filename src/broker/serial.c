/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broker/serial.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Descriptors of our own: the machine's stdin and stdout are closed. */
static int open_stdio(struct broker_console *console, struct error *err)
{
	console->config.in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	console->config.out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (console->config.out < 0)
		return error_sys(err, -errno, NULL, "cannot use stdout as the guest's serial line");
	console->config.escapes = isatty(STDIN_FILENO);
	return 0;
}

/* Not to wait here for a pipe's reader, or a serial line's carrier; later the machine's thread may. */
static int open_file(struct broker_console *console, const char *path, struct error *err)
{
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY;

	console->config.out = open(path, flags | O_NONBLOCK, 0666);
	if (console->config.out >= 0 && fcntl(console->config.out, F_SETFL, 0) == 0)
		return 0;
	if (error_sys(err, -errno, path, "cannot be written") == -ENXIO)
		error_hint(err, "nobody reads this pipe: start its reader first");
	return err->code;
}

/* Nobody need be reading at the other end, so output may be lost but must not hold up the guest. */
static int open_pty(struct broker_console *console, struct error *err)
{
	struct termios raw;
	char *name = console->pty;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
		ptsname_r(master, name, sizeof(console->pty)))
		return error_sys(err, -errno, NULL, "cannot make a pseudo-terminal");
	console->config.in = master;
	console->config.out = fcntl(master, F_DUPFD_CLOEXEC, 3);
	console->config.lossy = true;
	console->slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (console->slave < 0 || console->config.out < 0)
		return error_sys(err, -errno, name, "cannot open the pseudo-terminal");
	if (tcgetattr(console->slave, &raw) < 0)
		return error_sys(err, -errno, name, "cannot set up the pseudo-terminal");
	cfmakeraw(&raw);
	if (tcsetattr(console->slave, TCSANOW, &raw) < 0)
		return error_sys(err, -errno, name, "cannot set up the pseudo-terminal");
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

/* Of the session that the terminal controls, one process group has its keys. */
static bool is_in_background(int terminal)
{
	pid_t foreground = tcgetpgrp(terminal); /* -1: it controls no session of ours */

	return foreground >= 0 && foreground != getpgrp();
}

/* Output is still processed, so that messages of ours get their carriage returns. */
static bool set_raw(const struct broker_console *console)
{
	struct termios raw = console->saved;

	cfmakeraw(&raw);
	raw.c_oflag = console->saved.c_oflag;
	return tcsetattr(console->config.in, TCSANOW, &raw) == 0;
}

void broker_console_enter(struct broker_console *console)
{
	if (!console->config.escapes || console->raw || is_in_background(console->config.in) ||
		tcgetattr(console->config.in, &console->saved) < 0)
		return;
	log_info("Ctrl-A x ends the machine, Ctrl-A p presses its power button");
	console->raw = set_raw(console);
}

void broker_console_leave(struct broker_console *console)
{
	if (console->raw && !is_in_background(console->config.in))
		tcsetattr(console->config.in, TCSANOW, &console->saved);
	console->raw = false;
}

bool broker_console_in_background(const struct broker_console *console)
{
	return console->config.escapes && !console->raw;
}

void broker_console_resume(struct broker_console *console)
{
	if (!console->raw)
		return;
	/* Whoever has it now has set it up for itself. */
	if (is_in_background(console->config.in))
		console->raw = false;
	else
		set_raw(console);
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
