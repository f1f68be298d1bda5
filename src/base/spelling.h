/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#define SPELLING_MAX 32 /* characters of a word that are looked at */

/* How many letters must be changed, added or left out to make a word another (Levenshtein), which is lower case. */
unsigned spelling_distance(const char *word, const char *other);
