/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "display/keys.h"

#include "machine/display_mode.h"

#include <rfb/keysym.h>
#include <string.h>

#define EXTENDED DISPLAY_KEY_EXTENDED

/* The characters that a row of keys gives, without and with Shift, from the key with the first code on. */
static const struct {
	uint8_t first;
	const char *plain, *shifted;
} rows[] = {
	{ 0x02, "1234567890-=", "!@#$%^&*()_+" },
	{ 0x10, "qwertyuiop[]", "QWERTYUIOP{}" },
	{ 0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~" },
	{ 0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?" },
	{ 0x39, " ", " " },
};

static const struct {
	uint16_t first, last; /* keysyms */
	uint8_t code;         /* of the first */
} others[] = {
	{ XK_BackSpace, XK_BackSpace, 0x0e },
	{ XK_Tab, XK_Tab, 0x0f },
	{ 0xfe20 /* ISO_Left_Tab */, 0xfe20, 0x0f },
	{ XK_Return, XK_Return, 0x1c },
	{ XK_Escape, XK_Escape, 0x01 },
	{ XK_Shift_L, XK_Shift_L, 0x2a },
	{ XK_Shift_R, XK_Shift_R, 0x36 },
	{ XK_Control_L, XK_Control_L, 0x1d },
	{ XK_Control_R, XK_Control_R, EXTENDED | 0x1d },
	{ XK_Caps_Lock, XK_Caps_Lock, 0x3a },
	{ XK_Meta_L, XK_Meta_L, 0x38 },
	{ XK_Meta_R, XK_Meta_R, EXTENDED | 0x38 },
	{ XK_Alt_L, XK_Alt_L, 0x38 },
	{ XK_Alt_R, XK_Alt_R, EXTENDED | 0x38 },
	{ 0xfe03 /* ISO_Level3_Shift */, 0xfe03, EXTENDED | 0x38 },
	{ XK_Mode_switch, XK_Mode_switch, EXTENDED | 0x38 },
	{ XK_Super_L, XK_Super_R, EXTENDED | 0x5b },
	{ XK_Menu, XK_Menu, EXTENDED | 0x5d },
	{ XK_F1, XK_F10, 0x3b },
	{ XK_F11, XK_F12, 0x57 },
	{ XK_Num_Lock, XK_Num_Lock, 0x45 },
	{ XK_Scroll_Lock, XK_Scroll_Lock, 0x46 },
	{ XK_Print, XK_Print, EXTENDED | 0x37 },
	{ XK_Home, XK_Home, EXTENDED | 0x47 },
	{ XK_Up, XK_Up, EXTENDED | 0x48 },
	{ XK_Page_Up, XK_Page_Up, EXTENDED | 0x49 },
	{ XK_Left, XK_Left, EXTENDED | 0x4b },
	{ XK_Right, XK_Right, EXTENDED | 0x4d },
	{ XK_End, XK_End, EXTENDED | 0x4f },
	{ XK_Down, XK_Down, EXTENDED | 0x50 },
	{ XK_Page_Down, XK_Page_Down, EXTENDED | 0x51 },
	{ XK_Insert, XK_Insert, EXTENDED | 0x52 },
	{ XK_Delete, XK_Delete, EXTENDED | 0x53 },
	{ XK_KP_Multiply, XK_KP_Multiply, 0x37 },
	{ XK_KP_Subtract, XK_KP_Subtract, 0x4a },
	{ XK_KP_Add, XK_KP_Add, 0x4e },
	{ XK_KP_Divide, XK_KP_Divide, EXTENDED | 0x35 },
	{ XK_KP_Enter, XK_KP_Enter, EXTENDED | 0x1c },
	{ XK_KP_0, XK_KP_0, 0x52 },
	{ XK_KP_1, XK_KP_3, 0x4f },
	{ XK_KP_4, XK_KP_6, 0x4b },
	{ XK_KP_7, XK_KP_9, 0x47 },
	{ XK_KP_Decimal, XK_KP_Decimal, 0x53 },
	{ XK_KP_Home, XK_KP_Home, 0x47 },
	{ XK_KP_Up, XK_KP_Up, 0x48 },
	{ XK_KP_Page_Up, XK_KP_Page_Up, 0x49 },
	{ XK_KP_Left, XK_KP_Left, 0x4b },
	{ XK_KP_Begin, XK_KP_Begin, 0x4c },
	{ XK_KP_Right, XK_KP_Right, 0x4d },
	{ XK_KP_End, XK_KP_End, 0x4f },
	{ XK_KP_Down, XK_KP_Down, 0x50 },
	{ XK_KP_Page_Down, XK_KP_Page_Down, 0x51 },
	{ XK_KP_Insert, XK_KP_Insert, 0x52 },
	{ XK_KP_Delete, XK_KP_Delete, 0x53 },
};

static uint8_t find_character(char character)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *at = strchr(rows[i].plain, character);

		if (at)
			return rows[i].first + (at - rows[i].plain);
		at = strchr(rows[i].shifted, character);
		if (at)
			return rows[i].first + (at - rows[i].shifted);
	}
	return 0;
}

uint8_t keys_find(uint32_t keysym)
{
	if (keysym >= ' ' && keysym <= '~')
		return find_character(keysym);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (keysym >= others[i].first && keysym <= others[i].last)
			return others[i].code + (keysym - others[i].first);
	return 0;
}
