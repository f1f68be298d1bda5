/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * The subcommands. Each parses its own arguments (argv[0] is its name), calls, prints, and returns
 * the exit code: 0 done, 1 failed, 2 usage.
 */

#define EXIT_USAGE 2

/* Says what is wrong with the command line (NULL: getopt(3) has said it); returns EXIT_USAGE. */
int cmd_wrong_usage(const char *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

int cmd_attach(int argc, char **argv);
int cmd_bind(int argc, char **argv);
int cmd_boot_config(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_console(int argc, char **argv);
int cmd_detach(int argc, char **argv);
int cmd_disk(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_new(int argc, char **argv);
int cmd_release(int argc, char **argv);
int cmd_reset(int argc, char **argv);
int cmd_rom(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_screenshot(int argc, char **argv);
int cmd_start(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_vf(int argc, char **argv);
