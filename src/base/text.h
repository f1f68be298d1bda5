/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stddef.h>

/* Text from a device or a file name must not reach a terminal as an escape sequence. */

/* What a terminal would act on becomes '?', as does what is not UTF-8. */
void text_make_printable(char *text);

/* snprintf() that is meant to cut, and makes what it has written printable. */
void text_format(char *text, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
