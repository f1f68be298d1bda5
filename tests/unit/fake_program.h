/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * A directory, whose name ends in XXXXXX, where this very program is one of the distribution's by its name: the only
 * one in PATH. The program asks by argv[0] which of them it is.
 */
void fake_program_make(char *directory, const char *name);
/* With all that is in it. */
void fake_program_remove(const char *directory);
