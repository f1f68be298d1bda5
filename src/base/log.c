/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/log.h"

#include "base/journald.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* One write(2) a line: the broker and the machine share stderr and must not mix lines. */
static void print_line(enum journald_priority priority, const char *format, va_list args)
{
	const char *prefix = priority == JOURNALD_WARNING ? "warning: " : "";
	char line[1024];
	int start = snprintf(line, sizeof(line), "penstock: %s", prefix), used = start;
	int more = vsnprintf(line + used, sizeof(line) - used - 1, format, args);

	if (journald_send(priority, line + start))
		return;
	used += more < (int)sizeof(line) - used - 1 ? more : (int)sizeof(line) - used - 2;
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0)
		return; /* nobody is left to tell */
}

void log_info(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_line(JOURNALD_INFO, format, args);
	va_end(args);
}

void log_warning(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_line(JOURNALD_WARNING, format, args);
	va_end(args);
}
