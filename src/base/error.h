/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * Errors that a user can act on.
 *
 * A function that can fail returns 0 (or a count) or a negative errno, and fills a struct error
 * that its caller owns. The first failure is the one that is told: error_set() does not overwrite
 * an error that is already there, so that cleaning up cannot hide a cause.
 */

struct error {
	int code;         /* negative errno; 0: no error */
	char object[128]; /* on what: a PCI address, a path, a VM's name; may be empty */
	char what[256];   /* what was attempted, and the reason that is known */
	char hint[512];   /* the likely cause and what to do next; may be empty */
};

/* Each returns code, so that "return error_set(...)" reads well. */
int error_set(struct error *err, int code, const char *object, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* As error_set(), with ": " and the kernel's text for code appended. */
int error_sys(struct error *err, int code, const char *object, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Add what to do next to an error that has been set. */
void error_hint(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Print on stderr: "penstock: OBJECT: WHAT" and, where there is one, the hint on a line below. */
void error_print(const struct error *err);
