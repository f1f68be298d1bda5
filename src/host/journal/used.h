/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

/*
 * Which machine had a device last, since the host's start. Of devices that nothing resets between two machines, so
 * that the next one's user can be told what he gets.
 */

/* Its name; false: none had it, or that cannot be told. */
bool host_used_by(const struct host *host, const struct bdf *bdf, char name[static HOST_NAME]);

/* 0 or a negative errno. */
int host_used_note(const struct host *host, const struct bdf *bdf, const char *name);
