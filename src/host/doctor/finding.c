/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/doctor/finding.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct finding *doctor_add(struct doctor *doctor, enum finding_status status,
	const struct inventory_device *device, const char *format, ...)
{
	static struct finding lost;
	struct finding *more =
		reallocarray(doctor->findings, doctor->count + 1, sizeof(*doctor->findings));
	struct finding *finding = more ? &more[doctor->count] : &lost;
	va_list args;

	doctor->out_of_memory |= !more;
	if (more) {
		doctor->findings = more;
		doctor->count++;
	}
	*finding = (struct finding){ .status = status, .has_device = device };
	if (device)
		finding->device = device->device.bdf;
	va_start(args, format);
	vsnprintf(finding->what, sizeof(finding->what), format, args);
	va_end(args);
	return finding;
}

void doctor_evidence(struct finding *finding, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(finding->evidence, sizeof(finding->evidence), format, args);
	va_end(args);
}

void doctor_fix(struct finding *finding, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(finding->fix, sizeof(finding->fix), format, args);
	va_end(args);
}

enum finding_status doctor_if_asked(const struct doctor *doctor)
{
	return doctor->device_count ? FINDING_PROBLEM : FINDING_WARNING;
}

const struct inventory_device *doctor_find(const struct doctor *doctor, const struct bdf *bdf)
{
	for (size_t i = 0; i < doctor->inventory.count; i++)
		if (bdf_equal(&doctor->inventory.devices[i].device.bdf, bdf))
			return &doctor->inventory.devices[i];
	return NULL;
}

const char *doctor_name_of(const struct inventory_device *device, char text[static BDF_TEXT])
{
	return bdf_format(&device->device.bdf, text);
}

bool doctor_is_asked(const struct doctor *doctor, const struct inventory_device *device)
{
	for (size_t i = 0; i < doctor->device_count; i++)
		if (bdf_equal(&doctor->devices[i], &device->device.bdf))
			return true;
	return false;
}
