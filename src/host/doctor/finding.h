/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/inventory/inventory.h"
#include "host/system/kernel_log.h"

/* What a check finds, and what it knows. */

enum finding_status {
	FINDING_OK,
	FINDING_UNKNOWN, /* what would tell may not be read */
	FINDING_WARNING, /* it works, but not without a thought */
	FINDING_PROBLEM, /* it stands in the way */
};

#define FINDING_TEXT 512

struct finding {
	const char *check; /* the check's id */
	enum finding_status status;
	bool has_device; /* it is about this device; else about the host */
	struct bdf device;
	char what[FINDING_TEXT];     /* the result, in words */
	char evidence[FINDING_TEXT]; /* "path: value" */
	char fix[FINDING_TEXT];      /* what mends it on this host; "": nothing need be done */
};

/* Facts that no one need mend. */
struct doctor_fact {
	const char *id;
	const char *what;
	int value; /* 1, 0, or -1 where the host does not tell */
	char evidence[FINDING_TEXT];
};

#define DOCTOR_FACTS 3

struct doctor {
	const struct host *host;
	struct inventory inventory;
	struct kernel_log log;
	const struct bdf *devices; /* that are asked about; none: the host as a whole */
	size_t device_count;
	struct finding *findings;
	size_t count;
	struct doctor_fact facts[DOCTOR_FACTS];
	bool out_of_memory;
};

/*
 * A finding about the host, or about a device; never NULL. Evidence and what mends it are for the caller
 * to add.
 */
struct finding *doctor_add(struct doctor *doctor, enum finding_status status,
	const struct inventory_device *device, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

void doctor_evidence(struct finding *finding, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void doctor_fix(struct finding *finding, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A problem for one who asked about this device, a warning for one who asked about the host. */
enum finding_status doctor_if_asked(const struct doctor *doctor);
/* NULL: the host has no such device. */
const struct inventory_device *doctor_find(const struct doctor *doctor, const struct bdf *bdf);

/* Was this device asked about? */
bool doctor_is_asked(const struct doctor *doctor, const struct inventory_device *device);

/* Its address. Returns text. */
const char *doctor_name_of(const struct inventory_device *device, char text[static BDF_TEXT]);
