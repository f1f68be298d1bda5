/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/journal/journal.h"

/*
 * "penstock bind" binds all of its devices or none. Between these two calls none is bound for good: if
 * the process dies, its devices are stale, and the second call is what makes them stay.
 */
int host_binds_begin(const struct host *host, struct error *err);
int host_binds_end(const struct host *host, struct error *err);

/* Bound for good, by a "penstock bind" that has come to its end. */
bool host_binds_kept(const struct host *host, const struct host_record *record);

/* End those of this process and of dead ones that have no record any more: their devices are back. */
void host_binds_forget(const struct host *host);
