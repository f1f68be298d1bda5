/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"
#include "control/description.h"

/* What "penstock run" takes, for it and for the commands that write, check and start what it runs. */

/* Its options, which are the keys of a file, too; one without a name ends them. */
extern const struct option run_options[];

/* How an option is written, by the help: "--memory SIZE". */
const char *run_form(const char *option);

/* What is so without the option; NULL: there is nothing to say. */
const char *run_default(const char *option);

/*
 * The command line after argv[0], and the file that it names. 0, 1 after --help, or a negative errno: -EINVAL for
 * wrong usage, without an error where getopt(3) has printed its own.
 */
int run_collect(int argc, char **argv, struct description *description, struct error *err);

/* The machine that they describe; texts are theirs. 0 or a negative errno, -EINVAL for what makes no sense. */
int run_understand(
	const struct description *description, struct broker_config *config, struct error *err);
