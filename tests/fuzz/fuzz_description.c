/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file that describes a VM: what is read of it, and what is written and read again. */
#include "fuzz.h"

#include "base/size.h"
#include "control/description.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { READ, LISTS, REFUSED, NO_YAML };

struct fuzz_goal fuzz_goals[] = {
	[READ] = { "files read", 1000, 0 },
	[LISTS] = { "lists", 5000, 0 },
	[REFUSED] = { "keys and values refused", 500, 0 },
	[NO_YAML] = { "files that are no YAML", 100, 0 },
	{ 0 },
};

static const struct option options[] = {
	{ "kernel", required_argument, NULL, 1 },
	{ "memory", required_argument, NULL, 2 },
	{ "tpm", no_argument, NULL, 3 },
	{ "device", repeated_argument, NULL, 4 },
	{ "net", repeated_argument, NULL, 5 },
	{ 0 },
};

static const char *form(const char *name)
{
	static char text[32];

	snprintf(text, sizeof(text), "--%s VALUE", name);
	return text;
}

static void check_words(const struct description *description)
{
	unsigned lists = 0;

	for (size_t i = 0; i < description->count; i++) {
		const struct description_word *word = &description->words[i];

		fuzz_check(word->option >= options && word->option->name && word->line &&
			   word->column);
		fuzz_check((word->option->has_arg == no_argument) == !word->text);
		for (const char *at = word->text; at && *at; at++)
			fuzz_check((unsigned char)*at >= ' ');
		for (size_t j = 0; j < i; j++)
			fuzz_check(word->option != description->words[j].option ||
				   word->option->has_arg == repeated_argument);
		lists += i && word->option == description->words[i - 1].option;
	}
	fuzz_goals[LISTS].count += lists > 0;
}

/* The words of an option in their order; those of others between them do not matter. */
static void check_same(const struct description *a, const struct description *b)
{
	fuzz_check(a->count == b->count);
	for (const struct option *option = options; option->name; option++) {
		size_t j = 0;

		for (size_t i = 0; i < a->count; i++) {
			const char *text = a->words[i].text;

			if (a->words[i].option != option)
				continue;
			while (j < b->count && b->words[j].option != option)
				j++;
			fuzz_check(j < b->count && (!text || strcmp(text, b->words[j].text) == 0));
			j++;
		}
	}
}

static void write_and_read(const struct description *description)
{
	struct description again = { 0 };
	struct error err = { 0 };
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	fuzz_check(to && description_write(description, options, to, &err) == 0);
	fclose(to);
	if (description->count) {
		fuzz_check(
			description_parse(&again, "again", text, size, options, form, &err) == 0);
		check_same(description, &again);
	}
	description_free(&again);
	free(text);
}

void fuzz_one(struct fuzz_input *input)
{
	struct description description = { 0 };
	struct error err = { 0 };
	int code = description_parse(&description, "vm.yaml", (const char *)input->data,
		input->size, options, form, &err);

	fuzz_check(code == err.code && code <= 0);
	if (code) {
		fuzz_check(code == -EINVAL && !description.count && err.what[0]);
		fuzz_check(strncmp(err.object, "vm.yaml:", 8) == 0);
		fuzz_goals[strstr(err.what, "no YAML") ? NO_YAML : REFUSED].count++;
		return;
	}
	check_words(&description);
	write_and_read(&description);
	fuzz_goals[READ].count++;
	description_free(&description);
}
