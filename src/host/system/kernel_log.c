/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/system/kernel_log.h"
#include "base/text.h"

#include "base/fd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>

#define READ_ALL       3  /* SYSLOG_ACTION_READ_ALL, see syslog(2) */
#define SIZE           10 /* SYSLOG_ACTION_SIZE_BUFFER */
#define SIZE_MAX_BYTES (64 << 20)

static char *read_live(void)
{
	int size = klogctl(SIZE, NULL, 0);
	char *text = size > 0 && size < SIZE_MAX_BYTES ? malloc(size + 1) : NULL;
	int got = text ? klogctl(READ_ALL, text, size) : -1;

	if (got < 0) {
		free(text);
		return NULL;
	}
	text[got] = '\0';
	return text;
}

static char *read_recorded(const struct host *host)
{
	char path[PATH_MAX], *text = malloc(1 << 20);

	if (text && host_path(host, path, "/dmesg") == 0 && fd_read_file(path, text, 1 << 20) >= 0)
		return text;
	free(text);
	return NULL;
}

void kernel_log_open(struct kernel_log *log, const struct host *host)
{
	log->text = host_is_live(host) ? read_live() : read_recorded(host);
}

void kernel_log_close(struct kernel_log *log)
{
	free(log->text);
	log->text = NULL;
}

/* "<6>[    0.123456] text" and "[    0.123456] text" */
static const char *without_time(const char *line)
{
	if (line[0] == '<' && strchr(line, '>'))
		line = strchr(line, '>') + 1;
	if (line[0] == '[' && strstr(line, "] "))
		line = strstr(line, "] ") + 2;
	return line;
}

bool kernel_log_find(
	const struct kernel_log *log, const char *word, const char *other, char *line, size_t size)
{
	bool found = false;

	for (const char *at = log->text, *end; at && *at; at = *end ? end + 1 : end) {
		char copy[512];
		size_t length;

		end = at + strcspn(at, "\n");
		length = (size_t)(end - at) < sizeof(copy) ? (size_t)(end - at) : sizeof(copy) - 1;
		memcpy(copy, at, length);
		copy[length] = '\0';
		if (!strstr(copy, word) || (other && !strstr(copy, other)))
			continue;
		text_format(line, size, "%s", without_time(copy));
		found = true;
	}
	return found;
}
