/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command "penstock run" alone: the tests build it without sanitizers. */
#include "cmd/cmd.h"

#include <string.h>

int main(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[1], "run") == 0 ? cmd_run(argc - 1, argv + 1) : EXIT_USAGE;
}
