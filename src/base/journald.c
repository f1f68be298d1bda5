/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/journald.h"

#include "base/bdf.h"
#include "base/fd.h"
#include "base/text.h"

#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define VARIABLE     "JOURNAL_STREAM"
#define WAIT_MS      1000
#define FULL_ADDRESS 12 /* characters: 0000:01:00.0 */

static const struct sockaddr_un journal = {
	.sun_family = AF_UNIX,
	.sun_path = "/run/systemd/journal/socket",
};

#define JOURNAL ((const struct sockaddr *)&journal)

/* systemd tells by its device and inode which stream it has given us; who has redirected stderr does not get ours. */
static bool leads_to_journal(void)
{
	const char *stream = getenv(VARIABLE);
	unsigned long long device, inode;
	struct stat status;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device &&
	       status.st_ino == inode;
}

/* The first PCI address in a text, in full; where it begins, or NULL. */
static const char *find_address(const char *text, char address[static BDF_TEXT])
{
	struct bdf bdf;
	size_t length;

	for (; *text; text += length ? length : 1) {
		size_t kept = length = strspn(text, "0123456789abcdefABCDEF:.");

		/* Of a sentence, not of an address. */
		while (kept && strchr(":.", text[kept - 1]))
			kept--;
		snprintf(address, BDF_TEXT, "%.*s", (int)kept, text);
		if (kept >= FULL_ADDRESS && kept < BDF_TEXT && bdf_parse(address, &bdf) == 0)
			return text;
	}
	return NULL;
}

/* Lines KEY=VALUE: systemd's "Native Journal Protocol". */
static int format_entry(
	char *entry, size_t size, enum journald_priority priority, const char *message)
{
	char address[BDF_TEXT];
	int used = snprintf(entry, size, "MESSAGE=%s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=penstock\n",
		message, priority);

	for (const char *at = message; used < (int)size && (at = find_address(at, address));
		at += strlen(address))
		used += snprintf(entry + used, size - used, "PENSTOCK_DEVICE=%s\n", address);
	return used < (int)size ? used : -1;
}

/*
 * Until it has been read and looked at: of a process that ends at once nobody could tell the unit (systemd's issue 2913).
 * What is read next, an empty datagram, is nothing.
 */
static void await_journal(int fd)
{
	int unread = 1;

	if (sendto(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, JOURNAL, sizeof(journal)) < 0)
		return;
	for (unsigned ms = 0; ms < WAIT_MS && ioctl(fd, SIOCOUTQ, &unread) == 0 && unread; ms++)
		usleep(1000);
}

bool journald_send(enum journald_priority priority, const char *message)
{
	char line[1024], entry[2048];
	cleanup_fd int fd = -1;
	int size;

	if (!leads_to_journal())
		return false;
	text_format(line, sizeof(line), "%s", message);
	size = format_entry(entry, sizeof(entry), priority, line);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || size < 0 ||
		sendto(fd, entry, size, MSG_DONTWAIT | MSG_NOSIGNAL, JOURNAL, sizeof(journal)) !=
			size)
		return false;
	if (priority == JOURNALD_ERROR)
		await_journal(fd);
	return true;
}

void journald_leave(void)
{
	unsetenv(VARIABLE);
}
