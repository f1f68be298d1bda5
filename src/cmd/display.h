/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "broker/broker.h"

/* vnc[=unix:PATH|=127.0.0.1:PORT]; the text outlives what is filled in. */
int cmd_display_parse(const char *text, struct broker_vnc *vnc, struct error *err);
