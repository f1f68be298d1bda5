/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/cmd.h"
#include "cmd/machine.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

static const char usage[] =
	"Usage: penstock stop [--force] NAME\n"
	"Have a running machine end: its power button is pressed, and the guest shuts down. Returns when\n"
	"all devices are back at their drivers.\n"
	"\n"
	"      --force  end it at once, without asking the guest\n"
	"      --help   show this text\n"
	"\n"
	"Exit status: 0 it has ended, 1 failed, or it has not ended within a minute, 2 wrong usage.\n";

enum { OPTION_FORCE = 256, OPTION_HELP };

static const struct option long_options[] = {
	{ "force", no_argument, NULL, OPTION_FORCE },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static int stop_machine(const char *name, bool force, struct error *err)
{
	struct control_client client;
	struct host host;
	struct machine_wait wait = {
		.host = &host,
		.doing = "the guest to power off",
		.hint = "it may ignore its power button, or be paused; 'penstock stop --force' ends it",
	};
	int code = cmd_machine_connect(&client, &host, name, err);

	if (!code)
		code = cmd_machine_run(
			&client, &wait, force ? "quit" : "system_powerdown", NULL, NULL, err);
	if (!code && !force)
		code = cmd_machine_await(&client, &wait, "SHUTDOWN", NULL, err);
	wait.doing = "the machine to give its devices back";
	wait.hint = "its own messages tell what it waits for";
	if (!code)
		code = cmd_machine_await_end(&client, &wait, err);
	control_client_close(&client);
	return code;
}

int cmd_stop(int argc, char **argv)
{
	struct error err = { 0 };
	bool force = false;
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_FORCE:
			force = true;
			break;
		case OPTION_HELP:
			fputs(usage, stdout);
			return 0;
		default:
			return cmd_wrong_usage("stop", NULL);
		}
	}
	if (argc - optind != 1)
		return cmd_wrong_usage("stop", "give the name of one machine");
	if (!stop_machine(argv[optind], force, &err))
		return 0;
	error_print(&err);
	return err.code == -EINVAL ? EXIT_USAGE : 1;
}
