/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

/* A clock that nobody sets and that only goes forward; only differences mean something. */
int64_t clock_ms(void);
uint64_t clock_ns(void);
