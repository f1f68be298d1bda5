/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/device/multipath.h"

#include "base/text.h"

#include <stdio.h>

bool host_multipath_head(const char *name, char head[static HOST_NAME])
{
	unsigned subsystem, controller, number;
	int used = 0;

	if (sscanf(name, "nvme%uc%un%u%n", &subsystem, &controller, &number, &used) != 3 ||
		name[used])
		return false;
	text_format(head, HOST_NAME, "nvme%un%u", subsystem, number);
	return true;
}
