/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "fuzz.h"

#include <limits.h>

/* A host in a directory in memory: two PCI devices, what uses them, and the files of a system. */

extern char tree_root[PATH_MAX];

/* Makes the tree, and at later inputs again what was changed of it. */
void tree_make(void);

/*
 * Spoil one file as the input says: missing, huge, binary, a directory, a link that loops or leads out
 * of the tree, a pipe that hangs, a device that never ends. is_written: the code under test may write.
 */
void tree_change(struct fuzz_input *input, bool is_written);

/* Take one away. */
void tree_remove(const char *path);

/*
 * All files of the tree but for those of Penstock's own (/var, /run), with type, permissions, owner and
 * content, as text to be compared and freed.
 */
char *tree_snapshot(void);

/* Nothing has changed where a link leads out of the tree. */
void tree_check_outside(void);
