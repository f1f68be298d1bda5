/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"
#include "broker/firmware.h"
#include "broker/rom.h"
#include "broker/share.h"
#include "broker/vdpa.h"
#include "cmd/cmd.h"
#include "cmd/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: penstock config --check FILE [OPTIONS OF RUN]\n"
	"       penstock config --from-args [FILE] [OPTIONS OF RUN]\n"
	"       penstock config --defaults\n"
	"\n"
	"Check and write the files that 'penstock run FILE' takes. Each option of run is a key of the\n"
	"same name: 'memory: 8G' is --memory 8G, 'tpm: true' is --tpm. What may be repeated is one value\n"
	"or a list:\n"
	"\n"
	"  firmware: uefi\n"
	"  memory: 8G\n"
	"  device:\n"
	"    - 0000:01:00.0\n"
	"    - 0000:02:00.0,rom=off\n"
	"\n"
	"Without the key name the machine's name is the file's without .yaml. Paths are as on the command\n"
	"line: where one does not begin with /, it is seen from where penstock is started.\n"
	"\n"
	"      --check      say what is wrong in it, and start nothing\n"
	"      --from-args  write a file that says what the options say, and those of FILE\n"
	"      --defaults   write one of all keys, with what is so without them\n"
	"      --help       show this text\n"
	"\n"
	"Exit status: 0 done, 1 what it says cannot be run, 2 wrong usage.\n";

static int check_path(const char *path, struct error *err)
{
	cleanup_fd int fd = path ? fd_open_regular(path) : -1;

	if (!path || fd >= 0)
		return 0;
	return fd == -EINVAL ? error_set(err, fd, path, "it is no regular file")
			     : error_sys(err, fd, path, "cannot open it");
}

/* A firmware is also one of the distribution's, by its name. */
static const char *path_of_firmware(const struct broker_config *config)
{
	const char *file = config->firmware;
	bool named = file && (strcmp(file, BROKER_FIRMWARE_UEFI) == 0 ||
				     strcmp(file, BROKER_FIRMWARE_BIOS) == 0);

	return named ? NULL : file;
}

/* Whether the files are there, which a machine finds out only when it starts. */
static int check_paths(const struct broker_config *config, struct error *err)
{
	check_path(config->kernel, err);
	check_path(config->initrd, err);
	check_path(path_of_firmware(config), err);
	check_path(config->cloud_init.user_data, err);
	check_path(config->cloud_init.meta_data, err);
	for (unsigned i = 0; i < config->device_count && !err->code; i++)
		if (config->roms[i] && strcmp(config->roms[i], BROKER_ROM_OFF))
			check_path(config->roms[i], err);
	for (unsigned i = 0; i < config->share_count && !err->code; i++) {
		cleanup_fd int fd = broker_share_open_directory(config->shares[i].path, err);

		(void)fd;
	}
	for (unsigned i = 0; i < config->vdpa_count && !err->code; i++)
		broker_vdpa_check(config->vdpas[i], err);
	return err->code;
}

static int understand_args(int argc, char **argv, struct description *description,
	struct broker_config *config, struct error *err)
{
	int code = run_collect(argc, argv, description, err);

	if (!code)
		code = run_understand(description, config, err);
	return code;
}

static int check_vm_file(int argc, char **argv, struct description *description, struct error *err)
{
	struct broker_config config;
	int code = understand_args(argc, argv, description, &config, err);

	if (!code && !description->path)
		return cmd_wrong_usage("config", "give the file that is to be checked");
	if (!code) {
		code = check_paths(&config, err);
		description_locate(description, NULL, err);
	}
	return code < 0 && !err->code ? EXIT_USAGE : code < 0;
}

static int write_args(int argc, char **argv, struct description *description, struct error *err)
{
	struct broker_config config;
	int code = understand_args(argc, argv, description, &config, err);

	if (!code)
		code = description_write(description, run_options, stdout, err);
	if (!code && fflush(stdout))
		code = error_sys(err, -errno, NULL, "cannot write a description");
	return code == -EINVAL ? EXIT_USAGE : code < 0;
}

/* A flag is off, and of what has no value there is the form. */
static int write_defaults(void)
{
	puts("# The options of 'penstock run', as its --help tells of them, and what is so without them.");
	for (const struct option *option = run_options; option->name; option++) {
		const char *value = run_default(option->name);

		if (strcmp(option->name, "help") == 0)
			continue;
		if (value)
			printf("%s: %s\n", option->name, value);
		else if (option->has_arg == no_argument)
			printf("%s: false\n", option->name);
		else
			printf("# %s:%s\n", option->name,
				run_form(option->name) + strlen("--") + strlen(option->name));
	}
	return 0;
}

int cmd_config(int argc, char **argv)
{
	struct description description = { 0 };
	struct error err = { 0 };
	const char *what = argc > 1 ? argv[1] : "";
	int code;

	if (strcmp(what, "--help") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	/* What follows is run's, and getopt(3) begins its messages with the first word. */
	if (argc > 1)
		argv[1] = argv[0];
	if (strcmp(what, "--check") == 0)
		code = check_vm_file(argc - 1, argv + 1, &description, &err);
	else if (strcmp(what, "--from-args") == 0)
		code = write_args(argc - 1, argv + 1, &description, &err);
	else if (strcmp(what, "--defaults") == 0 && argc == 2)
		code = write_defaults();
	else
		return cmd_wrong_usage("config", "begin with --check, --from-args or --defaults");
	if (err.code)
		error_print(&err);
	description_free(&description);
	return code;
}
