/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

#include <stdint.h>

/*
 * What vendors, devices and classes are called: pci.ids, as Debian and others install it. libpci knows
 * it too, but brings four more libraries into every process of ours and ends it on an error.
 */

#define NAMES_TEXT 128

struct host_names {
	char *text; /* the whole file */
	size_t size;
};

/* Empty where the host has no such file, or none of a sane size. */
void host_names_open(struct host_names *names, const struct host *host);
void host_names_close(struct host_names *names);

/* "Vendor Name"; "" where it is not known. */
void host_names_vendor(
	const struct host_names *names, uint16_t vendor, char name[static NAMES_TEXT]);
void host_names_device(const struct host_names *names, uint16_t vendor, uint16_t device,
	char name[static NAMES_TEXT]);

/* Of the subclass, or of the class where the subclass has none. */
void host_names_class(
	const struct host_names *names, uint32_t class_code, char name[static NAMES_TEXT]);
