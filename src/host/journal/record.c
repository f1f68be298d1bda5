/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/journal/record.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FIRST_LINE "penstock device 1"
#define BOUND      "bound"
#define MAKES_VFS  "makes-vfs"
#define CONSOLE    "console"
/* The two follow each other. */
#define FRAMEBUFFER        "framebuffer "
#define FRAMEBUFFER_DRIVER "framebuffer-driver "
#define FIRST_NAME         "penstock name 1"

static bool take_line(char **at, const char *key, char *value, size_t size)
{
	size_t length = strlen(key);
	char *end = strchr(*at, '\n');

	if (!end || strncmp(*at, key, length) || (size_t)(end - *at) - length >= size)
		return false;
	*end = '\0';
	strcpy(value, *at + length);
	*at = end + 1;
	for (; *value; value++)
		if (!isprint((unsigned char)*value) || *value == '/')
			return false;
	return true;
}

static bool take_flag(char **at, const char *key, bool *flag)
{
	char value[4];

	if (!take_line(at, key, value, sizeof(value)))
		return false;
	*flag = strcmp(value, "yes") == 0;
	return *flag || strcmp(value, "no") == 0;
}

static bool take_holder(char **at, struct host_holder *holder)
{
	char value[64], again[64];

	if (!take_line(at, "holder ", value, sizeof(value)) ||
		!take_line(at, "name ", holder->name, sizeof(holder->name)))
		return false;
	if (sscanf(value, "%d %" SCNu64, &holder->pid, &holder->start) != 2 || holder->pid < 0)
		return false;
	snprintf(again, sizeof(again), "%d %" PRIu64, holder->pid, holder->start);
	return strcmp(value, again) == 0;
}

/* Only there when a user has been given the node. */
static bool take_user(char **at, uid_t *user)
{
	char value[16], again[16];

	if (strncmp(*at, "user ", 5))
		return true;
	if (!take_line(at, "user ", value, sizeof(value)) || sscanf(value, "%u", user) != 1)
		return false;
	snprintf(again, sizeof(again), "%u", *user);
	return *user && strcmp(value, again) == 0;
}

/* Only there where it is so. */
static bool take_mark(char **at, const char *word, bool *is)
{
	char nothing[1];

	*is = strncmp(*at, word, strlen(word)) == 0;
	return !*is || take_line(at, word, nothing, sizeof(nothing));
}

/* Only there where something of the host was on the card. */
static bool take_screen(char **at, struct host_screen *screen)
{
	*screen = (struct host_screen){ 0 };
	if (!take_mark(at, CONSOLE, &screen->console))
		return false;
	if (strncmp(*at, FRAMEBUFFER, strlen(FRAMEBUFFER)))
		return true;
	return take_line(at, FRAMEBUFFER, screen->framebuffer, sizeof(screen->framebuffer)) &&
	       take_line(at, FRAMEBUFFER_DRIVER, screen->driver, sizeof(screen->driver)) &&
	       screen->framebuffer[0] && screen->driver[0];
}

static bool take_end(char **at)
{
	char nothing[1];

	return take_line(at, "end", nothing, sizeof(nothing)) && !**at;
}

bool record_parse(char *text, struct host_record *record)
{
	char first[1], address[BDF_TEXT];

	return take_line(&text, FIRST_LINE, first, sizeof(first)) &&
	       take_line(&text, "address ", address, sizeof(address)) &&
	       bdf_parse(address, &record->bdf) == 0 &&
	       take_line(&text, "driver ", record->driver, sizeof(record->driver)) &&
	       take_line(&text, "override ", record->override, sizeof(record->override)) &&
	       take_holder(&text, &record->holder) &&
	       take_flag(&text, "persist ", &record->persist) &&
	       take_flag(&text, "companion ", &record->companion) &&
	       take_mark(&text, BOUND, &record->bound) &&
	       take_mark(&text, MAKES_VFS, &record->makes_vfs) &&
	       take_screen(&text, &record->screen) && take_user(&text, &record->user) &&
	       take_end(&text);
}

bool record_parse_name(char *text, struct host_holder *holder)
{
	char first[1];

	return take_line(&text, FIRST_NAME, first, sizeof(first)) && take_holder(&text, holder) &&
	       take_end(&text);
}

void record_format(const struct host_record *record, char text[static JOURNAL_ENTRY_SIZE])
{
	char address[BDF_TEXT], user[24] = "", framebuffer[2 * HOST_NAME + 48] = "";

	if (record->user)
		snprintf(user, sizeof(user), "user %u\n", record->user);
	if (record->screen.framebuffer[0])
		snprintf(framebuffer, sizeof(framebuffer),
			FRAMEBUFFER "%s\n" FRAMEBUFFER_DRIVER "%s\n", record->screen.framebuffer,
			record->screen.driver);
	snprintf(text, JOURNAL_ENTRY_SIZE,
		FIRST_LINE "\naddress %s\ndriver %s\noverride %s\nholder %d %" PRIu64
			   "\nname %s\npersist %s\ncompanion %s\n%s%s%s%s%send\n",
		bdf_format(&record->bdf, address), record->driver, record->override,
		record->holder.pid, record->holder.start, record->holder.name,
		record->persist ? "yes" : "no", record->companion ? "yes" : "no",
		record->bound ? BOUND "\n" : "", record->makes_vfs ? MAKES_VFS "\n" : "",
		record->screen.console ? CONSOLE "\n" : "", framebuffer, user);
}

void record_format_name(const struct host_holder *holder, char text[static JOURNAL_ENTRY_SIZE])
{
	snprintf(text, JOURNAL_ENTRY_SIZE, FIRST_NAME "\nholder %d %" PRIu64 "\nname %s\nend\n",
		holder->pid, holder->start, holder->name);
}
