/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "base/error.h"
#include "machine/platform/smbios.h"

/*
 * The value of --smbios: "type=N,FIELD=VALUE[,FIELD=VALUE]...", where a comma in a value is written twice. Adds to
 * what is there. 0 or -EINVAL.
 */
int cmd_smbios_parse(const char *text, struct smbios_config *config, struct error *err);
