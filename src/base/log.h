/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* One line on stderr, "penstock: ...", for what the user should know while the command runs. */
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for what went wrong without ending the command: "penstock: warning: ...". */
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
