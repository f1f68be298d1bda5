/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/smbios.h"

#include "base/hash.h"
#include "base/size.h"

#include <stdio.h>
#include <string.h>

#define MANUFACTURER "Penstock"
#define UNKNOWN      2      /* "unknown" of most fields; 1 is "other" */
#define NO_HANDLE    0xfffe /* "not provided", of an error */
#define SOCKET_SIZE  72     /* of a processor's structure with its strings */

/* What is said beside what users say, and of each socket, fits into the last 2 KiB. */
_Static_assert(SMBIOS_TEXTS *SMBIOS_TEXT_SIZE + SMBIOS_OEM_MAX * SMBIOS_OEM_SIZE +
			       KVM_CPUS_MAX * SOCKET_SIZE + 2048 <=
		       SMBIOS_TABLES_MAX,
	"all that a user can say fits");

enum type {
	BIOS = 0,
	SYSTEM = 1,
	BOARD = 2,
	CHASSIS = 3,
	PROCESSOR = 4,
	OEM_STRINGS = 11,
	MEMORY_ARRAY = 16,
	MEMORY_DEVICE = 17,
	MEMORY_MAPPED = 19,
	BOOT_INFORMATION = 32,
	END = 127,
};

struct header {
	uint8_t type;
	uint8_t length; /* without the strings */
	uint16_t handle;
} __attribute__((packed));

struct bios {
	struct header header;
	uint8_t vendor, version;
	uint16_t segment;
	uint8_t date, rom_size;
	uint64_t characteristics;
	uint8_t more_characteristics[2];
	uint8_t major, minor, controller_major, controller_minor;
} __attribute__((packed));

struct system {
	struct header header;
	uint8_t manufacturer, product, version, serial;
	uint8_t uuid[16];
	uint8_t wake_up, sku, family;
} __attribute__((packed));

struct board {
	struct header header;
	uint8_t manufacturer, product, version, serial, asset, features, location;
	uint16_t chassis;
	uint8_t type, contained;
} __attribute__((packed));

struct chassis {
	struct header header;
	uint8_t manufacturer, type, version, serial, asset;
	uint8_t boot_state, power_state, thermal_state, security;
	uint32_t oem;
	uint8_t height, cords, elements, element_length, sku;
} __attribute__((packed));

struct processor {
	struct header header;
	uint8_t socket, type, family, manufacturer;
	uint64_t id;
	uint8_t version, voltage;
	uint16_t external_clock, max_speed, speed;
	uint8_t status, upgrade;
	uint16_t caches[3];
	uint8_t serial, asset, part;
	uint8_t cores, enabled, threads;
	uint16_t characteristics, family_2;
	uint16_t cores_2, enabled_2, threads_2;
} __attribute__((packed));

struct oem_strings {
	struct header header;
	uint8_t count;
} __attribute__((packed));

struct memory_array {
	struct header header;
	uint8_t location, use, correction;
	uint32_t capacity;
	uint16_t error, devices;
	uint64_t extended_capacity;
} __attribute__((packed));

struct memory_device {
	struct header header;
	uint16_t array, error, total_width, data_width, size;
	uint8_t form, set, locator, bank, type;
	uint16_t detail, speed;
	uint8_t manufacturer, serial, asset, part, attributes;
	uint32_t extended_size;
	uint16_t configured_speed, least_voltage, most_voltage, configured_voltage;
} __attribute__((packed));

struct memory_mapped {
	struct header header;
	uint32_t start, end;
	uint16_t array;
	uint8_t width;
	uint64_t extended_start, extended_end;
} __attribute__((packed));

struct boot_information {
	struct header header;
	uint8_t reserved[6], status;
} __attribute__((packed));

struct anchor {
	char signature[5];
	uint8_t checksum, length, major, minor, revision, entry_revision, reserved;
	uint32_t table_size;
	uint64_t table;
} __attribute__((packed));

/* What is written behind a structure, which has their numbers: from 1 on. */
struct strings {
	const char *texts[SMBIOS_OEM_MAX];
	unsigned count;
};

_Static_assert(sizeof(struct anchor) == SMBIOS_ANCHOR_SIZE, "6.2 of the specification");

static const struct strings no_strings;

/* Handles: one a type, and a number behind it for sockets and regions of RAM. */
static struct header header(enum type type, size_t size, unsigned number)
{
	return (struct header){ type, size, type << 8 | number };
}

/* 0: none. */
static uint8_t add_string(struct strings *strings, const char *text)
{
	if (!text || !text[0])
		return 0;
	strings->texts[strings->count++] = text;
	return strings->count;
}

/* What the user says, or otherwise this; NULL: nothing. */
static uint8_t add_said(struct strings *strings, const struct smbios_config *config,
	enum smbios_text text, const char *otherwise)
{
	return add_string(strings, config->texts[text][0] ? config->texts[text] : otherwise);
}

static bool is_said(
	const struct smbios_config *config, enum smbios_text first, enum smbios_text last)
{
	for (enum smbios_text text = first; text <= last; text++)
		if (config->texts[text][0])
			return true;
	return false;
}

/* "" after the last string, and two where there is none (6.1.3). All fit: the table has room for them. */
static void add_structure(
	struct smbios *smbios, const void *structure, const struct strings *strings)
{
	uint8_t *at = smbios->tables + smbios->size;
	const struct header *head = structure;

	at = mempcpy(at, structure, head->length);
	for (unsigned i = 0; i < strings->count; i++)
		at = (uint8_t *)stpcpy((char *)at, strings->texts[i]) + 1;
	if (!strings->count)
		*at++ = '\0';
	*at++ = '\0';
	smbios->size = at - smbios->tables;
}

/* Of the version that leaves its bits to whoever makes it, 8 (RFC 9562, 5.8). */
static void make_uuid(const char *name, uint8_t uuid[static 16])
{
	const uint64_t words[] = { hash_text(0, name), hash_text(0x9e3779b97f4a7c15, name) };

	memcpy(uuid, words, 16);
	uuid[7] = (uuid[7] & 0x0f) | 0x80; /* little-endian fields: the high byte of the third */
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

static void add_bios(struct smbios *smbios, const struct smbios_config *config)
{
	struct strings strings = { 0 };
	struct bios bios = {
		.header = header(BIOS, sizeof(bios), 0),
		.characteristics = 1 << 3,           /* none are told */
		.more_characteristics = { 0, 0x10 }, /* but that this is a virtual machine */
		.major = 0xff,                       /* no numbers */
		.minor = 0xff,
		.controller_major = 0xff,
		.controller_minor = 0xff,
	};

	if (!is_said(config, SMBIOS_BIOS_VENDOR, SMBIOS_BIOS_DATE))
		return;
	bios.vendor = add_said(&strings, config, SMBIOS_BIOS_VENDOR, MANUFACTURER);
	bios.version = add_said(&strings, config, SMBIOS_BIOS_VERSION, PENSTOCK_VERSION);
	bios.date = add_said(&strings, config, SMBIOS_BIOS_DATE, NULL);
	add_structure(smbios, &bios, &strings);
}

static void add_system(struct smbios *smbios, const struct smbios_config *config, const char *name)
{
	struct strings strings = { 0 };
	struct system system = {
		.header = header(SYSTEM, sizeof(system), 0), .wake_up = 6, /* the power switch */
	};

	system.manufacturer = add_said(&strings, config, SMBIOS_SYSTEM_MANUFACTURER, MANUFACTURER);
	system.product = add_said(&strings, config, SMBIOS_SYSTEM_PRODUCT, "Virtual Machine");
	system.version = add_said(&strings, config, SMBIOS_SYSTEM_VERSION, PENSTOCK_VERSION);
	system.serial = add_said(&strings, config, SMBIOS_SYSTEM_SERIAL, NULL);
	system.sku = add_said(&strings, config, SMBIOS_SYSTEM_SKU, NULL);
	system.family = add_said(&strings, config, SMBIOS_SYSTEM_FAMILY, NULL);
	if (config->has_uuid)
		memcpy(system.uuid, config->uuid, sizeof(system.uuid));
	else
		make_uuid(name, system.uuid);
	add_structure(smbios, &system, &strings);
}

static void add_board(struct smbios *smbios, const struct smbios_config *config)
{
	struct strings strings = { 0 };
	struct board board = {
		.header = header(BOARD, sizeof(board), 0),
		.features = 1, /* a hosting board */
		.chassis = header(CHASSIS, 0, 0).handle,
		.type = 10, /* a motherboard */
	};

	if (!is_said(config, SMBIOS_BOARD_MANUFACTURER, SMBIOS_BOARD_LOCATION))
		return;
	board.manufacturer = add_said(&strings, config, SMBIOS_BOARD_MANUFACTURER, MANUFACTURER);
	board.product = add_said(&strings, config, SMBIOS_BOARD_PRODUCT, NULL);
	board.version = add_said(&strings, config, SMBIOS_BOARD_VERSION, NULL);
	board.serial = add_said(&strings, config, SMBIOS_BOARD_SERIAL, NULL);
	board.asset = add_said(&strings, config, SMBIOS_BOARD_ASSET, NULL);
	board.location = add_said(&strings, config, SMBIOS_BOARD_LOCATION, NULL);
	add_structure(smbios, &board, &strings);
}

static void add_chassis(struct smbios *smbios, const struct smbios_config *config)
{
	struct strings strings = { 0 };
	struct chassis chassis = {
		.header = header(CHASSIS, sizeof(chassis), 0),
		.type = 1, /* other */
		.boot_state = 3,
		.power_state = 3, /* safe */
		.thermal_state = 3,
		.security = UNKNOWN,
	};

	chassis.manufacturer =
		add_said(&strings, config, SMBIOS_CHASSIS_MANUFACTURER, MANUFACTURER);
	chassis.version = add_said(&strings, config, SMBIOS_CHASSIS_VERSION, NULL);
	chassis.serial = add_said(&strings, config, SMBIOS_CHASSIS_SERIAL, NULL);
	chassis.asset = add_said(&strings, config, SMBIOS_CHASSIS_ASSET, NULL);
	chassis.sku = add_said(&strings, config, SMBIOS_CHASSIS_SKU, NULL);
	add_structure(smbios, &chassis, &strings);
}

static void add_oem_strings(struct smbios *smbios, const struct smbios_config *config)
{
	struct strings strings = { 0 };
	struct oem_strings oem = { .header = header(OEM_STRINGS, sizeof(oem), 0) };

	for (unsigned i = 0; i < config->oem_count; i++)
		oem.count = add_string(&strings, config->oem[i]);
	if (oem.count)
		add_structure(smbios, &oem, &strings);
}

static void add_socket(struct smbios *smbios, const struct kvm_cpus *cpus, unsigned socket)
{
	unsigned threads = cpus->cores * cpus->threads;
	char name[16];
	const struct strings strings = { { name, MANUFACTURER }, 2 };
	struct processor processor = {
		.header = header(PROCESSOR, sizeof(processor), socket),
		.socket = 1,
		.type = 3, /* a central one */
		.family = UNKNOWN,
		.manufacturer = 2,
		.status = 0x41, /* there is one, and it is on */
		.upgrade = UNKNOWN,
		.caches = { 0xffff, 0xffff, 0xffff },
		.cores = cpus->cores,
		.enabled = cpus->cores,
		.threads = threads,
		.characteristics = 4, /* of 64 bits */
		.family_2 = UNKNOWN,
		.cores_2 = cpus->cores,
		.enabled_2 = cpus->cores,
		.threads_2 = threads,
	};

	snprintf(name, sizeof(name), "CPU %u", socket);
	add_structure(smbios, &processor, &strings);
}

static void add_memory(struct smbios *smbios, const struct memory *memory)
{
	static const struct strings strings = { { "RAM", MANUFACTURER }, 2 };
	struct memory_array array = {
		.header = header(MEMORY_ARRAY, sizeof(array), 0),
		.location = 1,
		.use = 3, /* system memory */
		.correction = UNKNOWN,
		.capacity = 0x80000000, /* see the extended one */
		.error = NO_HANDLE,
		.devices = 1,
		.extended_capacity = memory->size,
	};
	struct memory_device device = {
		.header = header(MEMORY_DEVICE, sizeof(device), 0),
		.array = array.header.handle,
		.error = NO_HANDLE,
		.total_width = 0xffff,
		.data_width = 0xffff,
		.size = 0x7fff, /* see the extended one */
		.form = 9,      /* DIMM */
		.locator = 1,
		.type = 7,   /* RAM */
		.detail = 2, /* other */
		.manufacturer = 2,
		.extended_size = memory->size / MIB,
	};

	add_structure(smbios, &array, &no_strings);
	add_structure(smbios, &device, &strings);
	for (unsigned i = 0; i < memory->count; i++) {
		const struct memory_region *region = &memory->regions[i];
		struct memory_mapped mapped = {
			.header = header(MEMORY_MAPPED, sizeof(mapped), i),
			.start = UINT32_MAX, /* see the extended ones */
			.end = UINT32_MAX,
			.array = array.header.handle,
			.width = 1,
			.extended_start = region->gpa,
			.extended_end = region->gpa + region->size - 1,
		};

		add_structure(smbios, &mapped, &no_strings);
	}
}

void smbios_place(struct smbios *smbios, uint64_t gpa)
{
	struct anchor anchor = {
		.signature = "_SM3_",
		.length = sizeof(anchor),
		.major = 3,
		.entry_revision = 1,
		.table_size = smbios->size,
		.table = gpa,
	};
	const uint8_t *bytes = (const uint8_t *)&anchor;
	uint8_t sum = 0;

	for (size_t i = 0; i < sizeof(anchor); i++)
		sum -= bytes[i];
	anchor.checksum = sum;
	memcpy(smbios->anchor, &anchor, sizeof(anchor));
}

void smbios_write(struct smbios *smbios, const struct smbios_config *config, const char *name,
	const struct memory *memory, const struct kvm_cpus *cpus)
{
	struct boot_information boot = { .header = header(BOOT_INFORMATION, sizeof(boot), 0) };
	struct header end = header(END, sizeof(end), 0);

	smbios->size = 0;
	add_bios(smbios, config);
	add_system(smbios, config, name);
	add_board(smbios, config);
	add_chassis(smbios, config);
	for (unsigned i = 0; i < cpus->count / (cpus->cores * cpus->threads); i++)
		add_socket(smbios, cpus, i);
	add_oem_strings(smbios, config);
	add_memory(smbios, memory);
	add_structure(smbios, &boot, &no_strings);
	add_structure(smbios, &end, &no_strings);
	smbios_place(smbios, 0);
}
