/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* What every unit test needs: cmocka with the headers that it wants before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state __attribute__((unused)))

/* Of the whole program: this header is in several of its files. */
extern unsigned tests_skipped;
unsigned tests_skipped __attribute__((weak));

/* Skip the test that runs, with the reason. */
#define test_skip(reason)                               \
	do {                                            \
		print_message("skipped: " reason "\n"); \
		tests_skipped++;                        \
		skip();                                 \
	} while (0)

/* The exit code of a program of tests. One that could run none of them has not passed, but 77. */
static inline int test_exit_code(int failed, size_t count)
{
	return !failed && tests_skipped == count ? 77 /* skipped, to Meson */ : failed;
}

/* All, or those alone that the environment's CMOCKA_TEST_FILTER names: "a_*". */
#define test_run(tests)                                                     \
	(cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER")),              \
		test_exit_code(cmocka_run_group_tests((tests), NULL, NULL), \
			sizeof(tests) / sizeof((tests)[0])))
