/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

/* FNV-1a of 64 bits over a seed and a text: the same for the same text, wherever it is asked for. */
uint64_t hash_text(uint64_t seed, const char *text);
