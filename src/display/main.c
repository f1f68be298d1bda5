/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "display/vnc.h"
#include "machine/display_mode.h"
#include "machine/sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

/*
 * penstock-display NAME LISTEN EVENTS CONTROL MEMORY: the process that shows a machine's display. The broker starts
 * it, with these descriptors. It is a program of its own: only who has a display loads libvncserver.
 */

#define PICTURE_MAX (64 * MIB) /* of a file with one */

static int fail_display(const char *what, int code)
{
	struct error err = { 0 };

	error_sys(&err, code, NULL, "%s", what);
	error_print(&err);
	return 1;
}

int main(int argc, char **argv)
{
	const struct rlimit limit = { PICTURE_MAX, PICTURE_MAX };
	struct vnc_config config;
	struct error err = { 0 };
	int code;

	if (argc != 6) {
		fprintf(stderr,
			"penstock-display: 'penstock run --display vnc' starts this program\n");
		return 2;
	}
	config = (struct vnc_config){
		.name = argv[1],
		.listen_fd = atoi(argv[2]),
		.event_fd = atoi(argv[3]),
		.control_fd = atoi(argv[4]),
		.memory = mmap(NULL, DISPLAY_FILE_SIZE, PROT_READ, MAP_SHARED, atoi(argv[5]), 0),
	};
	if (config.memory == MAP_FAILED)
		return fail_display("cannot map the display's memory", -errno);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	if (sandbox_enter_display(&err)) {
		error_print(&err);
		return 1;
	}
	code = vnc_serve(&config);
	return code ? fail_display("cannot serve the display", code) : 0;
}
