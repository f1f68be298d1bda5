/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* What every unit test needs: cmocka with the headers that it wants before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state __attribute__((unused)))
