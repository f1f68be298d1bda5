/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <stdio.h>
#include <string.h>

/* Makes a recorded host's tree for a test in another language: unpack NAME, which prints where it is. */
int main(int argc, char **argv)
{
	struct fixture *fixture;
	void *state;

	if (argc != 2 || fixture_setup(&state))
		return 2;
	fixture = state;
	fixture_load(fixture, argv[1]);
	puts(fixture->tree);
	return 0;
}
