/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "host/system/host.h"

/*
 * With NVMe multipath the disk that is used, nvme0n1, is a virtual device, and below the PCI device
 * is one path to it, nvme0c1n1. True with the disk's name, its head, where name is such a path.
 */
bool host_multipath_head(const char *name, char head[static HOST_NAME]);
