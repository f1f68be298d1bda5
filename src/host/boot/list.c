/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/list.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool boot_list_add_v(struct boot_list *list, const char *format, va_list args)
{
	char **more = reallocarray(list->items, list->count + 1, sizeof(*more));

	if (!more)
		return false;
	list->items = more;
	if (vasprintf(&more[list->count], format, args) < 0)
		return false;
	list->count++;
	return true;
}

bool boot_list_add(struct boot_list *list, const char *format, ...)
{
	va_list args;
	bool added;

	va_start(args, format);
	added = boot_list_add_v(list, format, args);
	va_end(args);
	return added;
}

bool boot_list_has(const struct boot_list *list, const char *item)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->items[i], item) == 0)
			return true;
	return false;
}

void boot_list_free(struct boot_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct boot_list){ 0 };
}
