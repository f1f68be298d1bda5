/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdint.h>

/*
 * The key of a keyboard with the US layout that gives an X keysym, as VNC has keys: its code of scan code set 1, with
 * DISPLAY_KEY_EXTENDED (machine/display_mode.h); 0: it has none.
 */
uint8_t keys_find(uint32_t keysym);
