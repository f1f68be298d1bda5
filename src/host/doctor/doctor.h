/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/inventory/inventory.h"
#include "host/system/kernel_log.h"

/*
 * What keeps devices of this host from being passed to virtual machines, by the failures that users
 * meet most. It changes nothing. A device's problem is what is so now: the kernel's log also has what
 * was mended since, and makes a warning at most where the host's state does not bear it out.
 */

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

/* The ids of all checks, in order; NULL behind the last. */
const char *doctor_check_id(size_t i);

/*
 * All checks. With devices, those that are about devices are about these; without, about all that
 * somebody could want to pass, and what would matter only to one who passes them is a warning. Free it
 * by doctor_free(), also after a failure.
 */
int doctor_run(struct doctor *doctor, const struct host *host, const struct bdf *devices,
	size_t count, struct error *err);
void doctor_free(struct doctor *doctor);

/* No problem of the host or of this device is found. */
bool doctor_can_pass(const struct doctor *doctor, const struct bdf *device);

/* Between the files of the checks. */
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

void doctor_check_iommu(struct doctor *doctor);
void doctor_check_kvm(struct doctor *doctor);
void doctor_check_interrupts(struct doctor *doctor);
void doctor_check_memory_lock(struct doctor *doctor);
void doctor_check_initramfs(struct doctor *doctor);
void doctor_read_facts(struct doctor *doctor);

void doctor_check_groups(struct doctor *doctor);
void doctor_check_group(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_reserved(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_identity(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_framebuffer(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_display(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_use(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_reset(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_power(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_rom(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_addresses(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_nodes(struct doctor *doctor, const struct inventory_device *device);
void doctor_check_sriov(struct doctor *doctor, const struct inventory_device *device);
