/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

#include <getopt.h>
#include <stdio.h>

/*
 * What a VM is: the options of "penstock run", as words of a command line or as keys of a file, in one order and
 * with one meaning. The table of getopt(3) is that of the keys, too. Who adds an option to it adds a key.
 */

/* has_arg of an option whose values add up, besides no_argument and required_argument. */
#define repeated_argument 3

#define DESCRIPTION_SIZE_MAX (1 << 20)

struct description_word {
	const struct option *option;
	char *text;            /* its value; NULL: it has none */
	char *taken;           /* the same, for who parses it to cut */
	unsigned line, column; /* of the value, from 1; 0: it is of the command line */
};

struct description {
	const char *path; /* of the file, the caller's; NULL: there is none */
	struct description_word *words;
	size_t count;
};

/* A word of the command line; text: of an option without a value NULL. 0 or -ENOMEM. */
int description_add(struct description *description, const struct option *option, const char *text,
	struct error *err);

/*
 * Read a file, which is YAML. Its words come before those that are there, and one that the command line says
 * otherwise is left out. 0 or a negative errno, -EINVAL for what is wrong in it, with the line and the column.
 * form() tells how an option is written: "--memory SIZE".
 */
int description_read(struct description *description, const char *path,
	const struct option *options, const char *(*form)(const char *name), struct error *err);

/* The same of what is in memory, whose name path is. */
int description_parse(struct description *description, const char *path, const char *text,
	size_t size, const struct option *options, const char *(*form)(const char *name),
	struct error *err);

/*
 * Say in an error where in the file that is which it is about: the word, or with NULL the first one that it names as
 * an option, "--memory", or that has its object for a value. One that is about nothing in the file stays as it is.
 */
void description_locate(const struct description *description, const struct description_word *word,
	struct error *err);

/* Write it as a file, in the order of the options. 0 or a negative errno. */
int description_write(const struct description *description, const struct option *options, FILE *to,
	struct error *err);

void description_free(struct description *description);
