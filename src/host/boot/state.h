/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/boot/files.h"
#include "host/boot/list.h"
#include "host/boot/words.h"

#define BOOT_STATE "/var/lib/penstock/boot-config.json"

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
