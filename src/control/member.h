/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <json-c/json.h>

/* What is in an object, whatever that is and whether or not it is there. */

static inline const char *member_text(json_object *object, const char *key, const char *otherwise)
{
	const char *text = json_object_get_string(json_object_object_get(object, key));

	return text ? text : otherwise;
}

static inline int64_t member_number(json_object *object, const char *key)
{
	return json_object_get_int64(json_object_object_get(object, key));
}
