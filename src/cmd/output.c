/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/output.h"

#include "cmd/cmd.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool output_wants_color(void)
{
	const char *no_color = getenv("NO_COLOR"), *terminal = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no_color && no_color[0]) &&
	       !(terminal && strcmp(terminal, "dumb") == 0);
}

unsigned output_width(const char *text)
{
	unsigned characters = 0;

	for (; *text; text++)
		characters += (*text & 0xc0) != 0x80;
	return characters;
}

enum { OPTION_JSON = 256, OPTION_HELP };

static const struct option long_options[] = {
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

int output_parse_options(int argc, char **argv, const char *command, const char *usage, bool *json)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option == OPTION_HELP) {
			fputs(usage, stdout);
			return 0;
		}
		if (option != OPTION_JSON)
			return cmd_wrong_usage(command, NULL);
		*json = true;
	}
	return -1;
}

void output_add_text(json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, text[0] ? json_object_new_string(text) : NULL);
}

json_object *output_new(void)
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, "version", json_object_new_int(1));
	return object;
}

void output_json(json_object *object)
{
	puts(json_object_to_json_string_ext(
		object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}
