/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/description.h"

#include "base/fd.h"
#include "base/size.h"
#include "base/spelling.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#define PATH_SHOWN 96 /* the end of it */
#define WORD_SHOWN 64

struct reader {
	yaml_parser_t parser;
	yaml_event_t event; /* the one that is looked at */
	struct description *file;
	const struct option *options;
	const char *(*form)(const char *name);
	struct error *err;
};

/* "vm.yaml:3:9"; of a long path the end. */
static const char *format_place(
	const char *path, unsigned line, unsigned column, char place[static 128])
{
	size_t length = strlen(path);
	bool whole = length <= PATH_SHOWN;

	snprintf(place, 128, "%s%s:%u:%u", whole ? "" : "...",
		whole ? path : path + length - PATH_SHOWN, line, column);
	return place;
}

static const char *place_of(
	const struct reader *reader, const yaml_mark_t *mark, char place[static 128])
{
	return format_place(reader->file->path, mark->line + 1, mark->column + 1, place);
}

static int add_word(struct description *description, const struct description_word *word,
	const char *text, struct error *err)
{
	size_t size = (description->count + 1) * sizeof(*description->words);
	struct description_word *words = realloc(description->words, size), *added;

	if (!words)
		return error_sys(err, -ENOMEM, NULL, "cannot keep the options");
	description->words = words;
	added = &words[description->count];
	*added = *word;
	added->text = text ? strdup(text) : NULL;
	added->taken = text ? strdup(text) : NULL;
	if (text && (!added->text || !added->taken)) {
		free(added->text);
		free(added->taken);
		return error_sys(err, -ENOMEM, NULL, "cannot keep the options");
	}
	description->count++;
	return 0;
}

int description_add(struct description *description, const struct option *option, const char *text,
	struct error *err)
{
	return add_word(description, &(struct description_word){ .option = option }, text, err);
}

void description_free(struct description *description)
{
	for (size_t i = 0; i < description->count; i++) {
		free(description->words[i].text);
		free(description->words[i].taken);
	}
	free(description->words);
	*description = (struct description){ 0 };
}

/* An option that asks for no machine. */
static bool is_key(const struct option *option)
{
	return strcmp(option->name, "help") != 0;
}

static const struct option *find_key(const struct option *options, const char *name)
{
	for (; options->name; options++)
		if (is_key(options) && strcmp(options->name, name) == 0)
			return options;
	return NULL;
}

/* NULL: half of the letters would have to be others. */
static const char *nearest_key(const struct option *options, const char *name)
{
	unsigned least = UINT32_MAX;
	const char *nearest = NULL;

	for (; options->name; options++) {
		unsigned far = spelling_distance(name, options->name);

		if (!is_key(options) || far >= least)
			continue;
		least = far;
		nearest = options->name;
	}
	return least > strlen(name) / 2 ? NULL : nearest;
}

/* As it is written in a file: "memory: SIZE". */
static void hint_form(const struct reader *reader, const struct option *option)
{
	const char *form = reader->form(option->name) + strlen("--") + strlen(option->name);

	form += *form == ' ';
	if (option->has_arg == no_argument)
		error_hint(reader->err, "write '%s: true'", option->name);
	else if (option->has_arg == repeated_argument)
		error_hint(reader->err,
			"write '%s: %s', or a list of such, each on a line that begins with '- '",
			option->name, form);
	else
		error_hint(reader->err, "write '%s: %s'", option->name, form);
}

/* What libyaml has stopped at. A byte that is no text is told by its offset alone. */
static int tell_parser(struct reader *reader, const char *text)
{
	const yaml_parser_t *parser = &reader->parser;
	yaml_mark_t mark = parser->problem_mark;
	char place[128];

	if (parser->error == YAML_MEMORY_ERROR)
		return error_sys(reader->err, -ENOMEM, reader->file->path, "cannot read it");
	if (parser->error == YAML_READER_ERROR) {
		mark = (yaml_mark_t){ 0 };
		for (size_t i = 0; i < parser->problem_offset; i++) {
			mark.column = text[i] == '\n' ? 0 : mark.column + 1;
			mark.line += text[i] == '\n';
		}
	}
	error_set(reader->err, -EINVAL, place_of(reader, &mark, place), "this is no YAML: %s%s%s",
		parser->problem ? parser->problem : "it cannot be read",
		parser->context ? ", " : "", parser->context ? parser->context : "");
	error_hint(reader->err,
		parser->error == YAML_READER_ERROR
			? "the file is to be text in UTF-8"
			: "a line is 'key: value'; what belongs to a key is indented by spaces, "
			  "never by tabs, and a value with ': ' or ' #' in it is in quotes");
	return reader->err->code;
}

/* An alias can make of a few lines more than there is memory, and a tag means types that there are not here. */
static int refuse_more(struct reader *reader)
{
	const yaml_event_t *event = &reader->event;
	const yaml_char_t *anchor = NULL, *tag = NULL;
	char place[128];

	if (event->type == YAML_SCALAR_EVENT) {
		anchor = event->data.scalar.anchor;
		tag = event->data.scalar.tag;
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		anchor = event->data.sequence_start.anchor;
		tag = event->data.sequence_start.tag;
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		anchor = event->data.mapping_start.anchor;
		tag = event->data.mapping_start.tag;
	}
	if (event->type != YAML_ALIAS_EVENT && !anchor && !tag)
		return 0;
	error_set(reader->err, -EINVAL, place_of(reader, &event->start_mark, place),
		"%s are not understood here",
		tag ? "tags, which begin with '!',"
		    : "anchors and aliases, which begin with '&' and '*',");
	error_hint(reader->err, "write the value itself, or in quotes what is to begin like that");
	return reader->err->code;
}

static int next_event(struct reader *reader)
{
	yaml_event_delete(&reader->event);
	if (!yaml_parser_parse(&reader->parser, &reader->event))
		return tell_parser(reader, (const char *)reader->parser.input.string.start);
	return refuse_more(reader);
}

/* A scalar is one line of text: neither a NUL nor what else is written "\x07" is any option's. */
static int check_scalar(struct reader *reader, const char *name)
{
	const yaml_event_t *event = &reader->event;
	const unsigned char *text = event->data.scalar.value;
	char place[128];

	for (size_t i = 0; i < event->data.scalar.length; i++) {
		if (text[i] >= ' ' && text[i] != 0x7f)
			continue;
		error_set(reader->err, -EINVAL, place_of(reader, &event->start_mark, place),
			"%s has a control character", name);
		error_hint(reader->err, text[i] == '\n' ? "what is to be one line but stands on "
							  "several begins with '>-'"
							: "a value is one line of text");
		return reader->err->code;
	}
	return 0;
}

static bool is_null(const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;

	return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (!text[0] || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static int wrong_type(struct reader *reader, const struct option *option, const char *what)
{
	char place[128];

	error_set(reader->err, -EINVAL, place_of(reader, &reader->event.start_mark, place), "%s %s",
		option->name, what);
	hint_form(reader, option);
	return reader->err->code;
}

static int read_flag_key(struct reader *reader, struct description_word *word)
{
	const char *text = (const char *)reader->event.data.scalar.value;

	if (strcmp(text, "false") == 0)
		return 0;
	if (strcmp(text, "true"))
		return wrong_type(reader, word->option, "is true or false");
	return add_word(reader->file, word, NULL, reader->err);
}

static int read_scalar(struct reader *reader, const struct option *option)
{
	const yaml_event_t *event = &reader->event;
	struct description_word word = {
		.option = option,
		.line = event->start_mark.line + 1,
		.column = event->start_mark.column + 1,
	};

	if (check_scalar(reader, option->name))
		return reader->err->code;
	if (is_null(event))
		return wrong_type(reader, option, "has no value");
	if (option->has_arg == no_argument)
		return read_flag_key(reader, &word);
	return add_word(reader->file, &word, (const char *)event->data.scalar.value, reader->err);
}

static int read_list(struct reader *reader, const struct option *option)
{
	if (option->has_arg != repeated_argument)
		return wrong_type(reader, option, "takes one value, and here is a list");
	while (!next_event(reader) && reader->event.type != YAML_SEQUENCE_END_EVENT) {
		if (reader->event.type != YAML_SCALAR_EVENT)
			return wrong_type(
				reader, option, "takes a list of values, and this is none");
		if (read_scalar(reader, option))
			return reader->err->code;
	}
	return reader->err->code;
}

static int read_value(struct reader *reader, const struct option *option)
{
	if (next_event(reader))
		return reader->err->code;
	if (reader->event.type == YAML_SCALAR_EVENT)
		return read_scalar(reader, option);
	if (reader->event.type == YAML_SEQUENCE_START_EVENT)
		return read_list(reader, option);
	return wrong_type(reader, option, "takes a value, and here are keys");
}

/* lines: of each option, by its place in the table, where it was; 0: not yet. */
static int read_key(struct reader *reader, unsigned *lines)
{
	const yaml_event_t *event = &reader->event;
	const struct option *option;
	unsigned *line;
	char place[128];
	const char *name, *nearest;

	place_of(reader, &event->start_mark, place);
	if (event->type != YAML_SCALAR_EVENT)
		return error_set(reader->err, -EINVAL, place, "a key is a word, and here is more");
	if (check_scalar(reader, "the key"))
		return reader->err->code;
	name = (const char *)event->data.scalar.value;
	option = find_key(reader->options, name);
	if (!option) {
		error_set(reader->err, -EINVAL, place, "there is no key '%.*s'", WORD_SHOWN, name);
		nearest = nearest_key(reader->options, name);
		if (nearest)
			error_hint(reader->err, "did you mean %s?", nearest);
		else
			error_hint(reader->err, "'penstock config --defaults' shows them all");
		return reader->err->code;
	}
	line = &lines[option - reader->options];
	if (*line) {
		error_set(reader->err, -EINVAL, place, "%s is there twice, on line %u first", name,
			*line);
		hint_form(reader, option);
		return reader->err->code;
	}
	*line = event->start_mark.line + 1;
	return read_value(reader, option);
}

static size_t count_options(const struct option *options)
{
	size_t count = 0;

	while (options[count].name)
		count++;
	return count;
}

static int read_all_keys(struct reader *reader)
{
	cleanup_free unsigned *lines = calloc(count_options(reader->options), sizeof(*lines));

	if (!lines)
		return error_sys(reader->err, -ENOMEM, reader->file->path, "cannot read it");
	while (!next_event(reader) && reader->event.type != YAML_MAPPING_END_EVENT)
		if (read_key(reader, lines))
			break;
	return reader->err->code;
}

static int no_keys(struct reader *reader, const char *what)
{
	char place[128];

	error_set(reader->err, -EINVAL, place_of(reader, &reader->event.start_mark, place), "%s",
		what);
	error_hint(reader->err, "each option of 'penstock run' is a key, such as 'memory: 8G'; "
				"'penstock config --defaults' shows them all");
	return reader->err->code;
}

/* The beginning of the stream, or the end of the document. */
static int skip_event(struct reader *reader)
{
	return next_event(reader);
}

/* Each function ends at the event behind which the next one goes on. */
static int read_document(struct reader *reader)
{
	if (skip_event(reader) || next_event(reader))
		return reader->err->code;
	if (reader->event.type == YAML_STREAM_END_EVENT)
		return no_keys(reader, "there is nothing in it");
	if (next_event(reader))
		return reader->err->code;
	if (reader->event.type != YAML_MAPPING_START_EVENT)
		return no_keys(reader, "this is no key with a value");
	if (read_all_keys(reader) || skip_event(reader) || next_event(reader))
		return reader->err->code;
	if (reader->event.type != YAML_STREAM_END_EVENT)
		return no_keys(reader, "a second document begins here; a file describes one VM");
	return 0;
}

/* One that the command line says otherwise would still leave its traces, such as a path. */
static bool is_overruled(const struct description *description, const struct description_word *word)
{
	for (size_t i = 0; i < description->count; i++)
		if (description->words[i].option == word->option)
			return word->option->has_arg != repeated_argument;
	return false;
}

/* The file's before those of the command line, all of which go to the former. */
static int merge_words(struct description *description, struct description *file, struct error *err)
{
	struct description merged = { .path = file->path };
	const struct description *parts[] = { file, description };

	for (size_t part = 0; part < ARRAY_SIZE(parts) && !err->code; part++)
		for (size_t i = 0; i < parts[part]->count && !err->code; i++) {
			const struct description_word *word = &parts[part]->words[i];

			if (part == 1 || !is_overruled(description, word))
				add_word(&merged, word, word->text, err);
		}
	description_free(description);
	*description = merged;
	return err->code;
}

int description_parse(struct description *description, const char *path, const char *text,
	size_t size, const struct option *options, const char *(*form)(const char *name),
	struct error *err)
{
	struct description file = { .path = path };
	struct reader reader = { .file = &file, .options = options, .form = form, .err = err };

	if (!yaml_parser_initialize(&reader.parser))
		return error_sys(err, -ENOMEM, path, "cannot read it");
	yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
	if (!read_document(&reader))
		merge_words(description, &file, err);
	yaml_event_delete(&reader.event);
	yaml_parser_delete(&reader.parser);
	description_free(&file);
	return err->code;
}

/* Whoever has become root by sudo. */
static bool is_the_users(uid_t uid)
{
	const char *text = getenv("SUDO_UID");
	char number[16];

	snprintf(number, sizeof(number), "%u", uid);
	return text && strcmp(text, number) == 0;
}

/* What root does by it is for those who may write it to say. */
static int check_writers(const char *path, const struct stat *status, struct error *err)
{
	bool is_own = status->st_uid == 0 || is_the_users(status->st_uid);

	if (status->st_size > DESCRIPTION_SIZE_MAX)
		return error_set(err, -EFBIG, path, "a file that describes a VM has at most 1 MiB");
	if (geteuid() != 0 || (is_own && !(status->st_mode & (S_IWGRP | S_IWOTH))))
		return 0;
	error_set(
		err, -EPERM, path, "others may write it, and would so have root do what they like");
	error_hint(err, "look at it, then: %s %s", is_own ? "chmod go-w" : "chown root", path);
	return err->code;
}

int description_read(struct description *description, const char *path,
	const struct option *options, const char *(*form)(const char *name), struct error *err)
{
	cleanup_fd int fd = fd_open_regular(path);
	cleanup_free char *text = NULL;
	struct stat status;
	int code;

	if (fd == -EINVAL)
		return error_set(err, fd, path, "what describes a VM is to be a regular file");
	if (fd < 0) {
		error_sys(err, fd, path, "cannot open it");
		error_hint(err, "what is no option is a file that describes a VM");
		return fd;
	}
	if (fstat(fd, &status))
		return error_sys(err, -errno, path, "cannot read it");
	if (check_writers(path, &status, err))
		return err->code;
	text = malloc(status.st_size + 1);
	if (!text)
		return error_sys(err, -ENOMEM, path, "cannot read it");
	code = fd_read_all(fd, text, status.st_size);
	if (code)
		return error_sys(err, code, path, "cannot read it");
	return description_parse(description, path, text, status.st_size, options, form, err);
}

/* In a file an option has no dashes. */
static void drop_dashes(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		bool starts = from == text || from[-1] == ' ';

		if (starts && from[0] == '-' && from[1] == '-' && islower((unsigned char)from[2]))
			from += 2;
		*to++ = *from;
	}
	*to = '\0';
}

static void put_place(const struct description *description, const struct description_word *word,
	struct error *err)
{
	struct error told = { 0 };
	char place[128];

	drop_dashes(err->what);
	error_set(&told, err->code,
		format_place(description->path, word->line, word->column, place), "%s%s%s",
		err->object, err->object[0] ? ": " : "", err->what);
	memcpy(told.hint, err->hint, sizeof(told.hint));
	*err = told;
}

/* "--memory" at the beginning of text. */
static bool begins_with_name(const struct description_word *word, const char *text)
{
	size_t length = strlen(word->option->name);

	return strncmp(text, word->option->name, length) == 0 && text[length] != '-' &&
	       !isalnum((unsigned char)text[length]);
}

static const struct description_word *word_named_in(
	const struct description *description, const char *text)
{
	while ((text = strstr(text, "--"))) {
		text += 2;
		for (size_t i = 0; i < description->count; i++)
			if (description->words[i].line &&
				begins_with_name(&description->words[i], text))
				return &description->words[i];
	}
	return NULL;
}

/* A file's name as the value, or as a part of it that is not of another name: "01:00.0,rom=/a". */
static const struct description_word *word_with_path(
	const struct description *description, const char *path)
{
	if (!strchr(path, '/'))
		return NULL;
	for (size_t i = 0; i < description->count; i++) {
		const struct description_word *word = &description->words[i];
		const char *at = word->line && word->text ? strstr(word->text, path) : NULL;

		if (at && (at == word->text || strchr("=:", at[-1])) &&
			strchr(",", at[strlen(path)]))
			return word;
	}
	return NULL;
}

void description_locate(const struct description *description, const struct description_word *word,
	struct error *err)
{
	if (!err->code || !description->path)
		return;
	if (!word)
		word = word_named_in(description, err->what);
	if (!word)
		word = word_with_path(description, err->object);
	if (word && word->line)
		put_place(description, word, err);
}

/* A text that a plain word of YAML would not be, so that other programs read it right as well. */
static bool wants_quotes(const char *text)
{
	static const char *const words[] = { "", "~", "null", "true", "false", "yes", "no", "on",
		"off", "y", "n" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcasecmp(text, words[i]) == 0)
			return true;
	return false;
}

static bool emit(yaml_emitter_t *emitter, yaml_event_t *event, int made)
{
	return made && yaml_emitter_emit(emitter, event);
}

static bool emit_scalar(yaml_emitter_t *emitter, const char *text, bool quoted)
{
	yaml_event_t event;

	return emit(emitter, &event,
		yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text,
			strlen(text), 1, 1,
			quoted ? YAML_SINGLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE));
}

static bool emit_value(yaml_emitter_t *emitter, const struct description_word *word)
{
	return word->text ? emit_scalar(emitter, word->text, wants_quotes(word->text))
			  : emit_scalar(emitter, "true", false);
}

/* All of its values, or of one that is not repeated the last. */
static bool emit_option(
	yaml_emitter_t *emitter, const struct description *description, const struct option *option)
{
	const struct description_word *last = NULL;
	bool list = option->has_arg == repeated_argument, good = true;
	yaml_event_t event;

	for (size_t i = 0; i < description->count && good; i++) {
		const struct description_word *word = &description->words[i];

		if (word->option != option)
			continue;
		if (!last)
			good = emit_scalar(emitter, option->name, false);
		if (!last && list)
			good = good && emit(emitter, &event,
					       yaml_sequence_start_event_initialize(&event, NULL,
						       NULL, 1, YAML_BLOCK_SEQUENCE_STYLE));
		last = word;
		if (list)
			good = good && emit_value(emitter, word);
	}
	if (!last || !good)
		return good;
	return list ? emit(emitter, &event, yaml_sequence_end_event_initialize(&event))
		    : emit_value(emitter, last);
}

static bool emit_all(yaml_emitter_t *emitter, const struct description *description,
	const struct option *options)
{
	yaml_event_t event;
	bool good;

	good = emit(emitter, &event,
		       yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) &&
	       emit(emitter, &event,
		       yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1)) &&
	       emit(emitter, &event,
		       yaml_mapping_start_event_initialize(
			       &event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
	for (; good && options->name; options++)
		good = emit_option(emitter, description, options);
	return good && emit(emitter, &event, yaml_mapping_end_event_initialize(&event)) &&
	       emit(emitter, &event, yaml_document_end_event_initialize(&event, 1)) &&
	       emit(emitter, &event, yaml_stream_end_event_initialize(&event));
}

/* What a file cannot say. */
static int check_texts(const struct description *description, struct error *err)
{
	for (size_t i = 0; i < description->count; i++) {
		const struct description_word *word = &description->words[i];

		for (const char *at = word->text; at && *at; at++)
			if ((unsigned char)*at < ' ' || *at == 0x7f)
				return error_set(err, -EINVAL, NULL,
					"--%s has a control character, which a file cannot have",
					word->option->name);
	}
	return 0;
}

int description_write(const struct description *description, const struct option *options, FILE *to,
	struct error *err)
{
	yaml_emitter_t emitter;

	if (check_texts(description, err))
		return err->code;
	if (!yaml_emitter_initialize(&emitter))
		return error_sys(err, -ENOMEM, NULL, "cannot write a description");
	yaml_emitter_set_output_file(&emitter, to);
	yaml_emitter_set_unicode(&emitter, 1);
	yaml_emitter_set_width(&emitter, -1);
	if (!emit_all(&emitter, description, options))
		error_set(err, emitter.error == YAML_MEMORY_ERROR ? -ENOMEM : -EINVAL, NULL,
			"cannot write a description: %s",
			emitter.problem ? emitter.problem : "what it says is not in UTF-8");
	yaml_emitter_delete(&emitter);
	return err->code;
}
