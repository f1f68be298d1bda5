/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/journal/holder.h"
#include "host/system/host.h"

/* Names of running machines: no two have one. */

/* 0 or -EINVAL with the reason. A name is 1 to 63 letters, digits, '.', '_' and '-'. */
int host_name_check(const char *name, struct error *err);

/* Take a name for a machine of this process; -EEXIST where a living one has it. */
int host_name_claim(const struct host *host, const char *name, struct error *err);

/* Who has it. False: nobody who lives. */
bool host_name_owner(const struct host *host, const char *name, struct host_holder *holder);

/* Give it up. A name that this process does not have is left alone. */
void host_name_release(const struct host *host, const char *name);

/* Give up the names that dead processes had. */
void host_names_forget(const struct host *host);
