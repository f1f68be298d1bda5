/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/doctor/finding.h"

/*
 * What keeps devices of this host from being passed to virtual machines, by the failures that users
 * meet most. It changes nothing. A device's problem is what is so now: the kernel's log also has what
 * was mended since, and makes a warning at most where the host's state does not bear it out.
 */

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
