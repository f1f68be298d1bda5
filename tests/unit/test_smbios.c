/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/size.h"
#include "machine/platform/smbios.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static struct smbios smbios;
static struct smbios_config config;

static int setup(void **state)
{
	const struct memory memory = {
		.regions = { { 0, 2 * GIB, NULL }, { 4 * GIB, 6 * GIB, NULL } },
		.count = 2,
		.size = 8 * GIB,
	};

	(void)state;
	memset(&config, 0, sizeof(config));
	memset(&smbios, 0xee, sizeof(smbios));
	smbios_write(&smbios, &config, "vm1", &memory, &KVM_CPUS(4));
	return 0;
}

/* The structures one behind the other: the end of each is that of its strings, two zeros. */
static const uint8_t *after(const uint8_t *structure)
{
	const uint8_t *at = structure + structure[1];

	while (at[0] || at[1])
		at++;
	return at + 2;
}

static const uint8_t *find(uint8_t type)
{
	const uint8_t *at = smbios.tables;

	while (at < smbios.tables + smbios.size && *at != type)
		at = after(at);
	assert_true(at < smbios.tables + smbios.size);
	return at;
}

static const char *text(const uint8_t *structure, unsigned number)
{
	const char *at = (const char *)structure + structure[1];

	while (--number)
		at += strlen(at) + 1;
	return at;
}

static uint64_t field(const uint8_t *structure, unsigned offset, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, structure + offset, size);
	return value;
}

static void the_anchor_leads_to_whole_tables(void **state)
{
	const uint8_t *at = smbios.tables;
	uint8_t sum = 0, last = 0;

	(void)state;
	assert_memory_equal(smbios.anchor, "_SM3_", 5);
	for (unsigned i = 0; i < sizeof(smbios.anchor); i++)
		sum += smbios.anchor[i];
	assert_int_equal(sum, 0);
	assert_int_equal(field(smbios.anchor, 12, 4), smbios.size);
	while (at < smbios.tables + smbios.size) {
		last = *at;
		at = after(at);
	}
	assert_ptr_equal(at, smbios.tables + smbios.size);
	assert_int_equal(last, 127);
	assert_int_equal(*at, 0xee);
}

static void the_system_is_known_by_its_name(void **state)
{
	uint8_t uuid[16];
	struct memory memory = { .regions = { { 0, GIB, NULL } }, .count = 1, .size = GIB };

	(void)state;
	assert_string_equal(text(find(1), find(1)[4]), "Penstock");
	memcpy(uuid, find(1) + 8, 16);
	assert_int_equal(uuid[7] >> 4, 8);
	assert_int_equal(uuid[8] >> 6, 2);
	/* Whatever else it is; and another one has another. */
	smbios_write(&smbios, &config, "vm1", &memory, &KVM_CPUS(1));
	assert_memory_equal(uuid, find(1) + 8, 16);
	smbios_write(&smbios, &config, "vm2", &memory, &KVM_CPUS(1));
	assert_memory_not_equal(uuid, find(1) + 8, 8);
	assert_memory_not_equal(uuid + 9, find(1) + 8 + 9, 7);
}

static void cpus_and_memory_are_what_they_are(void **state)
{
	(void)state;
	assert_int_equal(find(4)[0x23], 4);
	assert_int_equal(field(find(4), 0x2a, 2), 4);
	assert_int_equal(field(find(16), 0x0f, 8), 8 * GIB);
	assert_int_equal(field(find(17), 0x0c, 2), 0x7fff);
	assert_int_equal(field(find(17), 0x1c, 4), 8 * KIB);
	assert_int_equal(field(find(17), 4, 2), field(find(16), 2, 2));
	assert_int_equal(field(find(19), 0x17, 8), 2 * GIB - 1);
	assert_int_equal(field(after(find(19)), 0x0f, 8), 4 * GIB);
	assert_int_equal(field(after(find(19)), 0x17, 8), 10 * GIB - 1);
	assert_true(field(after(find(19)), 2, 2) != field(find(19), 2, 2));
}

/* 7.5: one structure a socket, with what it has. */
static void each_socket_is_told_of(void **state)
{
	struct memory memory = { .regions = { { 0, GIB, NULL } }, .count = 1, .size = GIB };
	struct kvm_cpus cpus = { .count = 12, .cores = 3, .threads = 2 };
	const uint8_t *socket;

	(void)state;
	smbios_write(&smbios, &config, "vm1", &memory, &cpus);
	socket = find(4);
	for (unsigned i = 0; i < 2; i++, socket = after(socket)) {
		char name[] = "CPU 0";

		name[4] += i;
		assert_int_equal(socket[0], 4);
		assert_int_equal(field(socket, 2, 2), 0x400 + i);
		assert_string_equal(text(socket, socket[4]), name);
		assert_int_equal(socket[0x23], 3);
		assert_int_equal(socket[0x25], 6);
		assert_int_equal(field(socket, 0x2a, 2), 3);
		assert_int_equal(field(socket, 0x2e, 2), 6);
	}
	assert_int_not_equal(socket[0], 4);
}

/* By number, 0 where the field has none. */
static const char *said(uint8_t type, unsigned offset)
{
	const uint8_t *structure = find(type);

	return structure[offset] ? text(structure, structure[offset]) : "";
}

static void write_again(void)
{
	const struct memory memory = { .regions = { { 0, GIB, NULL } }, .count = 1, .size = GIB };

	memset(&smbios, 0xee, sizeof(smbios));
	smbios_write(&smbios, &config, "vm1", &memory, &KVM_CPUS(1));
}

static bool has(uint8_t type)
{
	const uint8_t *at = smbios.tables;

	while (at < smbios.tables + smbios.size && *at != type)
		at = after(at);
	return at < smbios.tables + smbios.size;
}

/* Offsets are those of the specification: 7.1 to 7.4, 7.12. */
static void what_the_user_says_is_told(void **state)
{
	static const struct {
		enum smbios_text what;
		uint8_t type, offset;
	} places[] = {
		{ SMBIOS_BIOS_VENDOR, 0, 4 },
		{ SMBIOS_BIOS_VERSION, 0, 5 },
		{ SMBIOS_BIOS_DATE, 0, 8 },
		{ SMBIOS_SYSTEM_MANUFACTURER, 1, 4 },
		{ SMBIOS_SYSTEM_PRODUCT, 1, 5 },
		{ SMBIOS_SYSTEM_VERSION, 1, 6 },
		{ SMBIOS_SYSTEM_SERIAL, 1, 7 },
		{ SMBIOS_SYSTEM_SKU, 1, 0x19 },
		{ SMBIOS_SYSTEM_FAMILY, 1, 0x1a },
		{ SMBIOS_BOARD_MANUFACTURER, 2, 4 },
		{ SMBIOS_BOARD_PRODUCT, 2, 5 },
		{ SMBIOS_BOARD_VERSION, 2, 6 },
		{ SMBIOS_BOARD_SERIAL, 2, 7 },
		{ SMBIOS_BOARD_ASSET, 2, 8 },
		{ SMBIOS_BOARD_LOCATION, 2, 0x0a },
		{ SMBIOS_CHASSIS_MANUFACTURER, 3, 4 },
		{ SMBIOS_CHASSIS_VERSION, 3, 6 },
		{ SMBIOS_CHASSIS_SERIAL, 3, 7 },
		{ SMBIOS_CHASSIS_ASSET, 3, 8 },
		{ SMBIOS_CHASSIS_SKU, 3, 0x15 },
	};

	(void)state;
	assert_int_equal(ARRAY_SIZE(places), SMBIOS_TEXTS);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		memset(&config, 0, sizeof(config));
		snprintf(config.texts[places[i].what], SMBIOS_TEXT_SIZE, "said %zu", i);
		write_again();
		assert_string_equal(
			said(places[i].type, places[i].offset), config.texts[places[i].what]);
		the_anchor_leads_to_whole_tables(NULL);
	}
	memset(&config, 0, sizeof(config));
	config.has_uuid = true;
	memset(config.uuid, 7, 16);
	strcpy(config.oem[0], "first");
	strcpy(config.oem[1], "second");
	config.oem_count = 2;
	write_again();
	assert_memory_equal(find(1) + 8, config.uuid, 16);
	assert_int_equal(find(11)[4], 2);
	assert_string_equal(text(find(11), 2), "second");
	the_anchor_leads_to_whole_tables(NULL);
}

/* What only a user knows is not told without. */
static void nothing_is_told_of_what_nobody_has_said(void **state)
{
	(void)state;
	assert_false(has(0));
	assert_false(has(2));
	assert_false(has(11));
	assert_string_equal(said(1, 7), "");
	assert_string_equal(said(1, 5), "Virtual Machine");
	assert_string_equal(said(3, 7), "");
}

static void the_tables_are_where_they_are_placed(void **state)
{
	(void)state;
	assert_int_equal(field(smbios.anchor, 16, 8), 0);
	smbios_place(&smbios, 0xf0018);
	assert_int_equal(field(smbios.anchor, 16, 8), 0xf0018);
	the_anchor_leads_to_whole_tables(NULL);
}

/* As much as there can be. */
static void it_always_fits(void **state)
{
	struct memory memory = { .count = MEMORY_REGIONS_MAX };
	struct kvm_cpus cpus = KVM_CPUS(KVM_CPUS_MAX);

	(void)state;
	for (unsigned i = 0; i < SMBIOS_TEXTS; i++)
		memset(config.texts[i], 'x', SMBIOS_TEXT_SIZE - 1);
	for (unsigned i = 0; i < SMBIOS_OEM_MAX; i++)
		memset(config.oem[i], 'x', SMBIOS_OEM_SIZE - 1);
	config.oem_count = SMBIOS_OEM_MAX;
	cpus.cores = 1;
	smbios_write(&smbios, &config, "vm", &memory, &cpus);
	assert_true(smbios.size <= sizeof(smbios.tables));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_anchor_leads_to_whole_tables, setup),
		cmocka_unit_test_setup(the_system_is_known_by_its_name, setup),
		cmocka_unit_test_setup(cpus_and_memory_are_what_they_are, setup),
		cmocka_unit_test_setup(each_socket_is_told_of, setup),
		cmocka_unit_test_setup(what_the_user_says_is_told, setup),
		cmocka_unit_test_setup(nothing_is_told_of_what_nobody_has_said, setup),
		cmocka_unit_test_setup(the_tables_are_where_they_are_placed, setup),
		cmocka_unit_test_setup(it_always_fits, setup),
	};

	return test_run(tests);
}
