/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Lines of text: paths, commands, notes. */
struct boot_list {
	char **items;
	size_t count;
};

/* Without memory an item is left out, and false is returned. */
bool boot_list_add(struct boot_list *list, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
bool boot_list_add_v(struct boot_list *list, const char *format, va_list args);
bool boot_list_has(const struct boot_list *list, const char *item);
void boot_list_free(struct boot_list *list);
