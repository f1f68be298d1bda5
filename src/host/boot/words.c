/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define VARIABLE "GRUB_CMDLINE_LINUX_DEFAULT"
#define BLANKS   " \t"

/* Where in a text the words are. */
struct span {
	const char *start, *end;
	bool bare; /* a shell's value without quotes */
};

/* The value after a line's "GRUB_CMDLINE_LINUX_DEFAULT=", or NULL. */
static const char *match_assignment(const char *line)
{
	line += strspn(line, BLANKS);
	if (strncmp(line, "export ", 7) == 0)
		line += 7;
	if (strncmp(line, VARIABLE, strlen(VARIABLE)))
		return NULL;
	line += strlen(VARIABLE);
	line += *line == '+';
	return *line == '=' ? line + 1 : NULL;
}

/* What follows a value on its line may only be a comment. */
static bool is_end(const char *at)
{
	size_t blanks = strspn(at, BLANKS);

	return !at[blanks] || at[blanks] == '\n' || (blanks && at[blanks] == '#');
}

/* A value that ends on its line. */
static bool parse_value(const char *value, struct span *span)
{
	char quote = *value == '"' || *value == '\'' ? *value : '\0';
	const char *at;

	span->bare = !quote;
	span->start = value + !!quote;
	if (!quote) {
		span->end = value + strcspn(value, "\n \t\"'\\;#&|()`$");
		return is_end(span->end);
	}
	for (at = span->start; *at && *at != '\n' && *at != quote; at++)
		if (quote == '"' && *at == '\\' && at[1] && at[1] != '\n')
			at++;
	span->end = at;
	return *at == quote && is_end(at + 1);
}

/* The last assignment is the one that counts. -ENOENT: there is none. */
static int find_grub(const char *text, struct span *span)
{
	int code = -ENOENT;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		const char *value;

		line += *line == '\n';
		value = match_assignment(line);
		if (value)
			code = parse_value(value, span) ? 0 : -EINVAL;
	}
	return code;
}

/* The first line with something on it that is not a comment; an empty file has it at its start. */
static int find_cmdline(const char *text, struct span *span)
{
	const char *line = text;

	while (*line == '#' || *line == '\n')
		line += *line == '\n' ? 1 : strcspn(line, "\n");
	span->start = line;
	span->end = line + strcspn(line, "\n");
	span->bare = false;
	return 0;
}

static const char *match_key(const char *line, const char *key)
{
	size_t length = strlen(key);

	line += strspn(line, BLANKS);
	return strncmp(line, key, length) == 0 && strchr(BLANKS, line[length]) && line[length]
		       ? line + length + strspn(line + length, BLANKS)
		       : NULL;
}

/* Boot Loader Specification, type 1. Of several lines of options, which add up, the first. */
static int find_entry(const char *text, struct span *span)
{
	bool is_linux = false;
	int code = -ENOENT;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		const char *value;

		line += *line == '\n';
		is_linux |= match_key(line, "linux") != NULL;
		value = code ? match_key(line, "options") : NULL;
		if (!value)
			continue;
		*span = (struct span){ value, value + strcspn(value, "\r\n"), false };
		code = 0;
	}
	return is_linux ? code : -EINVAL;
}

static int find_span(enum boot_edit edit, const char *text, struct span *span)
{
	return edit == BOOT_GRUB    ? find_grub(text, span)
	       : edit == BOOT_ENTRY ? find_entry(text, span)
				    : find_cmdline(text, span);
}

static const char *next_word(const char *at, const char *end, size_t *length)
{
	while (at < end && strchr(BLANKS, *at))
		at++;
	*length = 0;
	while (at + *length < end && !strchr(BLANKS, at[*length]))
		++*length;
	return at;
}

static bool has_word(const char *start, const char *end, const char *word, size_t length)
{
	const char *at = start;
	size_t found;

	while ((at = next_word(at, end, &found)), found) {
		if (found == length && strncmp(at, word, length) == 0)
			return true;
		at += found;
	}
	return false;
}

static void pick_missing(const struct span *span, const char *words, char added[static BOOT_WORDS])
{
	const char *end = words + strlen(words), *at = words;
	size_t length, used = 0;

	added[0] = '\0';
	while ((at = next_word(at, end, &length)), length) {
		if (!has_word(span->start, span->end, at, length))
			used += snprintf(added + used, BOOT_WORDS - used, "%s%.*s", used ? " " : "",
				(int)length, at);
		at += length;
	}
}

static int finish_print(int printed)
{
	return printed < 0 ? -ENOMEM : 0;
}

int boot_words_add(enum boot_edit edit, const char *text, const char *words, char **result,
	char added[static BOOT_WORDS])
{
	struct span span = { 0 };
	int code = find_span(edit, text, &span);
	size_t length = strlen(text);
	const char *quote;

	*result = NULL;
	if (code == -ENOENT) {
		snprintf(added, BOOT_WORDS, "%s", words);
		return finish_print(asprintf(result,
			edit == BOOT_ENTRY ? "%s%soptions %s\n" : "%s%s" VARIABLE "=\"%s\"\n", text,
			length && text[length - 1] != '\n' ? "\n" : "", words));
	}
	if (code)
		return code;
	pick_missing(&span, words, added);
	if (!added[0])
		return finish_print(asprintf(result, "%s", text));
	while (span.end > span.start && strchr(BLANKS, span.end[-1]))
		span.end--;
	quote = span.bare ? "\"" : "";
	return finish_print(asprintf(result, "%.*s%s%.*s%s%s%s%s", (int)(span.start - text), text,
		quote, (int)(span.end - span.start), span.start, span.end > span.start ? " " : "",
		added, quote, span.end));
}

/* A word goes with the blanks before it, so that the others stay as they are. */
static void copy_others(const struct span *span, const char *words, char *to)
{
	const char *words_end = words + strlen(words), *at = span->start, *word;
	bool any = false;
	size_t length;

	for (; (word = next_word(at, span->end, &length)), length; at = word + length) {
		const char *from = any || at == span->start ? at : word;

		if (has_word(words, words_end, word, length))
			continue;
		memcpy(to, from, word + length - from);
		to += word + length - from;
		any = true;
	}
	strcpy(to, at);
}

int boot_words_remove(enum boot_edit edit, const char *text, const char *words, char **result)
{
	struct span span = { 0 };

	*result = strdup(text);
	if (!*result)
		return -ENOMEM;
	/* Where there is no place for words, there are none. */
	if (find_span(edit, text, &span) == 0)
		copy_others(&span, words, *result + (span.start - text));
	return 0;
}
