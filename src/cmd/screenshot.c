/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/cmd.h"
#include "cmd/machine.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static const char usage[] =
	"Usage: penstock screenshot NAME FILE\n"
	"Take a picture of the display that a machine has by --display, and write it to the file, as a PNG.\n"
	"\n"
	"      --help   show this text\n"
	"\n"
	"Exit status: 0 the file is there, 1 failed, 2 wrong usage.\n";

enum { OPTION_HELP = 256 };

static const struct option long_options[] = {
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

/* The machine's broker has another current directory. */
static int make_absolute(const char *file, char *path, size_t size, struct error *err)
{
	char directory[PATH_MAX] = "";

	if (file[0] != '/' && !getcwd(directory, sizeof(directory)))
		return error_sys(err, -errno, NULL, "cannot tell the current directory");
	if (snprintf(path, size, "%s%s%s", directory, directory[0] ? "/" : "", file) >= (int)size)
		return error_sys(err, -ENAMETOOLONG, file, "cannot be written");
	return 0;
}

static int take_screenshot(const char *name, const char *file, struct error *err)
{
	struct control_client client = { .fd = -1 };
	struct host host;
	const struct machine_wait wait = {
		.host = &host,
		.doing = "the picture",
		.hint = "the file's disk may hang, or a client of VNC have the display busy: try again",
	};
	json_object *arguments;
	char path[PATH_MAX];
	int code = make_absolute(file, path, sizeof(path), err);

	if (code)
		return code;
	code = cmd_machine_connect(&client, &host, name, err);
	if (!code) {
		arguments = json_object_new_object();
		json_object_object_add(arguments, "filename", json_object_new_string(path));
		json_object_object_add(arguments, "format", json_object_new_string("png"));
		code = cmd_machine_run(&client, &wait, "screendump", arguments, NULL, err);
	}
	control_client_close(&client);
	return code;
}

int cmd_screenshot(int argc, char **argv)
{
	struct error err = { 0 };
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option != OPTION_HELP)
			return cmd_wrong_usage("screenshot", NULL);
		fputs(usage, stdout);
		return 0;
	}
	if (argc - optind != 2)
		return cmd_wrong_usage("screenshot", "give the name of one machine, and a file");
	if (!take_screenshot(argv[optind], argv[optind + 1], &err))
		return 0;
	error_print(&err);
	return err.code == -EINVAL ? EXIT_USAGE : 1;
}
