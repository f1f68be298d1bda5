/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/boot/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void boot_plan_note(struct boot_plan *plan, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	plan->out_of_memory |= !boot_list_add_v(&plan->notes, format, args);
	va_end(args);
}

void boot_plan_next(struct boot_plan *plan, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	plan->out_of_memory |= !boot_list_add_v(&plan->next, format, args);
	va_end(args);
	if (!plan->out_of_memory)
		plan->out_of_memory =
			!boot_list_add(&plan->undo, "%s", plan->next.items[plan->next.count - 1]);
}

void boot_plan_word(struct boot_plan *plan, const char *word)
{
	size_t used = strlen(plan->words);

	snprintf(plan->words + used, sizeof(plan->words) - used, "%s%s", used ? " " : "", word);
}

void boot_plan_file(struct boot_plan *plan, const struct boot_file *file)
{
	plan->out_of_memory |= !file->text;
	if (file->text && plan->file_count < BOOT_FILES_MAX)
		plan->files[plan->file_count++] = *file;
}

bool boot_plan_has(const struct boot_plan *plan, const struct bdf *bdf)
{
	for (size_t i = 0; i < plan->device_count; i++)
		if (bdf_equal(&plan->devices[i].device.bdf, bdf))
			return true;
	return false;
}

void boot_plan_free(struct boot_plan *plan)
{
	for (size_t i = 0; i < plan->file_count; i++)
		free(plan->files[i].text);
	free(plan->devices);
	boot_list_free(&plan->entries);
	boot_list_free(&plan->notes);
	boot_list_free(&plan->next);
	boot_list_free(&plan->undo);
	*plan = (struct boot_plan){ 0 };
}
