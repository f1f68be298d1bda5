/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "base/log.h"
#include "base/notify.h"
#include "cmd/cmd.h"
#include "cmd/named.h"
#include "cmd/run.h"
#include "host/journal/entry.h"
#include "host/journal/names.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define TICK_MS 200

static const char usage[] =
	"Usage: penstock start [--foreground] NAME\n"
	"Run the machine that a file NAME.yaml describes, in the background: of a user in\n"
	"~/.config/penstock ($XDG_CONFIG_HOME), else in /etc/penstock; root's are in the latter. Returns\n"
	"when the guest runs; 'penstock stop' ends it.\n"
	"\n"
	"      --foreground  stay, and be told to end by SIGTERM, as a service\n"
	"      --help        show this text\n"
	"\n"
	"Exit status: 0 the guest runs, or with --foreground has powered off, 1 failed, 2 wrong usage,\n"
	"or a file that is wrong or not there, 128 + N ended by signal N.\n";

enum { OPTION_FOREGROUND = 256, OPTION_HELP };

static const struct option long_options[] = {
	{ "foreground", no_argument, NULL, OPTION_FOREGROUND },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static const struct option *run_option(const char *name)
{
	const struct option *option = run_options;

	while (strcmp(option->name, name))
		option++;
	return option;
}

/* Nobody sits in front of it: its serial line is a pseudo-terminal, unless the file says where it goes. */
static int settle_serial(struct description *description, struct error *err)
{
	const struct option *serial = run_option("serial");

	for (size_t i = 0; i < description->count; i++)
		if (description->words[i].option == serial)
			return 0;
	return description_add(description, serial, "pty", err);
}

/* Paths in it are those beside it, wherever this is started from. */
static int enter_its_directory(const char *path, struct error *err)
{
	char directory[PATH_MAX];

	snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path), path);
	return chdir(directory) < 0 ? error_sys(err, -errno, directory, "cannot go there") : 0;
}

static int understand(const char *name, const char *path, struct description *description,
	struct broker_config *config, struct error *err)
{
	if (enter_its_directory(path, err) ||
		description_add(description, run_option("name"), name, err) ||
		description_read(description, path, run_options, run_form, err) ||
		settle_serial(description, err))
		return err->code;
	return run_understand(description, config, err);
}

static int run_and_locate(const struct description *description, const struct broker_config *config,
	struct error *err)
{
	int code = broker_run(config, err);

	description_locate(description, NULL, err);
	return code;
}

/* In the background */

static volatile sig_atomic_t child;

static void pass_on(int signal)
{
	if (child)
		kill(child, signal);
}

/* Its messages go where 'penstock status' says, and from there to us as long as we are here. */
struct messages {
	int directory, fd;
	char name[80]; /* until it has the machine's */
};

/* In a file of their own at first: a machine that has this name already goes on writing to the other. */
static int open_messages(
	const struct host *host, const char *name, struct messages *messages, struct error *err)
{
	int code;

	snprintf(messages->name, sizeof(messages->name), "%s~%d", name, getpid());
	code = messages->directory = journal_open_directory(host, "messages", true);
	if (code >= 0) {
		messages->fd = openat(messages->directory, messages->name,
			O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
		code = messages->fd < 0 ? -errno : 0;
	}
	return code < 0 ? journal_tell(host, code, "cannot keep the messages of the machine", err)
			: 0;
}

static int settle_name(const struct host *host, const char *name, const struct messages *messages,
	struct error *err)
{
	int code = host_name_claim(host, name, err);

	if (code)
		unlinkat(messages->directory, messages->name, 0);
	else if (renameat(messages->directory, messages->name, messages->directory, name) < 0)
		code = journal_tell(host, -errno, "cannot keep the messages of the machine", err);
	return code;
}

static _Noreturn void run_behind(const struct host *host, const struct description *description,
	const struct broker_config *config, const struct messages *messages)
{
	struct error err = { 0 };
	int code = 1, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	setsid();
	dup2(null, STDIN_FILENO);
	dup2(messages->fd, STDOUT_FILENO);
	dup2(messages->fd, STDERR_FILENO);
	if (settle_name(host, config->name, messages, &err) == 0)
		code = run_and_locate(description, config, &err);
	if (err.code)
		error_print(&err);
	exit(code);
}

static void show_news(int messages, off_t *shown)
{
	char text[4096];
	ssize_t got;

	while ((got = pread(messages, text, sizeof(text), *shown)) > 0) {
		*shown += got;
		if (write(STDERR_FILENO, text, got) < 0)
			return;
	}
}

/* Until the guest runs, or its machine has ended: the exit code. */
static int await_start(int notify, int messages)
{
	struct pollfd ready = { .fd = notify, .events = POLLIN };
	off_t shown = 0;
	bool runs = false;
	int status;

	for (;;) {
		pid_t ended = waitpid(child, &status, WNOHANG);

		runs = runs || notify_was_told(notify, "READY=1");
		show_news(messages, &shown);
		if (runs)
			return 0;
		if (ended == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		poll(&ready, 1, TICK_MS);
	}
}

static int fork_and_wait(const struct host *host, const struct description *description,
	const struct broker_config *config, const struct messages *messages, int notify,
	struct error *err)
{
	pid_t pid;

	signal(SIGINT, pass_on);
	signal(SIGTERM, pass_on);
	signal(SIGHUP, pass_on);
	pid = fork();
	if (pid == 0) {
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		run_behind(host, description, config, messages);
	}
	if (pid < 0) {
		error_sys(err, -errno, config->name, "cannot start a process");
		return 1;
	}
	child = pid;
	return await_start(notify, messages->fd);
}

static int start_behind(const struct host *host, const struct description *description,
	const struct broker_config *config, struct error *err)
{
	struct messages messages = { -1, -1, "" };
	cleanup_fd int notify = -1;
	int code = 1;

	if (open_messages(host, config->name, &messages, err) == 0)
		notify = notify_pair();
	if (notify < 0 && !err->code)
		error_sys(err, notify, config->name, "cannot be told of its start");
	if (notify >= 0)
		code = fork_and_wait(host, description, config, &messages, notify, err);
	cleanup_fd_(&messages.fd);
	cleanup_fd_(&messages.directory);
	return code;
}

static int check_serial(const struct description *description, const struct broker_config *config,
	struct error *err)
{
	if (config->serial != BROKER_SERIAL_STDIO)
		return 0;
	error_set(err, -EINVAL, NULL, "--serial stdio has no terminal in the background");
	error_hint(err, "with pty 'penstock console %s' is one; or run it by 'penstock run'",
		config->name);
	description_locate(description, NULL, err);
	return err->code;
}

static int start_by_name(const char *name, bool foreground, struct error *err)
{
	struct description description = { 0 };
	struct broker_config config;
	char path[PATH_MAX];
	struct host host;
	int code;

	if (host_init(&host, NULL, NULL, err))
		code = 1;
	else if (named_find(&host, name, path, err) ||
		 understand(name, path, &description, &config, err) ||
		 (!foreground && check_serial(&description, &config, err)))
		code = EXIT_USAGE; /* it would be so again: a service is not started anew */
	else if (foreground)
		code = run_and_locate(&description, &config, err);
	else
		code = start_behind(&host, &description, &config, err);
	description_free(&description);
	return code;
}

int cmd_start(int argc, char **argv)
{
	struct error err = { 0 };
	bool foreground = false;
	int option, code;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_FOREGROUND:
			foreground = true;
			break;
		case OPTION_HELP:
			fputs(usage, stdout);
			return 0;
		default:
			return cmd_wrong_usage("start", NULL);
		}
	}
	if (argc - optind != 1)
		return cmd_wrong_usage("start", "give the name of one machine");
	code = start_by_name(argv[optind], foreground, &err);
	if (err.code)
		error_print(&err);
	return code;
}
