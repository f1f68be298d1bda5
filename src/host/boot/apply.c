/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/apply.h"

#include "base/fd.h"
#include "base/log.h"
#include "host/boot/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/*
 * Changing the files, so that at every moment either the state says how to put them back or there
 * is nothing to put back:
 *
 * 1. The new state is written: for each file what it is without penstock, what it is now, and
 *    what it will be. Whichever of the latter two is found there later is penstock's.
 * 2. Directories and the new files are made beside the old ones; a full or read-only disk shows
 *    here.
 * 3. The files are put in their places.
 * 4. What is no longer needed is dropped from the state.
 */

static int no_memory(struct error *err)
{
	return error_sys(err, -ENOMEM, NULL, "cannot change the boot configuration");
}

/* 1: what to change. */

static struct boot_change *add_change(struct boot_result *result, const char *path)
{
	struct boot_change *more = reallocarray(result->changes, result->count + 1, sizeof(*more));
	char *copy = strdup(path);

	if (more)
		result->changes = more;
	if (!more || !copy) {
		free(copy);
		return NULL;
	}
	more[result->count] = (struct boot_change){ .path = copy };
	return &more[result->count++];
}

static bool is_text(const struct boot_bytes *bytes)
{
	return bytes->data && strlen(bytes->data) == bytes->size;
}

static void take_text(struct boot_bytes *bytes, char *text)
{
	*bytes = (struct boot_bytes){ text, strlen(text) };
}

static bool is_known(const struct boot_bytes *now, const struct boot_entry *entry)
{
	return boot_bytes_equal(now, &entry->written) || boot_bytes_equal(now, &entry->before) ||
	       boot_bytes_equal(now, &entry->original);
}

/* The file as it is without penstock. */
static int find_original(
	struct boot_change *change, const struct boot_entry *entry, struct error *err)
{
	const struct boot_bytes *original = &change->now;
	char *text;

	if (entry && change->now.data) {
		change->edited = !is_known(&change->now, entry);
		change->left = change->edited && entry->edit == BOOT_WHOLE;
		if (!change->edited)
			original = &entry->original;
	}
	if (!change->edited || change->left || !is_text(&change->now))
		return boot_bytes_copy(&change->original, original) ? 0 : no_memory(err);
	if (boot_words_remove(entry->edit, change->now.data, entry->words, &text))
		return no_memory(err);
	take_text(&change->original, text);
	return 0;
}

static int refuse_foreign(const struct boot_change *change, struct error *err)
{
	if (change->edited) {
		error_set(err, -EEXIST, change->path,
			"it has been changed since penstock wrote it, and is not overwritten");
		error_hint(err,
			"keep what you need of it elsewhere and remove the file, then try again");
	} else {
		error_set(err, -EEXIST, change->path,
			"there is such a file already, and it is not penstock's");
		error_hint(err, "rename it, or remove it if it is not needed");
	}
	return -EEXIST;
}

static int want_words(struct boot_change *change, const char *words, struct error *err)
{
	char added[BOOT_WORDS], *text = NULL;
	const struct boot_bytes *original = &change->original;
	int code = -EINVAL;

	if (is_text(original))
		code = boot_words_add(change->edit, original->data, words, &text, added);
	if (code == -EINVAL) {
		error_set(err, code, change->path,
			"the kernel's command line cannot be found in this file");
		error_hint(err, "add by hand: %s", words);
		return code;
	}
	if (code)
		return no_memory(err);
	take_text(&change->wanted, text);
	change->words = strdup(added);
	return change->words ? 0 : no_memory(err);
}

static int want_file(struct boot_change *change, const struct boot_file *file, struct error *err)
{
	struct boot_bytes text = { file->text, strlen(file->text) };

	change->why = file->why;
	change->edit = file->edit;
	if (!change->now.data)
		change->mode = file->mode;
	if (file->edit != BOOT_WHOLE)
		return want_words(change, file->text, err);
	/* A file that is as penstock makes it is penstock's, though the state was lost. */
	if (change->original.data && !boot_bytes_equal(&change->now, &text))
		return refuse_foreign(change, err);
	free(change->original.data);
	change->original = (struct boot_bytes){ 0 };
	change->left = change->edited = false;
	return boot_bytes_copy(&change->wanted, &text) ? 0 : no_memory(err);
}

static const struct boot_file *find_planned(const struct boot_plan *plan, const char *path)
{
	for (size_t i = 0; plan && i < plan->file_count; i++)
		if (strcmp(plan->files[i].path, path) == 0)
			return &plan->files[i];
	return NULL;
}

/* For roll_back(): a file that was removed cannot be asked any more. */
static int read_now(const struct host *host, struct boot_change *change, struct error *err)
{
	char full[PATH_MAX];
	struct stat stat_;

	if (boot_files_read(host, change->path, &change->now, err))
		return err->code;
	if (boot_files_resolve(host, change->path, full) == 0 && stat(full, &stat_) == 0)
		change->mode = stat_.st_mode & 07777;
	return 0;
}

/*
 * entry is NULL for a file that penstock has not changed yet, file for one that it no longer
 * wants.
 */
static int make_change(const struct host *host, const struct boot_entry *entry,
	const struct boot_file *file, struct boot_result *result, struct error *err)
{
	struct boot_change *change = add_change(result, entry ? entry->path : file->path);

	if (!change)
		return no_memory(err);
	if (read_now(host, change, err) || find_original(change, entry, err))
		return err->code;
	if (file)
		return want_file(change, file, err);
	change->edit = entry->edit;
	if (entry->words && !(change->words = strdup(entry->words)))
		return no_memory(err);
	return boot_bytes_copy(&change->wanted, &change->original) ? 0 : no_memory(err);
}

static int make_changes(const struct host *host, const struct boot_state *state,
	const struct boot_plan *plan, struct boot_result *result, struct error *err)
{
	for (size_t i = 0; plan && i < plan->file_count; i++)
		if (make_change(host, boot_state_find(state, plan->files[i].path), &plan->files[i],
			    result, err))
			return err->code;
	for (size_t i = 0; i < state->count; i++)
		if (!find_planned(plan, state->entries[i].path) &&
			make_change(host, &state->entries[i], NULL, result, err))
			return err->code;
	return 0;
}

static bool change_differs(const struct boot_change *change)
{
	return !boot_bytes_equal(&change->now, &change->wanted);
}

/* Is there something to put back later? */
static bool is_ours(const struct boot_change *change)
{
	return change->left || !boot_bytes_equal(&change->original, &change->wanted);
}

/* 2: the state. */

/* The directories that have to be made for a file, outer ones first. */
static bool add_directories(
	struct boot_list *list, const struct host *host, const struct boot_change *change)
{
	char path[PATH_MAX];

	if (!change->wanted.data || !change_differs(change))
		return true;
	snprintf(path, sizeof(path), "%s", change->path);
	for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (!host_exists(host, path) && !boot_list_has(list, path) &&
			!boot_list_add(list, "%s", path))
			return false;
		*slash = '/';
	}
	return true;
}

/* Those that are there still. */
static bool copy_directories(
	struct boot_list *to, const struct host *host, const struct boot_list *from)
{
	for (size_t i = 0; i < from->count; i++)
		if (host_exists(host, from->items[i]) && !boot_list_add(to, "%s", from->items[i]))
			return false;
	return true;
}

static bool copy_list(struct boot_list *to, const struct boot_list *from)
{
	for (size_t i = 0; i < from->count; i++)
		if (!boot_list_has(to, from->items[i]) && !boot_list_add(to, "%s", from->items[i]))
			return false;
	return true;
}

static bool copy_entry(struct boot_state *state, const struct boot_entry *from)
{
	struct boot_entry *entry = boot_state_add(state, from->path);

	if (!entry)
		return false;
	entry->edit = from->edit;
	entry->words = strdup(from->words ? from->words : "");
	return entry->words && boot_bytes_copy(&entry->original, &from->original) &&
	       boot_bytes_copy(&entry->before, &from->before) &&
	       boot_bytes_copy(&entry->written, &from->written);
}

static bool add_entry(struct boot_state *state, const struct boot_change *change)
{
	const struct boot_entry entry = {
		.path = change->path,
		.edit = change->edit,
		.words = change->words,
		.original = change->original,
		.before = change->now,
		.written = change->wanted,
	};

	return copy_entry(state, &entry);
}

/* What holds after the changes; with during, also before and in the midst of them. */
static int make_state(struct boot_state *state, const struct host *host,
	const struct boot_state *old, const struct boot_plan *plan,
	const struct boot_result *result, bool during, struct error *err)
{
	*state = (struct boot_state){ 0 };
	if (!copy_directories(&state->directories, host, &old->directories) ||
		!copy_list(&state->undo, plan ? &plan->undo : &old->undo) ||
		(during && !copy_list(&state->undo, &old->undo)))
		return no_memory(err);
	for (size_t i = 0; i < result->count; i++) {
		const struct boot_change *change = &result->changes[i];
		const struct boot_entry *entry = boot_state_find(old, change->path);
		bool keep = change->left || (during && !is_ours(change) && entry);

		if (!add_directories(&state->directories, host, change) ||
			(keep ? !copy_entry(state, entry)
			      : is_ours(change) && !add_entry(state, change)))
			return no_memory(err);
	}
	return 0;
}

/* 3: the files. */

static int make_directories(
	const struct host *host, const struct boot_list *directories, struct error *err)
{
	for (size_t i = 0; i < directories->count; i++) {
		const char *path = directories->items[i];
		char full[PATH_MAX];
		int code;

		if (host_exists(host, path))
			continue;
		code = boot_files_resolve(host, path, full);
		if (code == 0 && mkdir(full, 0755) < 0 && errno != EEXIST)
			code = -errno;
		/* Whatever the umask is. */
		if (code == 0 && chmod(full, 0755) < 0)
			code = -errno;
		if (code)
			return boot_files_tell(err, code, path, "cannot make the directory");
	}
	return 0;
}

/* Those that are not empty are in use by others now. */
static void remove_directories(
	const struct host *host, const struct boot_list *directories, const struct boot_list *but)
{
	for (size_t i = directories->count; i--;) {
		char full[PATH_MAX];

		if ((but && boot_list_has(but, directories->items[i])) ||
			boot_files_resolve(host, directories->items[i], full))
			continue;
		(void)rmdir(full);
	}
}

static void discard_all(const struct host *host, const struct boot_result *result)
{
	for (size_t i = 0; i < result->count; i++) {
		char full[PATH_MAX];

		if (boot_files_resolve(host, result->changes[i].path, full) == 0)
			boot_files_discard(full);
	}
}

static int prepare_all(const struct host *host, const struct boot_result *result, struct error *err)
{
	for (size_t i = 0; i < result->count; i++) {
		const struct boot_change *change = &result->changes[i];
		char full[PATH_MAX];
		int code = boot_files_resolve(host, change->path, full);

		if (!change->wanted.data || !change_differs(change))
			continue;
		if (code == 0)
			code = boot_files_prepare(full, &change->wanted, change->mode);
		if (code)
			return boot_files_tell(err, code, change->path, "cannot write it");
	}
	return 0;
}

static int put_file(const struct host *host, const struct boot_change *change)
{
	char full[PATH_MAX];
	int code = boot_files_resolve(host, change->path, full);

	if (code || change->wanted.data)
		return code ? code : boot_files_replace(full);
	return unlink(full) < 0 && errno != ENOENT ? -errno : 0;
}

static bool roll_back(const struct host *host, const struct boot_result *result, size_t count)
{
	bool all = true;

	while (count--) {
		const struct boot_change *change = &result->changes[count];
		char full[PATH_MAX];
		int code = boot_files_resolve(host, change->path, full);

		if (!change_differs(change))
			continue;
		if (code == 0 && !change->now.data)
			code = unlink(full) < 0 ? -errno : 0;
		else if (code == 0 &&
			 (code = boot_files_prepare(full, &change->now, change->mode)) == 0)
			code = boot_files_replace(full);
		if (code)
			log_warning("%s: cannot be put back: %s; 'penstock boot-config --undo' "
				    "tries again",
				change->path, strerror(-code));
		all &= !code;
	}
	return all;
}

/* Either all of them, or none: but for what roll_back() could not do, and mixed is true then. */
static int put_files(
	const struct host *host, const struct boot_result *result, bool *mixed, struct error *err)
{
	for (size_t i = 0; i < result->count; i++) {
		const struct boot_change *change = &result->changes[i];
		int code = change_differs(change) ? put_file(host, change) : 0;

		if (code == 0)
			continue;
		boot_files_tell(err, code, change->path, "cannot change it");
		*mixed = !roll_back(host, result, i);
		return code;
	}
	return 0;
}

/* 4: all of it. */

/*
 * As it was before. An old state is not written again: the one that holds during changes will do.
 */
static void give_up_changes(const struct host *host, const struct boot_state *old,
	const struct boot_state *during, const struct boot_result *result)
{
	struct error ignored = { 0 };

	discard_all(host, result);
	remove_directories(host, &during->directories, &old->directories);
	if (!old->exists)
		boot_state_remove(host, &ignored);
}

/* Where there is no room for it, the state that holds during the changes will do as well. */
static int finish_state(const struct host *host, const struct boot_state *after, struct error *err)
{
	struct error ignored = { 0 };

	if (after->count) {
		(void)boot_state_save(after, host, &ignored);
		return 0;
	}
	remove_directories(host, &after->directories, NULL);
	return boot_state_remove(host, err);
}

static int commit_changes(const struct host *host, const struct boot_state *old,
	const struct boot_plan *plan, struct boot_result *result, struct error *err)
{
	struct boot_state during = { 0 }, after = { 0 };
	bool mixed = false;

	discard_all(host, result); /* what a killed process left */
	if (make_state(&during, host, old, plan, result, true, err) ||
		make_state(&after, host, old, plan, result, false, err) ||
		/* To put files back the old state is as good, and asks for no room on the disk. */
		(plan && boot_state_save(&during, host, err)))
		goto free;
	if (make_directories(host, &during.directories, err) || prepare_all(host, result, err) ||
		put_files(host, result, &mixed, err)) {
		if (!mixed)
			give_up_changes(host, old, &during, result);
		goto free;
	}
	finish_state(host, &after, err);
free:
	boot_state_free(&during);
	boot_state_free(&after);
	return err->code;
}

static bool any_difference(const struct boot_result *result, const struct boot_state *state)
{
	size_t ours = 0;

	for (size_t i = 0; i < result->count; i++) {
		if (change_differs(&result->changes[i]))
			return true;
		ours += is_ours(&result->changes[i]);
	}
	return ours != state->count;
}

/* Held while files are changed, by the directory of the state. A descriptor or a negative errno. */
static int lock_state(const struct host *host, struct error *err)
{
	char full[PATH_MAX], *slash;
	cleanup_fd int fd = -1;
	int code = boot_files_resolve(host, BOOT_STATE, full);

	if (code)
		return boot_files_tell(err, code, BOOT_STATE, "cannot keep a record");
	for (slash = full + strlen(host->root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(full, 0755) < 0 && errno != EEXIST)
			return boot_files_tell(err, -errno, full, "cannot make the directory");
		*slash = '/';
	}
	*strrchr(full, '/') = '\0';
	fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return boot_files_tell(err, -errno, full, "cannot open the directory");
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		error_set(err, -errno, full, "another 'penstock boot-config' is at work");
		error_hint(
			err, "try again when it has ended: 'fuser -v %s' tells which it is", full);
		return err->code;
	}
	return take_fd(&fd);
}

static int apply_changes(const struct host *host, const struct boot_plan *plan, bool dry_run,
	struct boot_state *state, struct boot_result *result, struct error *err)
{
	int code = boot_state_load(state, host, err);

	if (code == 0)
		code = make_changes(host, state, plan, result, err);
	if (code)
		return code;
	/* What the last configuration needs after it is gone, and then what this one needs. */
	for (size_t i = 0; i < state->undo.count; i++)
		if (!(plan && boot_list_has(&plan->next, state->undo.items[i])) &&
			!boot_list_add(&result->next, "%s", state->undo.items[i]))
			return no_memory(err);
	if (plan && !copy_list(&result->next, &plan->next))
		return no_memory(err);
	if (dry_run || !any_difference(result, state))
		return 0;
	return commit_changes(host, state, plan, result, err);
}

int boot_apply(const struct host *host, const struct boot_plan *plan, bool dry_run,
	struct boot_result *result, struct error *err)
{
	bool needs_lock = !dry_run && (plan || host_exists(host, BOOT_STATE));
	cleanup_fd int locked = needs_lock ? lock_state(host, err) : -1;
	struct boot_state state = { 0 };
	int code;

	*result = (struct boot_result){ 0 };
	if (needs_lock && locked < 0)
		return locked;
	code = apply_changes(host, plan, dry_run, &state, result, err);
	boot_state_free(&state);
	return code;
}

void boot_result_free(struct boot_result *result)
{
	for (size_t i = 0; i < result->count; i++) {
		struct boot_change *change = &result->changes[i];

		free(change->path);
		free(change->words);
		free(change->now.data);
		free(change->wanted.data);
		free(change->original.data);
	}
	free(result->changes);
	boot_list_free(&result->next);
	*result = (struct boot_result){ 0 };
}
