/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"

/* What the broker makes of signals: they wait for its loop at a descriptor, which is returned, or a negative errno. */
int broker_signals_catch(struct error *err);

/* In a child that does no work of the broker's: it gets its own, whatever our caller has blocked, too. */
void broker_signals_unblock(void);
