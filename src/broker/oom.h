/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>

/*
 * Where memory runs out, of the host or of a control group, the kernel is to end anything before this process, which
 * gives the devices back; in a group that dies as one, too (memory.oom.group in cgroup-v2.rst). That needs
 * CAP_SYS_RESOURCE: without it nothing changes.
 */
void broker_oom_protect(void);

bool broker_oom_is_protected(void);

/* In a child that does no work of the broker's, while it has its privileges: it is what our caller was. */
void broker_oom_unprotect(void);
