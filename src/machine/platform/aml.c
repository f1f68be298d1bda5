/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/aml.h"

#include <string.h>

#define LOCAL0       0x60
#define LENGTH_BYTES 3 /* of every package length: 20 bits, more than a DSDT of ours has */

void aml_bytes(struct aml *aml, const void *bytes, size_t size)
{
	if (size > aml->room - aml->size) {
		aml->overflow = true;
		return;
	}
	memcpy(aml->bytes + aml->size, bytes, size);
	aml->size += size;
}

static void byte(struct aml *aml, uint8_t value)
{
	aml_bytes(aml, &value, 1);
}

static void little_endian(struct aml *aml, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		byte(aml, value >> 8 * i);
}

/* Leave room for the package length, which aml_close() fills in. */
static size_t open_package(struct aml *aml)
{
	size_t mark = aml->size;

	little_endian(aml, 0, LENGTH_BYTES);
	return mark;
}

/* The length counts its own bytes: bits 7:6 say how many follow, 3:0 the low nibble. */
void aml_close(struct aml *aml, size_t mark)
{
	size_t length = aml->size - mark;

	if (aml->overflow)
		return;
	aml->bytes[mark] = (LENGTH_BYTES - 1) << 6 | (length & 0xf);
	aml->bytes[mark + 1] = length >> 4;
	aml->bytes[mark + 2] = length >> 12;
}

static void name_string(struct aml *aml, const char *name)
{
	aml_bytes(aml, name, strlen(name));
}

size_t aml_open_scope(struct aml *aml, const char *name)
{
	size_t mark;

	byte(aml, 0x10);
	mark = open_package(aml);
	name_string(aml, name);
	return mark;
}

size_t aml_open_device(struct aml *aml, const char *name)
{
	size_t mark;

	aml_bytes(aml, "\x5b\x82", 2);
	mark = open_package(aml);
	name_string(aml, name);
	return mark;
}

size_t aml_open_method(struct aml *aml, const char *name, unsigned arguments)
{
	size_t mark;

	byte(aml, 0x14);
	mark = open_package(aml);
	name_string(aml, name);
	byte(aml, arguments);
	return mark;
}

size_t aml_open_package(struct aml *aml, uint8_t elements)
{
	size_t mark;

	byte(aml, 0x12);
	mark = open_package(aml);
	byte(aml, elements);
	return mark;
}

void aml_name(struct aml *aml, const char *name)
{
	byte(aml, 0x08);
	name_string(aml, name);
}

void aml_integer(struct aml *aml, uint64_t value)
{
	if (value <= 1) {
		byte(aml, value); /* ZeroOp, OneOp */
	} else if (value <= UINT8_MAX) {
		byte(aml, 0x0a);
		little_endian(aml, value, 1);
	} else if (value <= UINT16_MAX) {
		byte(aml, 0x0b);
		little_endian(aml, value, 2);
	} else if (value <= UINT32_MAX) {
		byte(aml, 0x0c);
		little_endian(aml, value, 4);
	} else {
		byte(aml, 0x0e);
		little_endian(aml, value, 8);
	}
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
	aml_name(aml, name);
	aml_integer(aml, value);
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* Three letters of five bits and four digits of four, big-endian (ACPI 6.4, 19.6.36). */
void aml_name_eisaid(struct aml *aml, const char *name, const char *id)
{
	uint32_t value = (id[0] - '@') << 26 | (id[1] - '@') << 21 | (id[2] - '@') << 16;

	for (unsigned i = 0; i < 4; i++)
		value |= hex_digit(id[3 + i]) << (12 - 4 * i);
	aml_name_integer(aml, name, __builtin_bswap32(value));
}

void aml_name_string(struct aml *aml, const char *name, const char *value)
{
	aml_name(aml, name);
	byte(aml, 0x0d);
	aml_bytes(aml, value, strlen(value) + 1);
}

void aml_notify(struct aml *aml, const char *object, uint8_t value)
{
	byte(aml, 0x86);
	name_string(aml, object);
	aml_integer(aml, value);
}

void aml_return_argument(struct aml *aml, unsigned argument)
{
	byte(aml, 0xa4);
	byte(aml, 0x68 + argument);
}

void aml_port(struct aml *aml, const char *region, const char *name, uint16_t port)
{
	size_t mark;

	aml_bytes(aml, "\x5b\x80", 2);
	name_string(aml, region);
	byte(aml, 1); /* SystemIO */
	aml_integer(aml, port);
	aml_integer(aml, 4);
	aml_bytes(aml, "\x5b\x81", 2);
	mark = open_package(aml);
	name_string(aml, region);
	byte(aml, 3); /* accessed as double words, no lock, other bits are preserved */
	name_string(aml, name);
	byte(aml, 32); /* bits */
	aml_close(aml, mark);
}

void aml_load(struct aml *aml, const char *name)
{
	byte(aml, 0x70);
	name_string(aml, name);
	byte(aml, LOCAL0);
}

void aml_store(struct aml *aml, const char *name, uint32_t value)
{
	byte(aml, 0x70);
	aml_integer(aml, value);
	name_string(aml, name);
}

size_t aml_open_if(struct aml *aml, uint32_t mask)
{
	size_t mark;

	byte(aml, 0xa0);
	mark = open_package(aml);
	aml_bytes(aml, (const uint8_t[]){ 0x7b, LOCAL0 }, 2);
	aml_integer(aml, mask);
	byte(aml, 0); /* the result goes nowhere */
	return mark;
}

static void index_of(struct aml *aml, unsigned argument, uint8_t i)
{
	aml_bytes(aml, (const uint8_t[]){ 0x88, 0x68 + argument }, 2);
	aml_integer(aml, i);
	byte(aml, 0);
}

void aml_load_byte(struct aml *aml, unsigned argument, uint8_t i)
{
	aml_bytes(aml, "\x70\x83", 2); /* Store(DerefOf( */
	index_of(aml, argument, i);
	byte(aml, LOCAL0);
}

static void change_byte(struct aml *aml, uint8_t op, unsigned argument, uint8_t i, uint8_t mask)
{
	aml_bytes(aml, (const uint8_t[]){ op, 0x83 }, 2);
	index_of(aml, argument, i);
	aml_integer(aml, mask);
	index_of(aml, argument, i);
}

void aml_and_byte(struct aml *aml, unsigned argument, uint8_t i, uint8_t mask)
{
	change_byte(aml, 0x7b, argument, i, mask);
}

void aml_or_byte(struct aml *aml, unsigned argument, uint8_t i, uint8_t mask)
{
	change_byte(aml, 0x7d, argument, i, mask);
}

/* A buffer whose size term, always a word here, is filled in by the close. */
struct aml_template aml_open_template(struct aml *aml, const char *name)
{
	struct aml_template template;

	aml_name(aml, name);
	byte(aml, 0x11);
	template.mark = open_package(aml);
	byte(aml, 0x0b);
	little_endian(aml, 0, 2);
	template.start = aml->size;
	return template;
}

void aml_close_template(struct aml *aml, struct aml_template template)
{
	size_t size;

	aml_bytes(aml, "\x79\x00", 2); /* end tag; checksum 0: not used */
	size = aml->size - template.start;
	if (aml->overflow)
		return;
	aml->bytes[template.start - 2] = size;
	aml->bytes[template.start - 1] = size >> 8;
	aml_close(aml, template.mark);
}

void aml_io(struct aml *aml, uint16_t port, uint8_t length)
{
	aml_bytes(aml, "\x47\x01", 2); /* all 16 address bits are decoded */
	little_endian(aml, port, 2);
	little_endian(aml, port, 2);
	byte(aml, 1);
	byte(aml, length);
}

void aml_interrupt(struct aml *aml, uint32_t gsi)
{
	/* Length, then: consumer, edge, active high, exclusive; one interrupt. */
	aml_bytes(aml, "\x89\x06\x00\x03\x01", 5);
	little_endian(aml, gsi, 4);
}

void aml_fixed_memory(struct aml *aml, uint32_t base, uint32_t size)
{
	aml_bytes(aml, "\x86\x09\x00\x01", 4); /* read and write */
	little_endian(aml, base, 4);
	little_endian(aml, size, 4);
}

void aml_window(struct aml *aml, enum aml_range type, unsigned bits, uint64_t base, uint64_t size)
{
	static const uint8_t specific[] = { [AML_MEMORY] = 1, [AML_IO] = 3, [AML_BUS] = 0 };
	unsigned width = bits / 8;

	byte(aml, bits == 16 ? 0x88 : bits == 32 ? 0x87 : 0x8a);
	little_endian(aml, 3 + 5 * width, 2);
	byte(aml, type);
	byte(aml, 0x0c); /* producer, positive decode, fixed minimum and maximum */
	byte(aml, specific[type]);
	little_endian(aml, 0, width); /* granularity */
	little_endian(aml, base, width);
	little_endian(aml, base + size - 1, width);
	little_endian(aml, 0, width); /* translation */
	little_endian(aml, size, width);
}
