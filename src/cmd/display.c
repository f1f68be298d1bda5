/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/display.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PORT_MAX 65535

/* The port behind a name of this host's own; NULL: text has another one, or none. */
static const char *skip_host(const char *text)
{
	static const char *const names[] = { "127.0.0.1:", "localhost:" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(text, names[i], strlen(names[i])) == 0)
			return text + strlen(names[i]);
	return NULL;
}

static int parse_port(const char *text, const char *port, struct broker_vnc *vnc, struct error *err)
{
	char *end;
	unsigned long number = strtoul(port, &end, 10);

	if (!isdigit((unsigned char)port[0]) || *end || !number || number > PORT_MAX)
		return error_set(err, -EINVAL, NULL, "--display %s: '%s' is no port from 1 to %d",
			text, port, PORT_MAX);
	vnc->port = number;
	return 0;
}

int cmd_display_parse(const char *text, struct broker_vnc *vnc, struct error *err)
{
	const char *address = strncmp(text, "vnc=", 4) == 0 ? text + 4 : NULL, *port;

	*vnc = (struct broker_vnc){ .wanted = true };
	if (strcmp(text, "vnc") == 0)
		return 0;
	if (!address)
		return error_set(err, -EINVAL, NULL,
			"--display %s is not vnc, vnc=unix:PATH or vnc=127.0.0.1:PORT", text);
	if (strncmp(address, "unix:", 5) == 0 && address[5]) {
		vnc->path = address + 5;
		return 0;
	}
	port = skip_host(address);
	if (port)
		return parse_port(text, port, vnc, err);
	return error_set(err, -EINVAL, NULL,
		"--display %s: the address is not unix:PATH or 127.0.0.1:PORT; VNC is not protected on its "
		"way, and from another host is reached by ssh -L",
		text);
}
