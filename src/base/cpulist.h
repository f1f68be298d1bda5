/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

#define CPULIST_MAX 1024 /* CPUs that a cpu_set_t has */

/*
 * Parse numbers of CPUs as the kernel writes them, "0-3,8", with this separator in place of the comma;
 * in their order. Gives how many, or -EINVAL, -ERANGE where one is too large or there is no room.
 */
int cpulist_parse(const char *text, char separator, uint16_t *list, unsigned room);
