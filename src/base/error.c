/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/error.h"

#include "base/journald.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void fill(struct error *err, int code, const char *object, const char *format, va_list args)
{
	err->code = code;
	snprintf(err->object, sizeof(err->object), "%s", object ? object : "");
	vsnprintf(err->what, sizeof(err->what), format, args);
	err->hint[0] = '\0';
}

int error_set(struct error *err, int code, const char *object, const char *format, ...)
{
	va_list args;

	if (err->code)
		return code;
	va_start(args, format);
	fill(err, code, object, format, args);
	va_end(args);
	return code;
}

int error_sys(struct error *err, int code, const char *object, const char *format, ...)
{
	va_list args;
	size_t used;

	if (err->code)
		return code;
	va_start(args, format);
	fill(err, code, object, format, args);
	va_end(args);
	used = strlen(err->what);
	snprintf(err->what + used, sizeof(err->what) - used, ": %s", strerror(-code));
	return code;
}

void error_hint(struct error *err, const char *format, ...)
{
	va_list args;

	if (err->hint[0])
		return;
	va_start(args, format);
	vsnprintf(err->hint, sizeof(err->hint), format, args);
	va_end(args);
}

/* Names in it come from files and devices of others. */
void error_print(const struct error *err)
{
	struct error shown = *err;
	char line[sizeof(shown) + 16];

	text_make_printable(shown.object);
	text_make_printable(shown.what);
	text_make_printable(shown.hint);
	snprintf(line, sizeof(line), "%s%s%s%s%s", shown.object, shown.object[0] ? ": " : "",
		shown.what, shown.hint[0] ? "; next: " : "", shown.hint);
	if (journald_send(JOURNALD_ERROR, line))
		return;
	fprintf(stderr, "penstock: %s%s%s\n", shown.object, shown.object[0] ? ": " : "",
		shown.what);
	if (shown.hint[0])
		fprintf(stderr, "  next: %s\n", shown.hint);
}
