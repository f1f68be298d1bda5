/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

/*
 * Give up for good, before any hostile byte is looked at, what the machine does not need: new
 * privileges, capabilities, its uid where that is root's, paths (Landlock), and all system calls but
 * those on a list (seccomp). A call that is not on the list kills the process.
 */
int sandbox_enter(struct error *err);
