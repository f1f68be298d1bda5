/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd/smbios.h"

#include "base/fd.h"
#include "base/size.h"
#include "base/spelling.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum special { UUID = SMBIOS_TEXTS, OEM_VALUE };

/* Types and fields as QEMU calls them. */
static const struct field {
	unsigned type;
	const char *name;
	unsigned what; /* enum smbios_text, or one of the special ones */
} fields[] = {
	{ 0, "vendor", SMBIOS_BIOS_VENDOR },
	{ 0, "version", SMBIOS_BIOS_VERSION },
	{ 0, "date", SMBIOS_BIOS_DATE },
	{ 1, "manufacturer", SMBIOS_SYSTEM_MANUFACTURER },
	{ 1, "product", SMBIOS_SYSTEM_PRODUCT },
	{ 1, "version", SMBIOS_SYSTEM_VERSION },
	{ 1, "serial", SMBIOS_SYSTEM_SERIAL },
	{ 1, "uuid", UUID },
	{ 1, "sku", SMBIOS_SYSTEM_SKU },
	{ 1, "family", SMBIOS_SYSTEM_FAMILY },
	{ 2, "manufacturer", SMBIOS_BOARD_MANUFACTURER },
	{ 2, "product", SMBIOS_BOARD_PRODUCT },
	{ 2, "version", SMBIOS_BOARD_VERSION },
	{ 2, "serial", SMBIOS_BOARD_SERIAL },
	{ 2, "asset", SMBIOS_BOARD_ASSET },
	{ 2, "location", SMBIOS_BOARD_LOCATION },
	{ 3, "manufacturer", SMBIOS_CHASSIS_MANUFACTURER },
	{ 3, "version", SMBIOS_CHASSIS_VERSION },
	{ 3, "serial", SMBIOS_CHASSIS_SERIAL },
	{ 3, "asset", SMBIOS_CHASSIS_ASSET },
	{ 3, "sku", SMBIOS_CHASSIS_SKU },
	{ 11, "value", OEM_VALUE },
};

static const struct field *find_field(unsigned type, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].type == type && strcmp(fields[i].name, name) == 0)
			return &fields[i];
	return NULL;
}

static const char *find_nearest(unsigned type, const char *name)
{
	const char *nearest = "";
	unsigned least = UINT32_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		unsigned far = spelling_distance(name, fields[i].name);

		if (fields[i].type != type || far >= least)
			continue;
		least = far;
		nearest = fields[i].name;
	}
	return nearest;
}

/* One of another type is what was meant, or else the one of this type that is spelt most alike. */
static int no_field(unsigned type, const char *name, struct error *err)
{
	char all[128] = "";
	size_t used = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].type == type)
			used += snprintf(all + used, sizeof(all) - used, "%s%s", used ? ", " : "",
				fields[i].name);
	error_set(err, -EINVAL, NULL, "--smbios type=%u: '%.*s' is none of its fields: %s", type,
		SPELLING_MAX, name, all);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (strcmp(fields[i].name, name) == 0) {
			error_hint(err, "%s is a field of type=%u", name, fields[i].type);
			return err->code;
		}
	error_hint(err, "did you mean %s?", find_nearest(type, name));
	return err->code;
}

static int no_type(const char *text, struct error *err)
{
	return error_set(err, -EINVAL, NULL,
		"--smbios %.*s does not begin with type=N, where N is 0 (BIOS), 1 (system), 2 (board), "
		"3 (chassis) or 11 (OEM strings)",
		SPELLING_MAX, text);
}

/* Up to a comma that stands alone, which is skipped; of two, one is left. */
static char *take_word(char **rest)
{
	char *word = *rest, *from = word, *to = word;

	while (*from && (*from != ',' || from[1] == ',')) {
		from += *from == ',';
		*to++ = *from++;
	}
	*rest = *from ? from + 1 : NULL;
	*to = '\0';
	return word;
}

static int digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* As RFC 9562, 4, writes it. */
static bool parse_uuid(const char *text, uint8_t uuid[static 16])
{
	/* The places of its bytes in the structure, in the order of the text. */
	static const uint8_t places[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	unsigned digits = 0, ones = 0, zeros = 0;

	if (strlen(text) != strlen(form))
		return false;
	for (size_t i = 0; form[i]; i++) {
		uint8_t *byte = &uuid[places[digits / 2 % 16]];

		if (form[i] == '-' ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
		if (form[i] == '-')
			continue;
		*byte = digits++ % 2 ? *byte << 4 | digit(text[i]) : digit(text[i]);
		ones += digit(text[i]) == 15;
		zeros += digit(text[i]) == 0;
	}
	/* These mean that there is none (7.2.1). */
	return ones < 32 && zeros < 32;
}

static int set_uuid(const char *value, struct smbios_config *config, struct error *err)
{
	if (config->has_uuid)
		return error_set(err, -EINVAL, NULL, "--smbios type=1: uuid is given twice");
	config->has_uuid = parse_uuid(value, config->uuid);
	if (config->has_uuid)
		return 0;
	error_set(err, -EINVAL, NULL, "--smbios type=1: uuid=%.*s is no UUID", 40, value);
	error_hint(err,
		"one looks like 5b7c2e10-93d4-4a6f-8e21-0c9f3d6b7a58, and is neither all 0 nor all f "
		"(uuidgen makes one)");
	return err->code;
}

/* 7.1: mm/dd/yyyy. Linux takes the year. */
static bool is_date(const char *text)
{
	static const char form[] = "dd/dd/dddd";

	if (strlen(text) != strlen(form))
		return false;
	for (size_t i = 0; form[i]; i++)
		if (form[i] == '/' ? text[i] != '/' : !isdigit((unsigned char)text[i]))
			return false;
	return atoi(text) >= 1 && atoi(text) <= 12 && atoi(text + 3) >= 1 && atoi(text + 3) <= 31;
}

static int set_text(const struct field *field, const char *value, struct smbios_config *config,
	struct error *err)
{
	char *text = field->what == OEM_VALUE ? config->oem[config->oem_count]
					      : config->texts[field->what];

	if (field->what == OEM_VALUE)
		config->oem_count++;
	else if (text[0])
		return error_set(err, -EINVAL, NULL, "--smbios type=%u: %s is given twice",
			field->type, field->name);
	strcpy(text, value);
	return 0;
}

static int check_text(const struct field *field, const char *value,
	const struct smbios_config *config, struct error *err)
{
	size_t most = (field->what == OEM_VALUE ? SMBIOS_OEM_SIZE : SMBIOS_TEXT_SIZE) - 1;
	const char *why = NULL;

	if (!value[0])
		why = "is empty";
	else if (field->what == SMBIOS_BIOS_DATE && !is_date(value))
		why = "is no date, MM/DD/YYYY";
	else if (field->what == OEM_VALUE && config->oem_count == SMBIOS_OEM_MAX)
		why = "is one too many: there can be 16";
	for (const char *at = value; *at && !why; at++)
		if (iscntrl((unsigned char)*at))
			why = "has a control character in it";
	if (why)
		return error_set(err, -EINVAL, NULL, "--smbios type=%u: %s %s", field->type,
			field->name, why);
	if (strlen(value) > most)
		return error_set(err, -EINVAL, NULL,
			"--smbios type=%u: %s has %zu bytes, and there is room for %zu",
			field->type, field->name, strlen(value), most);
	return 0;
}

static int set_field(unsigned type, char *word, struct smbios_config *config, struct error *err)
{
	char *value = strchr(word, '=');
	const struct field *field;

	if (value)
		*value++ = '\0';
	field = find_field(type, word);
	if (!field)
		return no_field(type, word, err);
	if (!value)
		value = "";
	if (check_text(field, value, config, err))
		return err->code;
	return field->what == UUID ? set_uuid(value, config, err)
				   : set_text(field, value, config, err);
}

/* What is between "type=" and the end. */
static bool parse_type(const char *text, unsigned *type)
{
	char rest;

	if (sscanf(text, "%3u%c", type, &rest) != 1 || !isdigit((unsigned char)text[0]))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].type == *type)
			return true;
	return false;
}

int cmd_smbios_parse(const char *text, struct smbios_config *config, struct error *err)
{
	cleanup_free char *copy = strdup(text);
	char *rest = copy, *word = copy ? take_word(&rest) : "";
	unsigned type;

	if (strncmp(word, "type=", 5) || !parse_type(word + 5, &type))
		return no_type(text, err);
	if (!rest)
		return error_set(err, -EINVAL, NULL,
			"--smbios type=%u says nothing: no field follows", type);
	while (rest && !err->code) {
		word = take_word(&rest);
		set_field(type, word, config, err);
	}
	return err->code;
}
