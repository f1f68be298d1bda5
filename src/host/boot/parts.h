/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/boot/boot.h"

/* The parts that boot_plan_make() and boot_apply() are made of. */

/* The first line of a configuration file that is penstock's. */
#define BOOT_COMMENT \
	"# Made by \"penstock boot-config\"; \"penstock boot-config --undo\" removes it.\n"

/* Lists. Without memory an item is left out, and false is returned. */
bool boot_list_add(struct boot_list *list, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
bool boot_list_has(const struct boot_list *list, const char *item);
void boot_list_free(struct boot_list *list);

/* Parts of a plan. They note in the plan when there is no memory. */
void boot_plan_note(struct boot_plan *plan, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A command to run after the files were written, and after they were put back. */
void boot_plan_next(struct boot_plan *plan, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void boot_plan_word(struct boot_plan *plan, const char *word);

bool boot_plan_has(const struct boot_plan *plan, const struct bdf *bdf);

/* Takes text, which is to be freed and may be NULL for want of memory. */
void boot_plan_file(struct boot_plan *plan, const struct boot_file *file);

int boot_plan_initramfs(struct boot_plan *plan, const struct host *host, struct error *err);
void boot_plan_modules(struct boot_plan *plan, const struct host *host);
void boot_plan_display(struct boot_plan *plan, const struct host *host);
void boot_plan_loader(struct boot_plan *plan, const struct host *host);

/*
 * Words in a kernel command line inside a file. Adding leaves out those that are there already;
 * words become those that were added. The result is to be freed. -EINVAL where the place for them
 * cannot be found.
 */
int boot_words_add(enum boot_edit edit, const char *text, const char *words, char **result,
	char added[static BOOT_WORDS]);
int boot_words_remove(enum boot_edit edit, const char *text, const char *words, char **result);

/* The state: what was written, and what was there before. */
struct boot_entry {
	char *path;
	enum boot_edit edit;
	char *words;
	struct boot_bytes original; /* without penstock */
	struct boot_bytes before;   /* just before the last change: it may have been stopped */
	struct boot_bytes written;  /* after it */
};

struct boot_state {
	bool exists;
	struct boot_entry *entries;
	size_t count;
	struct boot_list directories; /* that were made for the files, outer ones first */
	struct boot_list undo;        /* the commands to run when the files are gone */
};

int boot_state_load(struct boot_state *state, const struct host *host, struct error *err);
/* Has penstock put this word on the kernel's command line? */
bool boot_state_has_word(const struct host *host, const char *word);

int boot_state_save(const struct boot_state *state, const struct host *host, struct error *err);
int boot_state_remove(const struct host *host, struct error *err);
void boot_state_free(struct boot_state *state);
struct boot_entry *boot_state_find(const struct boot_state *state, const char *path);

/* A new entry at the end; NULL without memory. */
struct boot_entry *boot_state_add(struct boot_state *state, const char *path);

/* Files. None that is read or written is larger; those of configuration do not come near it. */
#define BOOT_SIZE_MAX (4u << 20)

/* A copy; without memory false. */
bool boot_bytes_copy(struct boot_bytes *to, const struct boot_bytes *from);

/*
 * The real path of a file or directory of the host, that need not be there: what a symbolic link
 * points to is changed, not the link. -EXDEV: it leads out of the host's root.
 */
int boot_resolve(const struct host *host, const char *path, char full[static PATH_MAX]);

/* No file is no error. */
int boot_read(
	const struct host *host, const char *path, struct boot_bytes *bytes, struct error *err);

/*
 * Replacing a file in two steps, so that a full disk is found out before anything has changed.
 * Owner and permissions of a file that is there are kept.
 */
int boot_prepare(const char *full, const struct boot_bytes *bytes, unsigned mode);
int boot_replace(const char *full);
void boot_discard(const char *full);

/* error_sys() with what to do next. */
int boot_tell(struct error *err, int code, const char *path, const char *what);
