/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <termios.h>

#define ESCAPE 1 /* Ctrl-A */
#define PTY    "pty:"

static const char usage[] =
	"Usage: penstock console NAME\n"
	"Use the serial console of a machine that was started with --serial pty. On a terminal Ctrl-A x\n"
	"leaves the console, and the machine goes on; Ctrl-A Ctrl-A sends one Ctrl-A.\n"
	"\n"
	"      --help   show this text\n"
	"\n"
	"Exit status: 0 left, or the machine has ended, 1 failed, 2 wrong usage, 128 + N ended by\n"
	"signal N.\n";

enum { OPTION_HELP = 256 };

static const struct option long_options[] = {
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

/* The pseudo-terminal of its serial line; false with err set where it has none. */
static bool find_pty(struct control_client *client, char *path, size_t size, struct error *err)
{
	json_object *list =
		control_client_run(client, "query-chardev", NULL, MACHINE_ANSWER_MS, err);
	json_object *serial = list && json_object_is_type(list, json_type_array)
				      ? json_object_array_get_idx(list, 0)
				      : NULL;
	const char *file = json_object_get_string(json_object_object_get(serial, "filename"));
	bool found = file && strncmp(file, PTY, strlen(PTY)) == 0;

	if (found)
		snprintf(path, size, "%s", file + strlen(PTY));
	else if (file) {
		error_set(err, -ENOTTY, client->name,
			"its serial line is no pseudo-terminal, but goes to %s", file);
		error_hint(err, "start it with --serial pty, to reach it from elsewhere");
	}
	json_object_put(list);
	return found;
}

/* One user at a time: two would each get a part of what the guest says. */
static int open_console_pty(const char *path, const char *name, struct error *err)
{
	cleanup_fd int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return error_sys(err, -errno, path, "cannot open the console of %s", name);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		error_set(err, -EBUSY, name, "somebody has this console open already");
		error_hint(err, "'fuser %s' shows who", path);
		return err->code;
	}
	return take_fd(&fd);
}

struct session {
	int pty, signals;
	bool terminal; /* stdin is one: there are escapes */
	bool escaped;  /* the last byte was Ctrl-A */
	bool at_end;   /* of stdin */
};

/* What the guest does not take is lost, as keys at a full line are; the way out must stay open. */
static void send_key(const struct session *session, char key)
{
	if (write(session->pty, &key, 1) < 0)
		return;
}

/* False: the user leaves. */
static bool take_key(struct session *session, char key)
{
	if (session->terminal && !session->escaped && key == ESCAPE) {
		session->escaped = true;
		return true;
	}
	if (session->escaped && key == 'x')
		return false;
	if (!session->escaped || key == ESCAPE)
		send_key(session, key);
	session->escaped = false;
	return true;
}

static bool take_keys(struct session *session)
{
	char keys[256];
	ssize_t got = read(STDIN_FILENO, keys, sizeof(keys));
	bool stays = true;

	session->at_end = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
	for (ssize_t i = 0; i < got && stays; i++)
		stays = take_key(session, keys[i]);
	return stays;
}

/* False: the machine, or whoever reads us, is gone. */
static bool show_output(const struct session *session)
{
	char text[4096];
	ssize_t got = read(session->pty, text, sizeof(text));

	if (got <= 0)
		return got < 0 && (errno == EAGAIN || errno == EINTR);
	return fd_write_all(STDOUT_FILENO, text, got) == 0;
}

/* The exit status. */
static int serve_console(struct session *session)
{
	struct signalfd_siginfo info;

	for (;;) {
		struct pollfd ready[] = {
			{ .fd = session->pty, .events = POLLIN },
			{ .fd = session->at_end ? -1 : STDIN_FILENO, .events = POLLIN },
			{ .fd = session->signals, .events = POLLIN },
		};

		if (poll(ready, 3, -1) < 0)
			continue;
		if (ready[2].revents && read(session->signals, &info, sizeof(info)) > 0)
			return 128 + info.ssi_signo;
		if (ready[0].revents && !show_output(session))
			return 0;
		if (ready[1].revents && !take_keys(session))
			return 0;
	}
}

/* All keys are the guest's, until the terminal is put back. */
static int with_terminal(struct session *session, const char *name)
{
	struct termios saved, raw;
	int status;

	session->terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &saved) == 0;
	if (session->terminal) {
		log_info("this is the console of %s; Ctrl-A x leaves it, and the machine goes on",
			name);
		raw = saved;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	status = serve_console(session);
	if (session->terminal) {
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
		fputc('\n', stderr);
	}
	return status;
}

static int open_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

static int run_console(const char *name)
{
	struct session session = { .pty = -1, .signals = -1 };
	struct error err = { 0 };
	struct control_client client;
	struct host host;
	char path[64];
	int status;

	if (cmd_machine_connect(&client, &host, name, &err) == 0 &&
		find_pty(&client, path, sizeof(path), &err))
		session.pty = open_console_pty(path, name, &err);
	control_client_close(&client);
	if (err.code) {
		error_print(&err);
		return err.code == -EINVAL ? EXIT_USAGE : 1;
	}
	session.signals = open_signals();
	status = with_terminal(&session, name);
	close(session.signals);
	close(session.pty);
	return status;
}

int cmd_console(int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option != OPTION_HELP)
			return cmd_wrong_usage("console", NULL);
		fputs(usage, stdout);
		return 0;
	}
	if (argc - optind != 1)
		return cmd_wrong_usage("console", "give the name of one machine");
	return run_console(argv[optind]);
}
