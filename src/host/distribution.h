/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/host.h"

/* How things are done on this host: for advice that can be typed as it is. */

/* "apt install NAME" or what this distribution has for it. */
void distribution_install(const struct host *host, const char *package, char *text, size_t size);

/* How to add words to the kernel's command line and take others away; either may be NULL. */
void distribution_cmdline(
	const struct host *host, const char *add, const char *remove, char *text, size_t size);

/* What makes the initramfs anew; "" where it is not known. */
const char *distribution_rebuild(const struct host *host);
