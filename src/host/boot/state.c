/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/state.h"

#include "base/fd.h"
#include "base/size.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

/*
 * The state is one JSON file, so that it can be replaced in one step:
 *
 *   { "version": 1, "undo": [COMMAND...], "directories": [PATH...], "files": [
 *     { "path": ..., "edit": "whole|grub|cmdline", "words": ...,
 *       "original": CONTENT or null, "before": ..., "written": ... } ] }
 */

#define VERSION 1

static const char *const edits[] = { "whole", "grub", "cmdline", "entry" };

static struct json_object *bytes_to_json(const struct boot_bytes *bytes)
{
	return bytes->data ? json_object_new_string_len(bytes->data, bytes->size) : NULL;
}

static struct json_object *list_to_json(const struct boot_list *list)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < list->count; i++)
		json_object_array_add(array, json_object_new_string(list->items[i]));
	return array;
}

static struct json_object *entry_to_json(const struct boot_entry *entry)
{
	struct json_object *json = json_object_new_object();

	json_object_object_add(json, "path", json_object_new_string(entry->path));
	json_object_object_add(json, "edit", json_object_new_string(edits[entry->edit]));
	json_object_object_add(
		json, "words", json_object_new_string(entry->words ? entry->words : ""));
	json_object_object_add(json, "original", bytes_to_json(&entry->original));
	json_object_object_add(json, "before", bytes_to_json(&entry->before));
	json_object_object_add(json, "written", bytes_to_json(&entry->written));
	return json;
}

static struct json_object *state_to_json(const struct boot_state *state)
{
	struct json_object *json = json_object_new_object();
	struct json_object *files = json_object_new_array();

	for (size_t i = 0; i < state->count; i++)
		json_object_array_add(files, entry_to_json(&state->entries[i]));
	json_object_object_add(json, "version", json_object_new_int(VERSION));
	json_object_object_add(json, "undo", list_to_json(&state->undo));
	json_object_object_add(json, "directories", list_to_json(&state->directories));
	json_object_object_add(json, "files", files);
	return json;
}

static const char *text_of(const struct json_object *json, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(json, key, &value) ||
		!json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

static bool bytes_from_json(
	const struct json_object *json, const char *key, struct boot_bytes *bytes)
{
	struct json_object *value;
	struct boot_bytes inside;

	if (!json_object_object_get_ex(json, key, &value))
		return false;
	if (!value)
		return true;
	if (!json_object_is_type(value, json_type_string))
		return false;
	inside.data = (char *)json_object_get_string(value);
	inside.size = json_object_get_string_len(value);
	return boot_bytes_copy(bytes, &inside);
}

static bool list_from_json(const struct json_object *json, const char *key, struct boot_list *list)
{
	struct json_object *array;

	if (!json_object_object_get_ex(json, key, &array) ||
		!json_object_is_type(array, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		struct json_object *item = json_object_array_get_idx(array, i);

		if (!json_object_is_type(item, json_type_string) ||
			!boot_list_add(list, "%s", json_object_get_string(item)))
			return false;
	}
	return true;
}

static bool entry_from_json(const struct json_object *json, struct boot_state *state)
{
	const char *path = text_of(json, "path"), *edit = text_of(json, "edit");
	const char *words = text_of(json, "words");
	struct boot_entry *entry;

	/* What is written here later is told by this file, so it had better be one of ours. */
	if (!path || path[0] != '/' || strstr(path, "/../") || !edit || !words)
		return false;
	entry = boot_state_add(state, path);
	if (!entry || !(entry->words = strdup(words)))
		return false;
	for (entry->edit = 0; strcmp(edits[entry->edit], edit); entry->edit++)
		if (entry->edit + 1 == ARRAY_SIZE(edits))
			return false;
	return bytes_from_json(json, "original", &entry->original) &&
	       bytes_from_json(json, "before", &entry->before) &&
	       bytes_from_json(json, "written", &entry->written);
}

static bool state_from_json(const struct json_object *json, struct boot_state *state)
{
	struct json_object *version, *files;

	if (!json_object_is_type(json, json_type_object) ||
		!json_object_object_get_ex(json, "version", &version) ||
		json_object_get_int(version) != VERSION ||
		!list_from_json(json, "undo", &state->undo) ||
		!list_from_json(json, "directories", &state->directories) ||
		!json_object_object_get_ex(json, "files", &files) ||
		!json_object_is_type(files, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(files); i++)
		if (!entry_from_json(json_object_array_get_idx(files, i), state))
			return false;
	return true;
}

static bool parse_state(const struct boot_bytes *bytes, struct boot_state *state)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *json;
	bool good;

	if (!tokener)
		return false;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	json = json_tokener_parse_ex(tokener, bytes->data, bytes->size + 1);
	good = json && state_from_json(json, state);
	json_object_put(json);
	json_tokener_free(tokener);
	return good;
}

int boot_state_load(struct boot_state *state, const struct host *host, struct error *err)
{
	struct boot_bytes bytes = { 0 };
	int code;

	*state = (struct boot_state){ 0 };
	code = boot_files_read(host, BOOT_STATE, &bytes, err);
	if (code || !bytes.data)
		return code;
	state->exists = true;
	if (!parse_state(&bytes, state)) {
		code = error_set(err, -EBADMSG, BOOT_STATE,
			"the record of what was changed is damaged, so penstock cannot tell what is to "
			"be put back");
		error_hint(err,
			"its text still has the original of each file; put these back by hand, then "
			"remove it");
	}
	free(bytes.data);
	return code;
}

/* In a file of penstock's own, among the words added to one, or in the command that takes it back. */
bool boot_state_has_word(const struct host *host, const char *word)
{
	struct error ignored = { 0 };
	struct boot_state state;
	bool found = false;

	boot_state_load(&state, host, &ignored);
	for (size_t i = 0; i < state.count && !found; i++) {
		const struct boot_entry *entry = &state.entries[i];
		const char *text = entry->edit == BOOT_WHOLE ? entry->written.data : entry->words;

		found = text && strstr(text, word);
	}
	for (size_t i = 0; i < state.undo.count && !found; i++)
		found = strstr(state.undo.items[i], word);
	boot_state_free(&state);
	return found;
}

int boot_state_save(const struct boot_state *state, const struct host *host, struct error *err)
{
	struct json_object *json = state_to_json(state);
	const char *text = json_object_to_json_string_ext(
		json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	struct boot_bytes bytes = { (char *)text, text ? strlen(text) : 0 };
	char full[PATH_MAX];
	int code = text ? boot_files_resolve(host, BOOT_STATE, full) : -ENOMEM;

	if (code == 0 && bytes.size > BOOT_SIZE_MAX)
		code = -EFBIG;
	/* Not for all to read: the original of a file may have a password. */
	if (code == 0)
		code = boot_files_prepare(full, &bytes, 0600);
	if (code == 0)
		code = boot_files_replace(full);
	json_object_put(json);
	return code ? boot_files_tell(err, code, BOOT_STATE, "cannot record what is changed") : 0;
}

int boot_state_remove(const struct host *host, struct error *err)
{
	char full[PATH_MAX];
	int code = boot_files_resolve(host, BOOT_STATE, full);

	if (code == 0)
		boot_files_discard(full); /* what a killed process left */
	if (code == 0 && unlink(full) < 0 && errno != ENOENT)
		code = -errno;
	return code ? boot_files_tell(err, code, BOOT_STATE, "cannot remove the record") : 0;
}

struct boot_entry *boot_state_find(const struct boot_state *state, const char *path)
{
	for (size_t i = 0; i < state->count; i++)
		if (strcmp(state->entries[i].path, path) == 0)
			return &state->entries[i];
	return NULL;
}

struct boot_entry *boot_state_add(struct boot_state *state, const char *path)
{
	struct boot_entry *more = reallocarray(state->entries, state->count + 1, sizeof(*more));
	char *copy = strdup(path);

	if (more)
		state->entries = more;
	if (!more || !copy) {
		free(copy);
		return NULL;
	}
	more[state->count] = (struct boot_entry){ .path = copy };
	return &more[state->count++];
}

void boot_state_free(struct boot_state *state)
{
	for (size_t i = 0; i < state->count; i++) {
		struct boot_entry *entry = &state->entries[i];

		free(entry->path);
		free(entry->words);
		free(entry->original.data);
		free(entry->before.data);
		free(entry->written.data);
	}
	free(state->entries);
	boot_list_free(&state->directories);
	boot_list_free(&state->undo);
	*state = (struct boot_state){ 0 };
}
