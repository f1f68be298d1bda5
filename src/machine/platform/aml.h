/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * ACPI Machine Language, as much as Penstock's DSDT needs (ACPI 6.4, chapter 20). Terms are appended
 * to a buffer; what has a length is opened and closed. A buffer that runs full drops the rest and
 * says so in overflow.
 */

struct aml {
	uint8_t *bytes;
	size_t size;
	size_t room;
	bool overflow;
};

void aml_bytes(struct aml *aml, const void *bytes, size_t size);

/* Package-like terms return a mark for aml_close(). Names are "\\_SB_" or four characters. */
size_t aml_open_scope(struct aml *aml, const char *name);
size_t aml_open_device(struct aml *aml, const char *name);
size_t aml_open_method(struct aml *aml, const char *name, unsigned arguments);
size_t aml_open_package(struct aml *aml, uint8_t elements);
void aml_close(struct aml *aml, size_t mark);

/* Name(name, what follows). */
void aml_name(struct aml *aml, const char *name);
void aml_integer(struct aml *aml, uint64_t value);
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);
/* Name(_HID or _CID, EisaId("PNP0A08")). */
void aml_name_eisaid(struct aml *aml, const char *name, const char *id);
void aml_name_string(struct aml *aml, const char *name, const char *value);
/* Notify(object, value). */
void aml_notify(struct aml *aml, const char *object, uint8_t value);
void aml_return_argument(struct aml *aml, unsigned argument);

/* A double word at an I/O port, as the field called name. */
void aml_port(struct aml *aml, const char *region, const char *name, uint16_t port);
/* Local0 = name; name = value. */
void aml_load(struct aml *aml, const char *name);
void aml_store(struct aml *aml, const char *name, uint32_t value);
/* If (Local0 & mask): open, add terms, close. */
size_t aml_open_if(struct aml *aml, uint32_t mask);
/* Byte i of an argument that is a buffer: Local0 = it; it &= mask; it |= mask. */
void aml_load_byte(struct aml *aml, unsigned argument, uint8_t i);
void aml_and_byte(struct aml *aml, unsigned argument, uint8_t i, uint8_t mask);
void aml_or_byte(struct aml *aml, unsigned argument, uint8_t i, uint8_t mask);

/* Name(_CRS, ResourceTemplate() {...}): open, add descriptors (ACPI 6.4, 6.4), close. */
struct aml_template {
	size_t mark;
	size_t start;
};
struct aml_template aml_open_template(struct aml *aml, const char *name);
void aml_close_template(struct aml *aml, struct aml_template template);
void aml_io(struct aml *aml, uint16_t port, uint8_t length);
/* Any GSI, edge-triggered. */
void aml_interrupt(struct aml *aml, uint32_t gsi);
void aml_fixed_memory(struct aml *aml, uint32_t base, uint32_t size);

enum aml_range { AML_MEMORY = 0, AML_IO = 1, AML_BUS = 2 };
/* Address space descriptor of a bridge's window: 16, 32 or 64 bits wide. */
void aml_window(struct aml *aml, enum aml_range type, unsigned bits, uint64_t base, uint64_t size);
