/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

/* What commands that report have in common. */

#define OUTPUT_COLUMNS 80

enum output_color { BOLD = 1, DIM = 2, RED = 31, GREEN = 32, YELLOW = 33 };

/* On a terminal that can, unless NO_COLOR forbids it. */
bool output_wants_color(void);

/* Characters, of which a UTF-8 one has several bytes. */
unsigned output_width(const char *text);

/*
 * The options of a command that has --json and --help alone; what follows them begins at optind. -1: go on;
 * otherwise the exit code to return at once.
 */
int output_parse_options(int argc, char **argv, const char *command, const char *usage, bool *json);

/* A text, or null for "". */
void output_add_text(json_object *object, const char *key, const char *text);

/* What --json prints: an object with the version of its shape, see docs/json.md. */
json_object *output_new(void);

/* Print it and free it. */
void output_json(json_object *object);
